# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The uncompressed kernel (vmlinux, ELF) within a compressed one (bzImage), for VMMs that boot nothing else.

Where the compressed kernel lies is said by the setup header (the kernel's Documentation/arch/x86/boot.rst).
"""

from __future__ import annotations

import bz2
import lzma
import os
import shutil
import subprocess
import tempfile
import zlib
from typing import Any

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError, HostError

ELF = b"\x7fELF"
#: First bytes of what a kernel can be compressed with.
GZIP, XZ, LZMA, BZIP2 = b"\x1f\x8b\x08", b"\xfd7zXZ\x00", b"\x5d\x00\x00\x00", b"BZh"
LZ4, ZSTD = b"\x02\x21\x4c\x18", b"\x28\xb5\x2f\xfd"


def extract_vmlinux(path: str) -> bytes:
    """The ELF kernel in a file: the file itself, or what is compressed in it.

    :raises AssetError: it is no kernel, or truncated
    :raises HostError: the host lacks the program that can decompress it
    """
    try:
        with open(path, "rb") as stream:
            image = stream.read()
    except OSError as problem:
        raise AssetError("the kernel cannot be read", option="src", wanted=path, answer=str(problem)) from problem
    if image.startswith(ELF):
        return image
    if len(image) < 0x264 or image[0x202:0x206] != b"HdrS":
        raise AssetError("this is no Linux kernel for x86", option="src", wanted=path)
    setup_sectors = image[0x1F1] or 4
    start = (setup_sectors + 1) * 512 + int.from_bytes(image[0x248:0x24C], "little")
    length = int.from_bytes(image[0x24C:0x250], "little")
    payload = image[start : start + length]
    if len(payload) < length or length < 8:
        raise AssetError("this kernel is truncated", option="src", wanted=path)
    kernel = _decompress(payload, path)
    if not kernel.startswith(ELF):
        raise AssetError("there is no ELF kernel in it", option="src", wanted=path)
    return kernel


def _decompress(payload: bytes, path: str) -> bytes:
    # Four bytes with the size, little-endian, follow what was compressed; a decompressor that minds what follows gets none of them.
    try:
        if payload.startswith(GZIP):
            return zlib.decompressobj(wbits=31).decompress(payload)
        if payload.startswith(XZ):
            return lzma.LZMADecompressor(format=lzma.FORMAT_XZ).decompress(payload)
        if payload.startswith(LZMA):
            return lzma.LZMADecompressor(format=lzma.FORMAT_ALONE).decompress(payload)
        if payload.startswith(BZIP2):
            return bz2.BZ2Decompressor().decompress(payload)
        if payload.startswith(LZ4):
            return _through("lz4", payload[:-4], path) if shutil.which("lz4") else _unlz4(payload[:-4])
        if payload.startswith(ZSTD):
            return _through("zstd", payload[:-4], path)
    except (zlib.error, lzma.LZMAError, OSError, IndexError) as problem:
        raise AssetError("this kernel is damaged", option="src", wanted=path, answer=str(problem)) from problem
    if payload.startswith(ELF):
        return payload
    raise AssetError("this kernel is compressed in an unknown way", option="src", wanted=path, answer=payload[:8].hex())


def _unlz4(payload: bytes) -> bytes:
    """What is in an LZ4 file of the old form that kernels use: blocks after their sizes. Takes seconds for a kernel."""
    kernel = []
    place = len(LZ4)
    while place + 4 <= len(payload):
        size = int.from_bytes(payload[place : place + 4], "little")
        kernel.append(_unlz4_block(payload[place + 4 : place + 4 + size]))
        place += 4 + size
    return b"".join(kernel)


def _unlz4_block(block: bytes) -> bytes:
    """One block (lz4_Block_format.md of the LZ4 project): literals, and copies of what came before."""
    out = bytearray()
    place, end = 0, len(block)
    while place < end:
        token = block[place]
        place += 1
        length = token >> 4
        if length == 15:
            while True:
                more = block[place]
                place += 1
                length += more
                if more != 255:
                    break
        out += block[place : place + length]
        place += length
        if place >= end:
            break  # The last sequence has literals only.
        offset = block[place] | block[place + 1] << 8
        place += 2
        length = token & 15
        if length == 15:
            while True:
                more = block[place]
                place += 1
                length += more
                if more != 255:
                    break
        length += 4
        start = len(out) - offset
        if offset >= length:
            out += out[start : start + length]
        else:
            out += (out[start:] * (length // offset + 1))[:length]
    return bytes(out)


def _through(program: str, payload: bytes, path: str) -> bytes:
    found = shutil.which(program)
    if found is None:
        raise HostError(f"this kernel is compressed with {program}, and the host has no such program", wanted=path, fix=f"Install the package {program}.")
    done = subprocess.run([found, "-dc"], input=payload, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if done.returncode and not done.stdout:
        raise AssetError("this kernel is damaged", option="src", wanted=path, answer=done.stderr.decode("utf-8", "replace").strip())
    return done.stdout


def install_vmlinux(src: str, dest: str, check_mode: bool) -> dict[str, Any]:
    """Have the uncompressed kernel of a file in another; the module's result.

    :raises AssetError: as L(extract_vmlinux)
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
            handle, draft = tempfile.mkstemp(dir=os.path.dirname(dest), prefix=".vmlinux-")
            try:
                with os.fdopen(handle, "wb") as stream:
                    stream.write(kernel)
                    stream.flush()
                    os.fsync(stream.fileno())
                os.chmod(draft, 0o644)
                os.replace(draft, dest)
            except BaseException:
                os.unlink(draft)
                raise
        except OSError as problem:
            raise HostError("the kernel cannot be written", option="dest", wanted=dest, answer=str(problem)) from problem
    return {"changed": not same, "path": dest, "size": len(kernel)}
