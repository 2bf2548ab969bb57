# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decompress files piece by piece, up to a limit. The first bytes show the format: gzip, xz, lzma, bzip2, lz4 or zstd.

Python's standard library supports neither lz4 nor zstd, so programs of the host decompress these.
"""

from __future__ import annotations

import bz2
import io
import lzma
import os
import shutil
import tempfile
import zlib
from typing import IO, Any, Callable, Iterator

from ..errors import AssetError, HostError
from ..host.atomic_files import write_problem
from ..host.programs import check_program, pieces_of
from ..host.sparse_files import Writer

#: The first bytes of each format.
GZIP, XZ, LZMA, BZIP2 = b"\x1f\x8b\x08", b"\xfd7zXZ\x00", b"\x5d\x00\x00", b"BZh"
LZ4, ZSTD = b"\x02\x21\x4c\x18", b"\x28\xb5\x2f\xfd"
MAGICS = (GZIP, XZ, LZMA, BZIP2, LZ4, ZSTD)
#: The time limit of a program, seconds.
SECONDS = 1800
#: How many bytes are read and written at once.
PIECE = 1 << 20
#: The limits of decompressed data, bytes: always allowed, then so many times the file's size, and never more than the last.
FREE_BYTES, MOST_RATIO, MOST_BYTES = 1 << 30, 250, 1 << 37
#: The largest decompressed size of a kernel or a kernel module, which is held in memory, bytes.
MOST_IN_MEMORY = 1 << 30
#: How much memory a decoder of xz may use, bytes; `xz -9` needs 65 MiB.
_DECODER_MEMORY = 512 << 20
#: The largest block of lz4's legacy format, decompressed and compressed (LZ4_compressBound of the LZ4 project).
_LZ4_BLOCK = 8 << 20
_LZ4_PACKED = _LZ4_BLOCK + _LZ4_BLOCK // 255 + 16

#: What decoders raise for invalid input.
PROBLEMS = (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, IndexError)


class Limit:
    """Counts the bytes that come out of a compressed file or an archive, and limits them.

    :param path: path of the file, for the error
    :param size: size of the file, bytes
    :param most: the limit in bytes; 0 for the default, which grows with the file's size
    """

    def __init__(self, path: str, size: int, most: int = 0) -> None:
        self.path = path
        self.most = most or min(MOST_BYTES, max(FREE_BYTES, size * MOST_RATIO))
        self.taken = 0

    def take(self, count: int) -> None:
        """Count further bytes.

        :raises AssetError: the limit is exceeded
        """
        self.taken += count
        if self.taken > self.most:
            raise AssetError(
                f"the content of {os.path.basename(self.path)} must have at most {self.most >> 20} MiB",
                option="max_size_mb",
                answer="it expands further",
                fix="Nothing was changed. If this file is right, set a larger max_size_mb.",
            )


def decompress(data: bytes, path: str, most: int = MOST_IN_MEMORY) -> bytes:
    """Decompress data. Data that is not compressed is returned unchanged.

    :param path: the file that it is from, for errors
    :param most: how many bytes may come out
    :raises AssetError: it is damaged, incomplete, or exceeds the limit
    :raises HostError: the host does not have the program that can decompress it
    """
    if not data.startswith(MAGICS):
        return data
    return b"".join(pieces(io.BytesIO(data), path, Limit(path, len(data), most)))


def decompress_file(source: IO[bytes], path: str, writer: Writer, limit: Limit) -> None:
    """Decompress a file to another.

    :param source: the file, open at its beginning
    :raises AssetError: it is not compressed, is damaged or incomplete, or exceeds the limit
    :raises HostError: the host does not have the program that can decompress it, or its disk is full
    """
    for piece in pieces(source, path, limit):
        try:
            writer.write(piece)
        except OSError as problem:
            raise write_problem(problem, "the decompressed content cannot be written", path) from problem
    writer.finish()


def is_compressed(head: bytes) -> bool:
    """Whether a file with these first bytes is compressed."""
    return head.startswith(MAGICS)


def pieces(source: IO[bytes], path: str, limit: Limit) -> Iterator[bytes]:
    """The decompressed content of a file, piece by piece.

    :raises AssetError: as `decompress_file`
    """
    head = source.read(PIECE)
    if head.startswith(ZSTD):
        found = _through("zstd", source, head, path)
    elif head.startswith(LZ4):
        found = (
            _through("lz4", source, head, path) if shutil.which("lz4") else _guarded(_unlz4(head + source.read()), path)
        )
    else:
        found = _guarded(_decoded(source, head), path)
    for piece in found:
        limit.take(len(piece))
        yield piece


def _guarded(found: Iterator[bytes], path: str) -> Iterator[bytes]:
    while True:
        try:
            piece = next(found, b"")
        except PROBLEMS as problem:
            raise _damaged(path, str(problem)) from problem
        if not piece:
            return
        yield piece


def _decoded(source: IO[bytes], data: bytes) -> Iterator[bytes]:
    """Decompress one stream, or several in a row, with Python's decoders. Data after them is ignored."""
    magic, make = _decoder_for(data)
    decoder = make()
    while True:
        piece = decoder.decompress(data, PIECE)
        if piece:
            yield piece
        if not decoder.eof:
            # Only zlib returns the unused input; the others keep it.
            data = getattr(decoder, "unconsumed_tail", b"")
            if not piece and not data:
                data = source.read(PIECE)
                if not data:
                    raise EOFError("it must be complete")
            continue
        data = _next_stream(source, decoder.unused_data, magic)
        if not data:
            return
        decoder = make()


