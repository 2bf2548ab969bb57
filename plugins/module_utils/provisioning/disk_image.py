# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the files that guests boot from by their first bytes, and convert and enlarge disk images with `qemu-img`.

The format of an image is always passed to `qemu-img`. If `qemu-img` guessed it from the content, the author of the image could choose a format that
names files of the host, which `qemu-img` then opens (qemu-img(1), the option -f; backing files and extents).
"""

from __future__ import annotations

import os
from typing import Any

from ..errors import AssetError, ConfigError, HostError
from ..host.digests import file_digest
from ..host.programs import QEMU_IMG_PACKAGES, installed_program, run
from ..host.qcow2 import MAGIC, NotQcow2, check_open_image
from ..host.units import MIB
from ..untrusted.answers import AnswerError, ListOf, Maybe, Number, Record, Text, checked, parsed
from ..untrusted.files import check_parents
from .image_headers import other_file
from .sources import copy_file

#: The formats of source images, and the formats that VMs can use.
SOURCE_FORMATS = ("qcow2", "raw", "vdi", "vhdx", "vmdk", "vpc")
FORMATS = ("qcow2", "raw")
CONVERT_SECONDS = 3600

#: The shape of the used part of the output of `qemu-img info`.
_DETAILS = Record(optional={"data-file": Text(), "extents": ListOf(Record(optional={"filename": Text()}))})
INFO = Record(
    required={"virtual-size": Number(most=2**63)},
    optional={"backing-filename": Text(), "format-specific": Maybe(Record(optional={"data": Maybe(_DETAILS)}))},
)
_MOST_ANSWER = 16 << 20

#: The signatures of file systems and partition tables: offset and bytes.
_MAGICS = (
    (510, b"\x55\xaa"),
    (512, b"EFI PART"),
    (1080, b"\x53\xef"),
    (0, b"XFSB"),
    (65600, b"_BHRfS_M"),
    (0, b"hsqs"),
    (1024, b"\xe2\xe1\xf5\xe0"),
)
_INITRD_MAGICS = (
    b"070701",
    b"\x1f\x8b",
    b"\xfd7zXZ",
    b"\x28\xb5\x2f\xfd",
    b"\x02\x21\x4c\x18",
    b"BZh",
    b"\x5d\x00\x00",
    b"\x89LZO",
)


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
            "must be an image with a partition table or a known file system",
            wanted=path,
            answer=f"it begins with {head[:32]!r}",
            fix="Nothing was changed. Use the right file, or set its format.",
        )


def check_disk(path: str) -> None:
    """Refuse a file that is no disk of a VM: neither a raw image, nor a qcow2 image that needs no other file.

    :raises AssetError: it is something else, names other files, or cannot be read
    """
    try:
        with open(path, "rb") as stream:
            is_qcow2 = stream.read(len(MAGIC)) == MAGIC
            if is_qcow2:
                check_open_image(stream.fileno(), path, "qcow2", "")
    except OSError as problem:
        raise AssetError("the image cannot be read", wanted=path, answer=str(problem)) from problem
    if not is_qcow2:
        check_raw_image(path)


def check_initrd(path: str) -> None:
    """Refuse a file that no kernel accepts as an initrd.

    :raises AssetError: it is not a cpio archive, compressed or not
    """
    try:
        with open(path, "rb") as stream:
            head = stream.read(32)
    except OSError as problem:
        raise AssetError("the initrd cannot be read", wanted=path, answer=str(problem)) from problem
    if not head.startswith(_INITRD_MAGICS):
        raise AssetError(
            "must be an initrd: a cpio archive, compressed or not",
            wanted=path,
            answer=f"it begins with {head!r}",
        )


def check_kernel(path: str) -> None:
    """Refuse a file that no VMM boots. Accepted are x86's bzImage (boot.rst), ELF, arm64's Image (booting.rst), or one of them with gzip or as an EFI program.

    :raises AssetError: it is none of them
    """
    try:
        with open(path, "rb") as stream:
            head = stream.read(0x206)
    except OSError as problem:
        raise AssetError("the kernel cannot be read", wanted=path, answer=str(problem)) from problem
    if head[0x202:0x206] == b"HdrS" or head[56:60] == b"ARM\x64" or head.startswith((b"\x7fELF", b"\x1f\x8b", b"MZ")):
        return
    raise AssetError(
        "must be a kernel",
        wanted=path,
        answer=f"it begins with {head[:32]!r}",
        fix="Nothing was changed. Use the right file.",
    )


def convert(source: str, source_format: str, wanted_format: str, size_mb: int, work: str) -> str:
    """Convert an image to a format and a size. Returns the path of the new image in the directory `work`.

    :param size_mb: its size in MiB; 0 for the size of the source
    :raises AssetError: the source is not an image of its format, or names other files of the host
    :raises ConfigError: the size is smaller than that of the source
    :raises HostError: the host does not have qemu-img
    """
    installed_program("qemu-img", QEMU_IMG_PACKAGES)
    refuse_other_files(source, source_format)
    size, wanted = _size(source, source_format), size_mb * MIB
    if wanted and wanted < size:
        raise ConfigError(
            "must not be smaller than the image",
            option="size_mb",
            wanted=size_mb,
            fix=f"It has {-(-size // MIB)} MiB.",
        )
    target = os.path.join(work, "image")
    _qemu_img(["convert", "-f", source_format, "-O", wanted_format, source, target], source, source_format)
    if wanted > size:
        _qemu_img(["resize", "-q", "-f", wanted_format, target, str(wanted)], source, source_format)
    if wanted_format == "raw":
        check_raw_image(target)
    return target


def private_source(source: str, digest: str, work: str) -> str:
    """The path of an image that no other user can exchange while it is read: the source if only root or we can exchange it, else a copy.

    :param digest: its sha256 when it was read first
    :raises AssetError: it has changed since
    """
    source = os.path.abspath(source)
    try:
        check_parents(source, "src", shared_groups=True)
    except HostError:
        copied = os.path.join(work, "source")
        copy_file(source, copied)
        source = copied
    if file_digest(source) != digest:
        raise AssetError(
            "the file must not be changed while it is read",
            option="src",
            wanted=source,
            fix="Nothing was changed. Run the task again.",
        )
    return source


def refuse_other_files(source: str, source_format: str) -> None:
    """Refuse an image whose header names other files, before any program opens these.

    :raises AssetError: it names other files
    """
    try:
        other = other_file(source, source_format)
    except NotQcow2 as problem:
        raise _no_such_image(source_format, f"it must be in qcow2 format: {problem}") from problem
    except OSError as problem:
        raise AssetError("the image cannot be read", option="src", wanted=source, answer=str(problem)) from problem
    if other:
        raise _needs_others(source, f"it names {other}")


def _size(source: str, source_format: str) -> int:
    """The size of the disk in an image, bytes, from `qemu-img info`.

    :raises AssetError: the image names other files, or is not of its format
    """
    answer = _qemu_img(["info", "-f", source_format, "--output=json", source], source, source_format)
    try:
        facts: dict[str, Any] = checked(
            INFO, parsed(answer, "the answer of qemu-img info", _MOST_ANSWER), "the answer of qemu-img info"
        )
    except AnswerError as problem:
        raise AssetError("the image cannot be used", option="src", wanted=source, answer=str(problem)) from problem
    special = (facts.get("format-specific") or {}).get("data") or {}
    extents = [extent.get("filename", "") for extent in special.get("extents", [])]
    elsewhere = [
        facts.get("backing-filename"),
        special.get("data-file"),
        *(name for name in extents if os.path.realpath(name) != os.path.realpath(source)),
    ]
    if any(elsewhere):
        raise _needs_others(source, f"it names {next(filter(None, elsewhere))}")
    return int(facts["virtual-size"])


def _needs_others(source: str, answer: str) -> AssetError:
    return AssetError("the image must not name other files", option="src", wanted=source, answer=answer)


def _qemu_img(arguments: list[str], source: str, source_format: str) -> str:
    ended = run(["qemu-img", *arguments], CONVERT_SECONDS)
    if not ended.code:
        return ended.text
    if "lock" in ended.words and ("Failed to get" in ended.words or "another process" in ended.words):
        raise HostError(
            "no other process may have the image open for writing",
            option="src",
            wanted=source,
            answer=ended.words,
            fix="Stop the sandbox that uses it, or use a copy of the image.",
        )
    raise _no_such_image(source_format, ended.words)


def _no_such_image(source_format: str, answer: str) -> AssetError:
    return AssetError(
        "must be an image of that format",
        option="src_format",
        wanted=source_format,
        answer=answer,
        fix="Nothing was changed.",
    )
