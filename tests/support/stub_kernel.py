# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The smallest guest kernels: an ELF file whose code prints a line on the first serial port and halts for ever, and one for QEMU that only halts."""

from __future__ import annotations

import struct

GREETING = b"stub: running\n"
#: Where kernels are loaded.
ADDRESS = 0x100_0000
#: Load rsi with the text, dx with the port; print until a zero; then halt again and again.
CODE = bytes.fromhex("488d351300000066baf803ac84c07403eeebf8f4ebfd9090909090")


def stub_kernel() -> bytes:
    """The whole file (elf(5)): a header, one program header, the code and its text."""
    offset = 0x1000
    code = CODE[: CODE.index(b"\xf4") + 3]
    # lea rsi, [rip + distance]: from the end of that instruction to the text, which follows the code.
    code = code[:3] + struct.pack("<i", len(code) - 7) + code[7:]
    content = code + GREETING + b"\0"
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, ADDRESS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 7, offset, ADDRESS, ADDRESS, len(content), len(content), 0x1000)
    return (header + segment).ljust(offset, b"\0") + content


def halted_kernel() -> bytes:
    """A kernel for QEMU whose guest takes no processor time: it halts with interrupts off.

    QEMU finds the address where it starts, in 32-bit mode, in a note of the file (Xen, "x86/HVM direct boot ABI", XEN_ELFNOTE_PHYS32_ENTRY is 18).
    """
    offset, halt = 0x1000, bytes.fromhex("f4ebfd")
    note = struct.pack("<III4sQ", 4, 8, 18, b"Xen\0", ADDRESS)
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, ADDRESS, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    code = struct.pack("<IIQQQQQQ", 1, 7, offset, ADDRESS, ADDRESS, len(halt), len(halt), 0x1000)
    notes = struct.pack("<IIQQQQQQ", 4, 4, 0x200, 0x200, 0x200, len(note), len(note), 4)
    return ((header + code + notes).ljust(0x200, b"\0") + note).ljust(offset, b"\0") + halt