def _next_stream(source: IO[bytes], data: bytes, magic: bytes) -> bytes:
    """The beginning of a further stream, after padding with zeros; empty if none follows."""
    data = data.lstrip(b"\0")
    while len(data) < len(magic) and (more := source.read(PIECE)):
        data = (data + more).lstrip(b"\0")
    return data if data.startswith(magic) else b""


def _decoder_for(head: bytes) -> tuple[bytes, Callable[[], Any]]:
    if head.startswith(GZIP):
        return GZIP, lambda: zlib.decompressobj(wbits=31)
    if head.startswith(XZ):
        return XZ, lambda: lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_DECODER_MEMORY)
    if head.startswith(LZMA):
        return LZMA, lambda: lzma.LZMADecompressor(format=lzma.FORMAT_ALONE, memlimit=_DECODER_MEMORY)
    if head.startswith(BZIP2):
        return BZIP2, bz2.BZ2Decompressor
    raise ValueError("it must be compressed with gzip, xz, lzma, bzip2, lz4 or zstd")


def _through(name: str, source: IO[bytes], head: bytes, path: str) -> Iterator[bytes]:
    """Decompress with a program of the host."""
    program = shutil.which(name)
    if program is None:
        raise HostError(
            f"{name} must be installed to decompress {path}",
            wanted=path,
            fix=f"Install the package {name}.",
        )
    with tempfile.TemporaryFile() as copy:
        if isinstance(source, io.BytesIO):
            copy.write(head + source.read())
            source = copy
        source.flush()
        os.lseek(source.fileno(), 0, os.SEEK_SET)
        ended = yield from pieces_of([check_program(program, name), "-dcq"], SECONDS, source)
    if ended.code:
        raise _damaged(path, ended.words)


def _damaged(path: str, answer: str) -> AssetError:
    return AssetError(f"the compressed content of {path} is damaged or incomplete", wanted=path, answer=answer)


def _unlz4(payload: bytes) -> Iterator[bytes]:
    """Decompress a file in LZ4's legacy format, which kernels use: blocks, each after its size. Takes seconds for a kernel."""
    place = len(LZ4)
    while place + 4 <= len(payload):
        if payload[place : place + 4] == LZ4:
            place += 4
            continue
        size = int.from_bytes(payload[place : place + 4], "little")
        if size > _LZ4_PACKED or place + 4 + size > len(payload):
            raise ValueError(f"the block at {place} has an invalid size of {size} bytes")
        yield _unlz4_block(payload[place + 4 : place + 4 + size])
        place += 4 + size


def _unlz4_block(block: bytes) -> bytes:
    """Decompress one block (lz4_Block_format.md of the LZ4 project): literals, and copies of earlier output."""
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
        if place + length > end:
            raise ValueError("it must be complete")
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
        if offset == 0 or start < 0 or len(out) + length > _LZ4_BLOCK:
            raise ValueError("a copy refers to data before the block")
        if offset >= length:
            out += out[start : start + length]
        else:
            out += (out[start:] * (length // offset + 1))[:length]
    return bytes(out)
