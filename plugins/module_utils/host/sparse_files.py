# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files with holes, which stay holes when they are copied (lseek(2), SEEK_HOLE).

In a memory file of Firecracker's that has only what is different, a hole is what is the same: `copy` and `lay_over` keep holes exactly.
Elsewhere a hole is zeros that take no space: `Writer` makes a hole of every block of zeros.
"""

from __future__ import annotations

import os
from typing import Iterator

#: Bytes that are copied at once.
PIECE = 1 << 20
#: The smallest hole that `Writer` makes, bytes: a block of usual file systems.
BLOCK = 4096
_ZEROS = bytes(PIECE)


class Writer:
    """Writes a file from its beginning, or on from a place, with a hole for each block of zeros. Call `finish` at the end.

    :param descriptor: of a file open for writing; it stays open
    :param place: where the first byte goes; what the file has behind it is cut off
    """

    def __init__(self, descriptor: int, place: int = 0) -> None:
        self.descriptor = descriptor
        self.place = place
        self.finish()

    def write(self, data: bytes) -> None:
        """Write the next bytes.

        :raises OSError: the disk does not take them
        """
        start = 0
        while start < len(data):
            # Up to the next end of a piece, so that the blocks lie as the file system's do.
            piece = data[start : start + PIECE - self.place % PIECE]
            if piece != _ZEROS[: len(piece)]:
                self._write_blocks(piece)
            self.place += len(piece)
            start += len(piece)

    def _write_blocks(self, piece: bytes) -> None:
        """Write each run of blocks that have data with one call."""
        run, start = -1, 0
        while start < len(piece):
            block = piece[start : start + BLOCK - (self.place + start) % BLOCK]
            if block == _ZEROS[: len(block)]:
                if run >= 0:
                    self._write_all(piece[run:start], self.place + run)
                run = -1
            elif run < 0:
                run = start
            start += len(block)
        if run >= 0:
            self._write_all(piece[run:], self.place + run)

    def _write_all(self, data: bytes, place: int) -> None:
        while data:
            written = os.pwrite(self.descriptor, data, place)
            data, place = data[written:], place + written

    def finish(self) -> None:
        """Give the file its size, which a hole at its end does not.

        :raises OSError: the disk does not take it
        """
        if os.fstat(self.descriptor).st_size != self.place:
            os.ftruncate(self.descriptor, self.place)


def data_of(descriptor: int) -> Iterator[tuple[int, int]]:
    """Where a file has data: beginnings and ends."""
    size, end = os.fstat(descriptor).st_size, 0
    while end < size:
        try:
            begin = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:
            return  # There is none behind the last hole (ENXIO).
        end = os.lseek(descriptor, begin, os.SEEK_HOLE)
        yield begin, end


def is_full(path: str) -> bool:
    """Has a file no holes, or a file system that does not tell?"""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return sum(end - begin for begin, end in data_of(descriptor)) >= os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def copy(source: int, target: str) -> None:
    """Make a file like an open one, holes included, its owner's alone."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        copy_data(source, descriptor)
    finally:
        os.close(descriptor)


def copy_data(source: int, target: int) -> None:
    """Give an empty file the size and the data of an open one, holes included."""
    os.ftruncate(target, os.fstat(source).st_size)
    _copy_data(source, target)


def lay_over(base: str, difference: str, target: str) -> None:
    """Make a file that is a base with the data of another file laid over it."""
    below, above = (os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in (base, difference))
    try:
        copy(below, target)
        descriptor = os.open(target, os.O_WRONLY | os.O_CLOEXEC)
        try:
            _copy_data(above, descriptor)
        finally:
            os.close(descriptor)
    finally:
        os.close(below)
        os.close(above)


def _copy_data(source: int, target: int) -> None:
    for begin, end in data_of(source):
        while begin < end:
            piece = os.pread(source, min(PIECE, end - begin), begin)
            if not piece:
                return  # It was cut short meanwhile.
            begin += os.pwrite(target, piece, begin)
