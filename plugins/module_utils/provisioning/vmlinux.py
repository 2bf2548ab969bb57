# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The uncompressed kernel within a compressed one, for VMMs that boot nothing else: an ELF file (vmlinux) of x86, or an Image of arm64.

Their headers have the offset of what is compressed (the kernel's Documentation/arch/x86/boot.rst, drivers/firmware/efi/libstub/zboot-header.S).
"""

from __future__ import annotations

from typing import Any

from ..errors import AssetError, HostError
from ..host.atomic_files import replace_file
from .compression import LZ4, ZSTD, decompress

ELF = b"\x7fELF"
#: At byte 56 of an Image (the kernel's Documentation/arch/arm64/booting.rst).
ARM64 = b"ARM\x64"


def extract_vmlinux(path: str) -> bytes:
    """The kernel in a file: the file itself, or what is compressed in it.

    :raises AssetError: it is no kernel, or damaged
    :raises HostError: the host lacks the program that can decompress it
    """
    try:
        with open(path, "rb") as stream:
            image = stream.read()
    except OSError as problem:
        raise AssetError("the kernel cannot be read", option="src", wanted=path, answer=str(problem)) from problem
    if image.startswith(b"MZ") and image[4:8] == b"zimg":
        start, length = (int.from_bytes(image[at : at + 4], "little") for at in (8, 12))
        image = _payload(image, start, length, path)
    image = decompress(image, path)
    if image.startswith(ELF) or image[56:60] == ARM64:
        return image
    if len(image) < 0x264 or image[0x202:0x206] != b"HdrS":
        raise AssetError("must be a Linux kernel for x86 or arm64", option="src", wanted=path)
    setup_sectors = image[0x1F1] or 4
    start = (setup_sectors + 1) * 512 + int.from_bytes(image[0x248:0x24C], "little")
    length = int.from_bytes(image[0x24C:0x250], "little")
    payload = _payload(image, start, length, path)
    # Four bytes with the size follow what was compressed in these two ways, and their programs mind what follows.
    kernel = decompress(payload[:-4] if payload.startswith((LZ4, ZSTD)) else payload, path)
    if not kernel.startswith(ELF):
        raise AssetError(
            "must contain an ELF kernel",
            option="src",
            wanted=path,
            answer=f"what is in it begins with {kernel[:8].hex()}",
        )
    return kernel


def _payload(image: bytes, start: int, length: int, path: str) -> bytes:
    payload = image[start : start + length]
    if len(payload) < length or length < 8:
        raise AssetError("the kernel must be complete", option="src", wanted=path)
    return payload


def install_vmlinux(src: str, dest: str, check_mode: bool) -> dict[str, Any]:
    """Have the uncompressed kernel of a file in another; the module's result.

    :raises AssetError: as `extract_vmlinux`
    :raises HostError: it cannot be written; what was there still is
    """
    kernel = extract_vmlinux(src)
    try:
        with open(dest, "rb") as stream:
            same = stream.read() == kernel
    except OSError:
        same = False
    if not same and not check_mode:
        try:
            replace_file(dest, kernel)
        except OSError as problem:
            raise HostError(
                "the kernel cannot be written", option="dest", wanted=dest, answer=str(problem)
            ) from problem
    return {"changed": not same, "path": dest, "size": len(kernel)}
