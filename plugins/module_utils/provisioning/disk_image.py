# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What guests boot from, told by its first bytes; and disk images, converted and made larger with C(qemu-img), which is told the format and never looks for it.

A format that is guessed from an image's content lets whoever wrote the content choose it, and with it files of the host that qemu-img opens
(qemu-img(1), the option -f; backing files and extents).
"""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError, ConfigError, HostError
from ansible_collections.kata.hypervisor.plugins.module_utils.programs import run

#: What images come in, and what VMs take.
SOURCE_FORMATS = ("qcow2", "raw", "vdi", "vhdx", "vmdk", "vpc")
FORMATS = ("qcow2", "raw")
CONVERT_SECONDS = 3600
MIB = 1 << 20

#: Where file systems and partition tables say what they are: offset and first bytes.
_MAGICS = (
    (510, b"\x55\xaa"),
    (512, b"EFI PART"),
    (1080, b"\x53\xef"),
    (0, b"XFSB"),
    (65600, b"_BHRfS_M"),
    (0, b"hsqs"),
    (1024, b"\xe2\xe1\xf5\xe0"),
)
_INITRD_MAGICS = (b"070701", b"\x1f\x8b", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"\x02\x21\x4c\x18", b"BZh", b"\x5d\x00\x00", b"\x89LZO")


def check_raw_image(path: str) -> None:
    """Refuse a raw image in which no kernel would find a file system.

    :raises AssetError: it has neither a partition table nor a known file system, or cannot be read
    """
    try:
        with open(path, "rb") as stream:
            head = stream.read(65600 + 8)
    except OSError as problem:
        raise AssetError("the image cannot be read", wanted=path, answer=str(problem)) from problem
    if not any(head[offset : offset + len(magic)] == magic for offset, magic in _MAGICS):
        raise AssetError(
            "this is no image: it has neither a partition table nor a file system that is known",
            wanted=path,
            answer=f"it begins with {head[:32]!r}",
            fix="Nothing was changed. Get the right file, or name its format.",
        )


def check_initrd(path: str) -> None:
    """Refuse what no kernel takes as an initrd.

    :raises AssetError: it is no cpio archive, compressed or not
    """
    try:
        with open(path, "rb") as stream:
            head = stream.read(32)
    except OSError as problem:
        raise AssetError("the initrd cannot be read", wanted=path, answer=str(problem)) from problem
    if not head.startswith(_INITRD_MAGICS):
        raise AssetError("this is no initrd: it is no cpio archive, compressed or not", wanted=path, answer=f"it begins with {head!r}")


def check_kernel(path: str) -> None:
    """Refuse what no VMM boots: x86's bzImage (boot.rst), ELF, arm64's Image (booting.rst), or one of them with gzip or as an EFI program.

    :raises AssetError: it is none of them
    """
    try:
        with open(path, "rb") as stream:
            head = stream.read(0x206)
    except OSError as problem:
        raise AssetError("the kernel cannot be read", wanted=path, answer=str(problem)) from problem
    if head[0x202:0x206] == b"HdrS" or head[56:60] == b"ARM\x64" or head.startswith((b"\x7fELF", b"\x1f\x8b", b"MZ")):
        return
    raise AssetError("this is no kernel", wanted=path, answer=f"it begins with {head[:32]!r}", fix="Nothing was changed. Get the right file.")


def convert(source: str, source_format: str, wanted_format: str, size_mb: int, work: str) -> str:
    """Make an image of a format and a size out of another; its path below a directory.

    :param size_mb: its size in MiB; 0 for that of the source
    :raises AssetError: the source is no such image, or leads to other files of the host
    :raises ConfigError: it would have to shrink
    :raises HostError: the host has no qemu-img
    """
    if shutil.which("qemu-img") is None:
        raise HostError("this host has no qemu-img", fix="Install the package qemu-utils (Debian, Ubuntu) or qemu-img (Fedora, RHEL).")
    facts = _facts(source, source_format)
    size, wanted = int(facts["virtual-size"]), size_mb * MIB
    if wanted and wanted < size:
        raise ConfigError(
            "an image is never made smaller, which would cut off what is in it", option="size_mb", wanted=size_mb, fix=f"It has {-(-size // MIB)} MiB."
        )
    target = os.path.join(work, "image")
    _qemu_img(["convert", "-f", source_format, "-O", wanted_format, source, target], source)
    if wanted > size:
        _qemu_img(["resize", "-q", "-f", wanted_format, target, str(wanted)], source)
    if wanted_format == "raw":
        check_raw_image(target)
    return target


def _facts(source: str, source_format: str) -> dict[str, Any]:
    """What qemu-img tells of the source, with nothing in it that leads elsewhere."""
    facts: dict[str, Any] = json.loads(_qemu_img(["info", "-f", source_format, "--output=json", source], source))
    special = (facts.get("format-specific") or {}).get("data") or {}
    extents = [extent.get("filename", "") for extent in special.get("extents", [])]
    elsewhere = [facts.get("backing-filename"), special.get("data-file"), *(name for name in extents if os.path.realpath(name) != os.path.realpath(source))]
    if any(elsewhere):
        raise AssetError("this image needs other files, and takes whatever is there", wanted=source, answer=f"it names {next(filter(None, elsewhere))}")
    return facts


def _qemu_img(arguments: list[str], source: str) -> str:
    ended = run(["qemu-img", *arguments], CONVERT_SECONDS)
    if ended.code:
        raise AssetError("this is no image of that format", option="src_format", wanted=source, answer=ended.words, fix="Nothing was changed.")
    return ended.text
