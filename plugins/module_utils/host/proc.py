# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read facts of the host from `/proc`: its memory, its CPU, and whether it is a virtual machine.

The readers fail where those of Kata 1.x do: if a line has 64 KiB or more, or if the file does not have the value.
"""

from __future__ import annotations

import re
from typing import Iterator

from ..architectures import architecture_named
from ..errors import HostError
from .words import split_words

MEMINFO = "/proc/meminfo"
CPUINFO = "/proc/cpuinfo"

#: How many huge pages of the default size the kernel may allocate on demand.
OVERCOMMIT = "/proc/sys/vm/nr_overcommit_hugepages"

#: A line must be shorter than the first number, and at most the second is read of a file, bytes; cpuinfo has about 1500 bytes per CPU.
LINE_LIMIT = 64 * 1024
FILE_LIMIT = 64 << 20
#: How many characters of cpuinfo describe the first CPU; the kernel needs time for each further CPU.
FIRST_CPU = 16 * 1024

#: An unsigned integer with its base in front, as `strconv.ParseUint` with base 0 parses it.
UNSIGNED = re.compile(r"0[xX](?:_?[0-9a-fA-F])+|0[bB](?:_?[01])+|0[oO]?(?:_?[0-7])+|0|[1-9](?:_?[0-9])*")

#: Decimal digits of the largest number of 64 bits.
MOST_DIGITS = 20


def _read(path: str, most: int = FILE_LIMIT) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as stream:
            return stream.read(most)
    except (OSError, ValueError) as error:
        raise HostError(f"{path} cannot be read", answer=str(error)) from error


def read_text(path: str, most: int = FILE_LIMIT) -> str:
    """The text of a file of the kernel, without white space at its ends; empty if it cannot be read.

    :param most: the maximum number of characters
    """
    try:
        with open(path, encoding="utf-8", errors="replace", newline="") as stream:
            return stream.read(most).strip()
    except OSError:
        return ""


def _lines_of_words(text: str, path: str) -> Iterator[list[str]]:
    for line in text.split("\n"):
        if len(line) >= LINE_LIMIT or len(line.encode("utf-8", "surrogatepass")) >= LINE_LIMIT:
            raise HostError(f"{path} must have lines of at most {LINE_LIMIT - 1} bytes")
        yield split_words(line)


def parse_unsigned(text: str) -> int | None:
    """The number in a text (decimal, 0x, 0b, 0o or a leading 0 for octal, with `_` between digits), None if it has none.

    A number of more than 64 bits gives None.
    """
    if not UNSIGNED.fullmatch(text):
        return None
    digits = text.replace("_", "").lower()
    is_octal = digits[0] == "0" and digits[1:].isdigit()
    if digits[0] != "0" and len(digits) > MOST_DIGITS:
        return None
    number = int(digits, 8 if is_octal else 0)
    return number if number < 1 << 64 else None


def parse_mem_total_kb(text: str, path: str = MEMINFO) -> int:
    """The host's memory in KiB, from the content of meminfo.

    :raises HostError: there is no usable `MemTotal` line
    """
    size = meminfo_kb(text, "MemTotal", path)
    if size is None:
        raise HostError(f"{path} must have a line MemTotal in kB")
    return size


def meminfo_kb(text: str, name: str, path: str = MEMINFO) -> int | None:
    """A size in KiB from the content of meminfo, None where there is no usable line of that name.

    :raises HostError: a line is too long
    """
    for words in _lines_of_words(text, path):
        if len(words) >= 3 and words[0] == f"{name}:" and words[2] == "kB":
            size = parse_unsigned(words[1])
            if size is not None:
                return size
    return None


def read_host_memory_mb(path: str = MEMINFO) -> int:
    """The host's memory in MiB, rounded down.

    :raises HostError: meminfo cannot be read, lacks the value, or has 0
    """
    return parse_host_memory_mb(_read(path), path)


def parse_host_memory_mb(text: str, path: str = MEMINFO) -> int:
    """The host's memory in MiB, rounded down, from the content of meminfo.

    :raises HostError: meminfo lacks the value, or has 0
    """
    size_kb = parse_mem_total_kb(text, path)
    if size_kb == 0:
        raise HostError(f"{path} says that the host has no memory")
    return size_kb // 1024


def parse_running_on_vmm(text: str, machine: str = "x86_64", path: str = CPUINFO) -> bool:
    """Whether the host is itself a virtual machine, from the content of cpuinfo: its first line of flags decides.

    :param machine: the host's architecture, as `uname -m` names it
    :raises HostError: there is no line of flags
    """
    if not architecture_named(machine).cpu_flags:
        return False
    for words in _lines_of_words(text, path):
        if len(words) >= 2 and words[0].startswith("flags"):
            return "hypervisor" in words[1:]
    raise HostError(f"{path} has no line of flags")


def read_running_on_vmm(path: str = CPUINFO, machine: str = "x86_64") -> bool:
    """Whether the host is itself a virtual machine.

    :raises HostError: cpuinfo cannot be read, or lacks the flags
    """
    if not architecture_named(machine).cpu_flags:
        return False
    return parse_running_on_vmm(_read(path), machine, path)


def read_cpu_khz(path: str = CPUINFO) -> int:
    """The frequency of the host's first CPU in kHz, 0 if it is missing."""
    try:
        return parse_cpu_khz(_read(path, FIRST_CPU))
    except HostError:
        return 0


