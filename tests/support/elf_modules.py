# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel modules small enough to write by hand: ELF files with nothing but a .modinfo section."""

from __future__ import annotations

import struct


def elf_module(bits: int = 64, order: str = "<", **info: str) -> bytes:
    """An ELF file of which the .modinfo section holds the pairs (System V ABI, chapter 4)."""
    modinfo = b"".join(f"{key}={value}".encode() + b"\0" for key, value in info.items())
    names = b"\0.modinfo\0.shstrtab\0"
    header_size = 64 if bits == 64 else 52
    section_size = 64 if bits == 64 else 40
    modinfo_at = header_size
    names_at = modinfo_at + len(modinfo)
    table_at = names_at + len(names)
    ident = b"\x7fELF" + bytes([2 if bits == 64 else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    if bits == 64:
        header = ident + struct.pack(f"{order}HHIQQQIHHHHHH", 1, 62, 1, 0, 0, table_at, 0, 64, 0, 0, section_size, 3, 2)
        layout = f"{order}IIQQQQIIQQ"
    else:
        header = ident + struct.pack(f"{order}HHIIIIIHHHHHH", 1, 3, 1, 0, 0, table_at, 0, 52, 0, 0, section_size, 3, 2)
        layout = f"{order}IIIIIIIIII"
    table = struct.pack(layout, *[0] * 10)
    table += struct.pack(layout, 1, 1, 2, 0, modinfo_at, len(modinfo), 0, 0, 1, 0)
    table += struct.pack(layout, 10, 3, 0, 0, names_at, len(names), 0, 0, 1, 0)
    return header + modinfo + names + table
