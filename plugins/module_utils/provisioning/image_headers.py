# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which other files an image names in its first bytes, read before any program opens it and, with it, those (qcow2.txt and vmdk.c of QEMU)."""

from __future__ import annotations

import re

#: Bytes in which the headers and the names are looked for.
HEAD = 1 << 20
_DATA_FILE, _INCOMPATIBLE_DATA_FILE = 0x44415441, 4


def other_file(head: bytes, image_format: str) -> str:
    """The first other file that an image needs, in words; empty when it needs none.

    :param head: the first bytes of the image, L(HEAD) of them where it has as many
    """
    if image_format == "qcow2":
        return _of_qcow2(head)
    if image_format == "vmdk":
        return _of_vmdk(head)
    return ""


def _of_qcow2(head: bytes) -> str:
    if head[:4] != b"QFI\xfb" or len(head) < 72:
        return ""
    version = int.from_bytes(head[4:8], "big")
    offset, length = int.from_bytes(head[8:16], "big"), int.from_bytes(head[16:20], "big")
    if offset:
        return _text(head[offset : offset + min(length, 1023)]) or "a backing file"
    if version >= 3 and int.from_bytes(head[72:80], "big") & _INCOMPATIBLE_DATA_FILE:
        return _extension(head, int.from_bytes(head[100:104], "big")) or "a data file"
    return ""


def _extension(head: bytes, place: int) -> str:
    """The name of the data file among the extensions of the header."""
    for _number in range(64):
        kind, length = int.from_bytes(head[place : place + 4], "big"), int.from_bytes(head[place + 4 : place + 8], "big")
        if kind == _DATA_FILE:
            return _text(head[place + 8 : place + 8 + min(length, 1023)])
        if kind == 0 or place > len(head):
            return ""
        place += 8 + (length + 7) // 8 * 8
    return ""


def _of_vmdk(head: bytes) -> str:
    if head[:4] == b"COWD" or (head[:4] == b"KDMV" and any(head[12:20])):
        return ""
    # A descriptor, by itself or behind a header without a capacity, has the names of the files with the content.
    if head[:4] != b"KDMV" and b"# Disk DescriptorFile" not in head[:2048]:
        return ""
    extent = re.search(rb'^(?:RW|RDONLY|NOACCESS)[ \t]+\d+[ \t]+\w+[ \t]+"([^"\n]{1,1023})"', head, re.MULTILINE)
    return _text(extent[1]) if extent else "files that its descriptor names"


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
