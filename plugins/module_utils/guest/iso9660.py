# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write small file systems in the ISO 9660 format with Joliet names, which every Linux guest, and cloud-init in it, can read.

One directory holds all files. The same files always give the same bytes: nothing has a time, and files are sorted by name. No program of the
host is needed. The formats are ECMA-119 and Microsoft's "Joliet Specification".
"""

from __future__ import annotations

import re
import struct
from typing import Mapping

SECTOR = 2048
#: Where the parts are, in sectors: two volume descriptors and their end, two path tables for each volume, two directories, files.
PRIMARY, JOLIET, END, TABLES, DIRECTORIES, FILES = 16, 17, 18, 19, 23, 25
#: Names that need no translation in either volume.
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,27}")
LABEL = re.compile(r"[A-Za-z0-9_-]{1,16}")
#: 1 January 2000, 00:00 UTC: the format has no way to omit the time of a file.
TIME = bytes((100, 1, 1, 0, 0, 0, 0))
NO_TIME = b"0" * 16 + b"\0"
IS_DIRECTORY = 2
#: Bytes of a path table whose only entry is the root directory.
PATH_TABLE_SIZE = 10


def image(label: str, files: Mapping[str, bytes]) -> bytes:
    """The bytes of a file system.

    :param label: 1 to 16 letters, digits, underscores and dashes
    :param files: the content of each file, by name. A name has up to 28 lower case letters, digits, underscores and dashes
    :raises ValueError: a name or the label cannot be written, or there are too many files for one sector of a directory
    """
    wrong = [name for name in files if not NAME.fullmatch(name)] + ([] if LABEL.fullmatch(label) else [label])
    if wrong:
        raise ValueError(f"the name {wrong[0]!r} cannot be written")
    names = sorted(files)
    places, next_free = {}, FILES
    for name in names:
        places[name] = (next_free, len(files[name]))
        next_free += _sectors(files[name])
    parts = [
        bytes(PRIMARY * SECTOR),
        _volume(1, label.encode("ascii"), b" ", b"", next_free, TABLES, DIRECTORIES),
        _volume(2, label.encode("utf-16-be"), b"\0 ", b"%/E", next_free, TABLES + 2, DIRECTORIES + 1),
        _padded(b"\xffCD001\x01"),
        *(_path_table(order, DIRECTORIES + volume) for volume in (0, 1) for order in "<>"),
        _directory(DIRECTORIES, {f"{name.upper()};1".encode("ascii"): places[name] for name in names}),
        _directory(DIRECTORIES + 1, {f"{name};1".encode("utf-16-be"): places[name] for name in names}),
        *(_padded(files[name]) for name in names),
    ]
    return b"".join(parts)


def _sectors(data: bytes) -> int:
    return -(-len(data) // SECTOR)


def _padded(data: bytes) -> bytes:
    return data.ljust(_sectors(data) * SECTOR, b"\0")


def _both(number: int, letter: str) -> bytes:
    """A number in both byte orders (ECMA-119, 7.2.3 and 7.3.3)."""
    return struct.pack(f"<{letter}", number) + struct.pack(f">{letter}", number)


def _text(value: bytes, blank: bytes, size: int) -> bytes:
    """A text field, filled with blanks; a field with an odd size ends in a zero where a blank has two bytes."""
    return (value + blank * ((size - len(value)) // len(blank))).ljust(size, b"\0")


def _volume(kind: int, label: bytes, blank: bytes, escape: bytes, sectors: int, tables: int, directory: int) -> bytes:
    """A volume descriptor (ECMA-119, 8.4 and 8.5).

    :param kind: 1 for the primary volume, 2 for the one with Joliet names
    :param blank: what fills a text field
    :param escape: names the character set
    :param tables: sector of its path table in little endian; the one in big endian follows
    """
    data = b"".join(
        (
            bytes((kind,)) + b"CD001\x01\0",
            _text(b"", blank, 32),
            _text(label, blank, 32),
            bytes(8),
            _both(sectors, "I"),
            escape.ljust(32, b"\0"),
            _both(1, "H") + _both(1, "H") + _both(SECTOR, "H"),
            _both(PATH_TABLE_SIZE, "I"),
            struct.pack("<II", tables, 0) + struct.pack(">II", tables + 1, 0),
            _entry(b"\0", directory, SECTOR, IS_DIRECTORY),
            *(_text(b"", blank, size) for size in (128, 128, 128, 128, 37, 37, 37)),
            NO_TIME * 4,
            b"\x01",
        )
    )
    return _padded(data)


def _path_table(order: str, directory: int) -> bytes:
    """The path table of a volume whose only directory is its root (ECMA-119, 9.4)."""
    return _padded(struct.pack(f"{order}BBIH", 1, 0, directory, 1) + b"\0\0")


def _directory(sector: int, entries: Mapping[bytes, tuple[int, int]]) -> bytes:
    """The root directory, with the entries of itself and of its parent, which is itself too (ECMA-119, 6.8)."""
    own = [_entry(name, sector, SECTOR, IS_DIRECTORY) for name in (b"\0", b"\1")]
    data = b"".join([*own, *(_entry(name, place, size, 0) for name, (place, size) in entries.items())])
    if len(data) > SECTOR:
        raise ValueError(f"{len(entries)} files are too many for one sector of a directory")
    return data.ljust(SECTOR, b"\0")


def _entry(name: bytes, place: int, size: int, flags: int) -> bytes:
    """A directory record (ECMA-119, 9.1)."""
    data = b"".join(
        (
            b"\0" + _both(place, "I") + _both(size, "I") + TIME,
            bytes((flags, 0, 0)) + _both(1, "H"),
            bytes((len(name),)) + name,
        )
    )
    # With its length, which stands before it, a record has an even size.
    data += b"\0" * ((len(data) + 1) % 2)
    return bytes((len(data) + 1,)) + data
