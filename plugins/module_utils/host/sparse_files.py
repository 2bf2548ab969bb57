# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write and copy sparse files (lseek(2), SEEK_HOLE).

In the memory file of a differential snapshot of Firecracker, a hole means "unchanged", so `copy` and `lay_over` keep holes exactly.
In other files a hole means zeros that need no disk space, so `Writer` writes a hole for each block of zeros.
"""

from __future__ import annotations

import fcntl
import os
from typing import Iterator

#: How many bytes are copied at once.
PIECE = 1 << 20
#: The smallest hole that `Writer` makes, bytes: a block of usual file systems.
BLOCK = 4096
_ZEROS = bytes(PIECE)
#: The ioctl that makes a file share the blocks of another one until one of the two is written to (ioctl_ficlone(2)).
FICLONE = 0x40049409


class Writer:
    """Writes a file from an offset, with a hole for each block of zeros. Call `finish` at the end.

    :param descriptor: of a file open for writing; it stays open
    :param place: the offset of the first byte; the file is truncated there
    """

    def __init__(self, descriptor: int, place: int = 0) -> None:
        self.descriptor = descriptor
        self.place = place
        self.finish()

    def write(self, data: bytes) -> None:
        """Write the next bytes.

        :raises OSError: they cannot be written
        """
        start = 0
        while start < len(data):
            # Up to the next multiple of the size of a piece, so that the blocks are aligned with the file system's.
            piece = data[start : start + PIECE - self.place % PIECE]
            if piece != _ZEROS[: len(piece)]:
                self._write_blocks(piece)
            self.place += len(piece)
            start += len(piece)

    def _write_blocks(self, piece: bytes) -> None:
        """Write each run of blocks with data by one call."""
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
        """Set the file's size, since a hole at its end does not extend it.

        :raises OSError: the size cannot be set
        """
        if os.fstat(self.descriptor).st_size != self.place:
            os.ftruncate(self.descriptor, self.place)


def data_of(descriptor: int) -> Iterator[tuple[int, int]]:
    """The ranges of a file that have data: start and end of each."""
    size, end = os.fstat(descriptor).st_size, 0
    while end < size:
        try:
            begin = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:
            return  # There is no data after the last hole (ENXIO).
        end = os.lseek(descriptor, begin, os.SEEK_HOLE)
        yield begin, end


def is_full(path: str) -> bool:
    """Whether a file has no holes, or its file system does not report them."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return sum(end - begin for begin, end in data_of(descriptor)) >= os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def copy(source: int, target: str) -> None:
    """Copy an open file to a new private one. Holes stay holes."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        copy_data(source, descriptor)
    finally:
        os.close(descriptor)


def copy_data(source: int, target: int) -> None:
    """Copy size and data of an open file to an empty one. Holes stay holes."""
    os.ftruncate(target, os.fstat(source).st_size)
    _copy_data(source, target)


def share_data(source: int, target: int) -> bool:
    """Give an empty file the content of an open file without copying it. False if the file system cannot do that, or if the two are on different ones."""
    try:
        fcntl.ioctl(target, FICLONE, source)
        return True
    except OSError:
        return False


def copy_device(source: int, target: int) -> None:
    """Copy an open block device to an empty file, with a hole for each block of zeros."""
    writer = Writer(target)
    while piece := os.pread(source, PIECE, writer.place):
        writer.write(piece)
    writer.finish()


def lay_over(base: str, difference: str, target: str) -> None:
    """Create a copy of `base` in which the data of `difference` replaces that of `base`."""
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
                return  # The file was truncated meanwhile.
            begin += os.pwrite(target, piece, begin)
