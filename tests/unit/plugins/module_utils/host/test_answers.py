# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The content of the host's files and the output of programs are parsed with typed errors only; numbers have a range, text is printable."""

from __future__ import annotations

import os
import pathlib
import random
from typing import Any, Callable

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HostError, HypervisorError
from ansible_collections.kata.hypervisor.plugins.module_utils.host import block_devices, facts, mounts, proc
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker import endings, threads
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.api import dialect
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import binary
from tests.support.wrong_answers import wrong_text

#: How many wrong texts all readers get together; make soak has more.
TEXTS = int(os.environ.get("KATA_WRONG_ANSWERS", "20000"))
MEMORY = (
    "MemTotal:       16309408 kB\nMemAvailable:    9309408 kB\nHugePages_Free:       10\nHugepagesize:       2048 kB\n"
)
CPUS = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vme hypervisor\ncpu MHz\t\t: 2599.998\n"
MOUNTS = "22 28 0:21 / /sys rw,nosuid - sysfs sysfs rw\n36 35 98:0 /mnt1 /mnt\\0402/a rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"


def _number(least: int, most: int) -> Callable[[Any], bool]:
    return lambda found: isinstance(found, int) and not isinstance(found, bool) and least <= found <= most


#: Each reader of text with a text that it reads, and what its answer must look like.
READERS: dict[str, tuple[Callable[[str], Any], str, Callable[[Any], bool]]] = {
    "MemTotal": (proc.parse_mem_total_kb, MEMORY, _number(0, 2**64 - 1)),
    "host memory": (proc.parse_host_memory_mb, MEMORY, _number(0, 2**54)),
    "numbers": (proc.parse_numbers, MEMORY, lambda found: all(0 <= value < 2**64 for value in found.values())),
    "virtual machine": (proc.parse_running_on_vmm, CPUS, lambda found: isinstance(found, bool)),
    "frequency": (proc.parse_cpu_khz, CPUS, _number(0, 10**10)),
    "vendor": (proc.parse_cpu_vendor, CPUS, lambda found: found.isprintable() and len(found) <= 64),
    "unsigned": (proc.parse_unsigned, "0x_ff", lambda found: found is None or 0 <= found < 2**64),
    "memory facts": (
        facts.parse_memory,
        MEMORY,
        lambda found: all(0 <= value < 10**20 for value in found.values()),
    ),
    "mounts": (mounts.parse_mounts, MOUNTS, lambda found: all(0 <= one.number < 10**10 for one in found)),
    "mounted": (block_devices.parse_mounted, MOUNTS, lambda found: isinstance(found, dict)),
    "QEMU": (
        binary.parse_version,
        "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright (c) 2003-2022",
        lambda found: found is None or (len(found) == 3 and max(found) < 10000),
    ),
    "Firecracker": (
        dialect.parse_version,
        "Firecracker v1.16.1\n",
        lambda found: found == () or (len(found) == 3 and max(found) < 10000),
    ),
    "thread": (threads.vcpu_number, "fc_vcpu 0", lambda found: found is None or abs(found) < 2**31),
    "log": (endings.reason_in, "Shutting down VM after intercepting signal 11\n", lambda found: isinstance(found, str)),
}


@pytest.mark.parametrize("name", READERS)
def test_no_text_is_more_than_a_typed_error(name: str) -> None:
    read, text, is_right = READERS[name]
    assert is_right(read(text))
    random_ = random.Random(name)
    for _number in range(TEXTS // len(READERS)):
        wrong = wrong_text(text, random_)
        try:
            found = read(wrong)
        except HypervisorError:
            continue
        assert is_right(found), wrong


@pytest.mark.parametrize(
    ("content", "khz"),
    [
        (CPUS, 2599998),
        ("cpu MHz\t\t: inf\n", 0),
        ("cpu MHz : nan\n", 0),
        ("cpu MHz : 1e400\n", 0),
        ("cpu MHz : " + "9" * 5000, 0),
        ("", 0),
    ],
)
def test_a_frequency_is_a_number(content: str, khz: int) -> None:
    """`inf` raised OverflowError."""
    assert proc.parse_cpu_khz(content) == khz


def test_a_number_of_thousands_of_digits_is_none(tmp_path: pathlib.Path) -> None:
    assert proc.parse_unsigned("9" * 5000) is None and proc.parse_unsigned("0" * 5000 + "7") == 7
    (tmp_path / "meminfo").write_text(f"MemTotal: {'9' * 5000} kB\nHugepagesize:\nHugePages_Free: x\n")
    with pytest.raises(HostError):
        proc.read_host_memory_mb(str(tmp_path / "meminfo"))
    with pytest.raises(HostError, match="huge pages"):
        proc.check_huge_pages(1, os.getpid(), str(tmp_path / "meminfo"), str(tmp_path / "nothing"))


@pytest.mark.parametrize("path", ["/nonexistent", "/", "\0", "\ud800"])
def test_a_file_that_cannot_be_read_is_named(path: str) -> None:
    with pytest.raises(HostError, match="cannot be read"):
        proc.read_host_memory_mb(path)
    assert (proc.read_cpu_khz(path), proc.read_cpu_vendor(path)) == (0, "")


def test_only_blanks_part_the_words_of_a_mount() -> None:
    """The kernel writes blanks, tabs and line breaks as numbers, and every other character as it is."""
    odd = "/run/a\u00a0b\u2028c\x85d\x1ce"
    line = f"36 35 98:0 / {odd} rw - ext4 /dev/x rw\n37 36 98:1 / /b\\040c\\134 rw - ext4 /dev/y rw\n"
    assert [(one.number, one.path) for one in mounts.parse_mounts(line)] == [(36, odd), (37, "/b c\\")]
    assert block_devices.parse_mounted(line) == {"98:0": odd, "98:1": "/b\\040c\\134"}
