# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host probes."""

from __future__ import annotations

import contextlib
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HostError
from ansible_collections.kata.hypervisor.plugins.module_utils.host.proc import (
    parse_mem_total_kb,
    parse_running_on_vmm,
    parse_unsigned,
    read_host_memory_mb,
    read_running_on_vmm,
)


@given(st.integers(0, (1 << 64) - 1))
def test_a_number_is_read_in_every_base(number):
    for text in (f"{number:d}", f"{number:#x}", f"{number:#o}", f"{number:#b}", f"0{number:o}", f"{number:_d}"):
        assert parse_unsigned(text) == number


@given(st.text())
def test_any_text_is_a_number_or_none(text):
    number = parse_unsigned(text)
    assert number is None or 0 <= number < 1 << 64


@pytest.mark.parametrize(
    "text", ["", "08", "0x", "0b2", "0o8", "1__0", "_1", "1_", "+1", "-1", "1e3", "0_x1", "٣", str(1 << 64)]
)
def test_what_is_no_number(text):
    assert parse_unsigned(text) is None


@given(st.text())
def test_any_meminfo_has_an_answer_or_a_host_error(text):
    with contextlib.suppress(HostError):
        assert parse_mem_total_kb(text) >= 0


@given(st.text())
def test_any_cpuinfo_has_an_answer_or_a_host_error(text):
    with contextlib.suppress(HostError):
        assert parse_running_on_vmm(text) in (True, False)


def test_a_line_may_have_65535_bytes():
    assert parse_mem_total_kb("x" * 65535 + "\nMemTotal: 5 kB\n") == 5
    with pytest.raises(HostError, match="65535 bytes"):
        parse_mem_total_kb("x" * 65536 + "\nMemTotal: 5 kB\n")


def test_the_first_line_that_can_be_read_counts():
    assert parse_mem_total_kb("MemTotal: x kB\nMemTotal: 3 MB\nMemTotal: 7 kB\nMemTotal: 9 kB\n") == 7


def test_this_host_tells_its_memory():
    assert read_host_memory_mb() == parse_mem_total_kb(pathlib.Path("/proc/meminfo").read_text()) // 1024 > 0


def test_a_host_without_memory_is_an_error(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 0 kB\n")
    with pytest.raises(HostError, match="no memory"):
        read_host_memory_mb(str(tmp_path / "meminfo"))


def test_a_missing_file_names_itself(tmp_path):
    with pytest.raises(HostError, match="meminfo cannot be read"):
        read_host_memory_mb(str(tmp_path / "meminfo"))


def test_architectures_without_flags_are_not_asked(tmp_path):
    assert read_running_on_vmm(str(tmp_path / "missing"), "aarch64") is False
    assert parse_running_on_vmm("flags : hypervisor", "s390x") is False