def parse_cpu_khz(text: str) -> int:
    """The frequency of the first CPU in kHz, from the content of cpuinfo, 0 if it is missing."""
    found = re.search(r"^cpu MHz[ \t]*:[ \t]*([0-9]{1,7})(?:\.([0-9]{1,9}))?[ \t]*$", text, re.MULTILINE)
    return int(found[1]) * 1000 + int((found[2] or "").ljust(3, "0")[:3]) if found else 0


def read_cpu_vendor(path: str = CPUINFO) -> str:
    """The vendor of the host's first CPU as in cpuinfo (`vendor_id`); empty if it is missing."""
    try:
        return parse_cpu_vendor(_read(path, FIRST_CPU))
    except HostError:
        return ""


def parse_cpu_vendor(text: str) -> str:
    """The vendor of the first CPU, from the content of cpuinfo; empty if it is missing."""
    found = re.search(r"^vendor_id[ \t]*:[ \t]*([!-~][ -~]{0,63})", text, re.MULTILINE)
    return found[1].strip() if found else ""


def parse_numbers(text: str, path: str = MEMINFO) -> dict[str, int]:
    """The first number of each line by its first word, which ends in a colon; 0 if there is no number.

    :raises HostError: a line is too long
    """
    return {words[0]: parse_unsigned(words[1]) or 0 for words in _lines_of_words(text, path) if len(words) >= 2}


def check_huge_pages(needed_mb: int, pid: int = 0, meminfo: str = MEMINFO, overcommit: str = OVERCOMMIT) -> None:
    """Refuse to use more huge pages than the host has free.

    :param needed_mb: MiB
    :param pid: a process that ends first and releases its huge pages; 0 for none
    :raises HostError: there are too few
    """
    found = parse_numbers(_read(meminfo), meminfo)
    size_kb = found.get("Hugepagesize:", 0)
    free_kb = max(0, found.get("HugePages_Free:", 0) - found.get("HugePages_Rsvd:", 0)) * size_kb
    if pid:
        try:
            status = _read(f"/proc/{pid}/status")
        except HostError:
            status = ""
        free_kb += parse_numbers(status, "status").get("HugetlbPages:", 0)
    try:
        more = parse_unsigned(_read(overcommit).strip()) or 0
    except HostError:
        more = 0
    if needed_mb * 1024 > free_kb + more * size_kb:
        raise HostError(
            f"{needed_mb} MiB in huge pages must be free, and the host has {free_kb // 1024} MiB",
            option="huge_pages",
            wanted=True,
            fix="Reserve more (role kata_host, kata_host_hugepages; or sysctl vm.nr_hugepages), or omit huge_pages.",
        )
