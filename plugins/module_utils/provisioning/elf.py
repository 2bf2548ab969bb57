# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the interpreter and the libraries that a dynamically linked program needs (ELF, System V ABI chapter 5)."""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from ..architectures import host_architecture
from ..errors import AssetError

PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
DT_NEEDED, DT_STRTAB = 1, 5

#: The directories in which distributions install libraries.
LIBRARY_DIRECTORIES = (
    "lib64",
    "usr/lib64",
    f"lib/{host_architecture().triplet}",
    f"usr/lib/{host_architecture().triplet}",
    "lib",
    "usr/lib",
)


class Needs(NamedTuple):
    """The interpreter's path (empty for a static program) and the names of the libraries."""

    interpreter: str
    libraries: list[str]


def needs_of(path: str) -> Needs:
    """The interpreter and the libraries that a 64-bit little-endian ELF file names.

    :raises AssetError: it cannot be read, or is not such a file
    """
    try:
        with open(path, "rb") as stream:
            data = stream.read()
        if data[:6] != b"\x7fELF\x02\x01":
            raise ValueError("it must be 64-bit little-endian ELF")
        offset, size, count = struct.unpack_from("<Q14xHH", data, 32)
        headers = [struct.unpack_from("<IIQQQQ", data, offset + number * size) for number in range(count)]
        interpreter, needed, strings = "", [], 0
        for kind, _flags, start, _address, _physical, length in headers:
            if kind == PT_INTERP:
                interpreter = data[start : start + length].rstrip(b"\0").decode()
            elif kind == PT_DYNAMIC:
                for position in range(start, start + length, 16):
                    tag, value = struct.unpack_from("<qQ", data, position)
                    if tag == DT_NEEDED:
                        needed.append(value)
                    elif tag == DT_STRTAB:
                        strings = _file_offset(headers, value)
        return Needs(interpreter, [_text(data, strings + name) for name in needed])
    except (OSError, ValueError, IndexError, OverflowError, struct.error) as error:
        raise AssetError("must be a program or library of this architecture", wanted=path, answer=str(error)) from error


def closure(program: str, root: str = "/") -> dict[str, str]:
    """Everything a program needs: the host's file by its path in the guest (libraries in `/lib`, the interpreter at the path that the program names).

    :param root: root directory of the file system with the libraries
    :raises AssetError: a library is in none of the usual directories
    """
    places = [os.path.join(root, directory) for directory in LIBRARY_DIRECTORIES]
    found: dict[str, str] = {}
    waiting = [program]
    while waiting:
        needs = needs_of(waiting.pop())
        wanted = [(f"/lib/{name}", name) for name in needs.libraries]
        if needs.interpreter:
            wanted.append((needs.interpreter, os.path.basename(needs.interpreter)))
        for destination, name in wanted:
            if destination not in found and (
                destination == needs.interpreter or name not in map(os.path.basename, found)
            ):
                found[destination] = _find(name, places, program)
                waiting.append(found[destination])
    return found


def _find(name: str, places: list[str], program: str) -> str:
    for place in places:
        path = os.path.join(place, name)
        if os.path.isfile(path):
            return path
    raise AssetError(f"{program} needs {name}, which must be in one of {', '.join(places)}", wanted=name)


def _file_offset(headers: list[tuple[int, ...]], address: int) -> int:
    for kind, _flags, start, base, _physical, length in headers:
        if kind == PT_LOAD and base <= address < base + length:
            return start + address - base
    raise ValueError(f"address {address:#x} is in no segment")


def _text(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode()
