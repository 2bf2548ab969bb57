# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is within a compressed file, told by its first bytes: gzip, xz, lzma, bzip2, lz4, zstd.

Python's standard library knows neither lz4 nor zstd; the host's programs do.
"""

from __future__ import annotations

import bz2
import lzma
import shutil
import zlib
from typing import IO, Any

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError, HostError
from ansible_collections.kata.hypervisor.plugins.module_utils.programs import Ended, run

#: First bytes.
GZIP, XZ, LZMA, BZIP2 = b"\x1f\x8b\x08", b"\xfd7zXZ\x00", b"\x5d\x00\x00", b"BZh"
LZ4, ZSTD = b"\x02\x21\x4c\x18", b"\x28\xb5\x2f\xfd"
#: Seconds that a program gets.
SECONDS = 600


def decompress(data: bytes, path: str) -> bytes:
    """What is in it; the data itself where it is not compressed.

    :param path: the file that it is from, for an error to name
    :raises AssetError: it is damaged, or only a part
    :raises HostError: the host lacks the program that can decompress it
    """
    if data.startswith(ZSTD):
        return _through("zstd", data, path)
    if data.startswith(LZ4) and shutil.which("lz4"):
        return _through("lz4", data, path)
    try:
        return _decompress(data)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, IndexError) as problem:
        raise _damaged(path, str(problem)) from problem


def decompress_file(path: str, target: IO[bytes]) -> None:
    """Write what is in a file of zstd's to another, however large it is.

    :raises AssetError: it is damaged, or only a part
    :raises HostError: the host has no zstd
    """
    _checked(run([_program("zstd", path), "-dcq", path], SECONDS, output=target), path)


def _decompress(data: bytes) -> bytes:
    if data.startswith(LZ4):
        return _unlz4(data)
    if data.startswith(GZIP):
        stream: Any = zlib.decompressobj(wbits=31)
    elif data.startswith(XZ):
        stream = lzma.LZMADecompressor(format=lzma.FORMAT_XZ)
    elif data.startswith(LZMA):
        stream = lzma.LZMADecompressor(format=lzma.FORMAT_ALONE)
    elif data.startswith(BZIP2):
        stream = bz2.BZ2Decompressor()
    else:
        return data
    content: bytes = stream.decompress(data)
    if not stream.eof:
        raise EOFError("it ends too early")
    return content


def _through(name: str, data: bytes, path: str) -> bytes:
    return _checked(run([_program(name, path), "-dc"], SECONDS, data=data), path).output


def _program(name: str, path: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise HostError(f"{path} is compressed with {name}, and the host has no such program", wanted=path, fix=f"Install the package {name}.")
    return found


def _checked(ended: Ended, path: str) -> Ended:
    if ended.code:
        raise _damaged(path, ended.words)
    return ended


def _damaged(path: str, answer: str) -> AssetError:
    return AssetError(f"what is compressed in {path} is damaged, or only a part", wanted=path, answer=answer)


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
