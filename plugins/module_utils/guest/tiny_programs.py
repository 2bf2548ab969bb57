# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Assemble static programs of a few hundred bytes that run system calls in a guest, for each supported architecture.

The host need not have a compiler. The numbers and registers are those of Linux (syscall(2)), the headers those of the ELF specification.
"""

from __future__ import annotations

import struct
from typing import Callable, NamedTuple, Union

from ..architectures import architecture_named

#: An argument of a system call: a number, a pointer to bytes in the program, or the result of the call before.
Argument = Union[int, bytes, None]
RESULT: Argument = None

#: The address of a program in memory, and the length of its headers.
BASE, HEADERS = 0x400000, 64 + 56


class Call(NamedTuple):
    """One system call."""

    name: str
    arguments: tuple[Argument, ...]


class Assembler(NamedTuple):
    """The machine code of an architecture.

    :param flags: in the ELF header
    :param order: the byte order, as in `struct`
    :param numbers: the numbers of the system calls
    :param load: code that puts a number into the register of an argument (its position), the same length for each number
    :param call: code that makes a system call of that number
    :param keep: code that makes the last result the first argument
    :param halt: code that loops for ever
    """

    flags: int
    order: str
    numbers: dict[str, int]
    load: Callable[[int, int], bytes]
    call: Callable[[int], bytes]
    keep: bytes
    halt: bytes


def program(architecture: str, calls: list[Call]) -> bytes:
    """A static program that makes these system calls and then loops for ever.

    :param architecture: as uname(2) names it
    """
    assembler = ASSEMBLERS[architecture]
    data = b"".join(argument for call in calls for argument in call.arguments if isinstance(argument, bytes))
    start = BASE + HEADERS + len(_code(assembler, calls, 0))
    content = _code(assembler, calls, start) + data
    size = HEADERS + len(content)
    order = 1 if assembler.order == "<" else 2
    header = struct.pack(
        f"{assembler.order}16sHHIQQQIHHHHHH",
        b"\x7fELF\x02" + bytes([order]) + b"\x01",
        2,
        architecture_named(architecture).elf,
        1,
        BASE + HEADERS,
        64,
        0,
        assembler.flags,
        64,
        56,
        1,
        64,
        0,
        0,
    )
    segment = struct.pack(f"{assembler.order}IIQQQQQQ", 1, 5, 0, BASE, BASE, size, size, 0x10000)
    return header + segment + content


def _code(assembler: Assembler, calls: list[Call], data: int) -> bytes:
    """The code, for data that lies at an address."""
    code = b""
    for call in calls:
        for position, argument in enumerate(call.arguments):
            if argument is None:
                code += assembler.keep
            elif isinstance(argument, bytes):
                code += assembler.load(position, data)
                data += len(argument)
            else:
                code += assembler.load(position, argument & 0xFFFFFFFF)
        code += assembler.call(assembler.numbers[call.name])
    return code + assembler.halt


def _x86_64_load(position: int, number: int) -> bytes:
    """mov edi, esi, edx or r10d."""
    return (b"\xbf", b"\xbe", b"\xba", b"\x41\xba")[position] + struct.pack("<I", number)


def _aarch64_move(register: int, number: int) -> bytes:
    """movz and movk."""
    low, high = number & 0xFFFF, number >> 16
    return struct.pack("<II", 0xD2800000 | low << 5 | register, 0xF2A00000 | high << 5 | register)


def _ppc64le_move(register: int, number: int) -> bytes:
    """lis and ori; the upper half holds the sign, which no call here reads."""
    low, high = number & 0xFFFF, number >> 16
    return struct.pack("<II", 15 << 26 | register << 21 | high, 24 << 26 | register << 21 | register << 16 | low)


def _s390x_load(position: int, number: int) -> bytes:
    """lgfi, which extends the sign."""
    return struct.pack(">BBI", 0xC0, (position + 2) << 4 | 1, number)


#: Numbers of newer architectures, which Linux shares among them.
GENERIC = {"write": 64, "reboot": 142, "close": 57, "openat": 56, "ioctl": 29, "exit": 93}

ASSEMBLERS = {
    "x86_64": Assembler(
        0,
        "<",
        {"write": 1, "reboot": 169, "close": 3, "openat": 257, "ioctl": 16, "exit": 60},
        _x86_64_load,
        lambda number: b"\xb8" + struct.pack("<I", number) + b"\x0f\x05",
        b"\x89\xc7",
        b"\xeb\xfe",
    ),
    "aarch64": Assembler(
        0,
        "<",
        GENERIC,
        _aarch64_move,
        lambda number: _aarch64_move(8, number) + b"\x01\x00\x00\xd4",
        b"",
        b"\x00\x00\x00\x14",
    ),
    "ppc64le": Assembler(
        2,
        "<",
        {"write": 4, "reboot": 88, "close": 6, "openat": 286, "ioctl": 54, "exit": 1},
        lambda position, number: _ppc64le_move(position + 3, number),
        lambda number: _ppc64le_move(0, number) + b"\x02\x00\x00\x44",
        b"",
        b"\x00\x00\x00\x48",
    ),
    "s390x": Assembler(
        0,
        ">",
        {"write": 4, "reboot": 88, "close": 6, "openat": 288, "ioctl": 54, "exit": 1},
        _s390x_load,
        # lghi r1 and svc 0, since the operand of svc holds only numbers up to 255.
        lambda number: b"\xa7\x19" + struct.pack(">H", number) + b"\x0a\x00",
        b"",
        b"\xa7\xf4\x00\x00",
    ),
}
