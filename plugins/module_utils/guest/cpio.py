# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write archives in cpio's `newc` format, which Linux kernels unpack as initrds.

The same entries always give the same bytes: entries are sorted, owned by root, without times, and numbered in order. Device nodes need no
privilege, since the archive only describes them. The format is documented in the kernel's
`Documentation/driver-api/early-userspace/buffer-format.rst`.
"""

from __future__ import annotations

import stat
from typing import NamedTuple

_BLOCK = 512


class _Entry(NamedTuple):
    mode: int
    data: bytes
    device: tuple[int, int]


class Archive:
    """Entries by path; `to_bytes` writes them, parent directories first.

    Paths are absolute, as the guest will see them. Missing parent directories are added.
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and path.strip("/") in self._entries

    def add_directory(self, path: str, mode: int = 0o755) -> None:
        """Add a directory, with its parents."""
        name = path.strip("/")
        if not name or name in self._entries:
            return
        self._add_parent(name)
        self._entries[name] = _Entry(stat.S_IFDIR | mode, b"", (0, 0))

    def add_file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Add a regular file. It replaces an entry with the same path."""
        self._add(path, stat.S_IFREG | mode, data)

    def add_symlink(self, path: str, target: str) -> None:
        """Add a symbolic link to `target`."""
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def add_character_device(self, path: str, major: int, minor: int, mode: int = 0o600) -> None:
        """Add a character device node."""
        self._add(path, stat.S_IFCHR | mode, b"", (major, minor))

    def to_bytes(self) -> bytes:
        """The archive, padded to a multiple of 512 bytes."""
        out = bytearray()
        for number, name in enumerate(sorted(self._entries), start=1):
            out += _record(name, number, self._entries[name])
        out += _record("TRAILER!!!", 0, _Entry(0, b"", (0, 0)))
        out += bytes(-len(out) % _BLOCK)
        return bytes(out)

    def _add(self, path: str, mode: int, data: bytes, device: tuple[int, int] = (0, 0)) -> None:
        name = path.strip("/")
        self._add_parent(name)
        self._entries[name] = _Entry(mode, data, device)

    def _add_parent(self, name: str) -> None:
        parent = name.rpartition("/")[0]
        if parent:
            self.add_directory(parent)


def _record(name: str, inode: int, entry: _Entry) -> bytes:
    encoded = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(encoded), 0)
    record = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    record += bytes(-len(record) % 4) + entry.data
    return record + bytes(-len(record) % 4)
