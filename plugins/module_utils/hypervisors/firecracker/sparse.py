# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files with holes: in a memory file of Firecracker's that has only what is different, a hole is what is the same (lseek(2), SEEK_HOLE)."""

from __future__ import annotations

import os
from typing import Iterator

#: Bytes that are copied at once.
PIECE = 1 << 20


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
