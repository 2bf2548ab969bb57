# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ids of devices, and memory in blocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.module_utils.devices import (
    BlockDrive,
    MemoryDevice,
    NetworkDevice,
    VhostUserDevice,
    Volume,
    align_memory,
    device_id,
    make_name_id,
)


@given(st.integers(0, 1 << 31), st.integers(1, 1 << 20))
def test_memory_grows_to_the_next_whole_block(memory, block):
    aligned = align_memory(memory, block)
    assert aligned % block == 0
    assert 0 <= aligned - memory < block


@given(st.integers(0, (1 << 32) - 1))
def test_no_block_size_leaves_the_memory_alone(memory):
    assert align_memory(memory, 0) == memory


@given(st.text(), st.text())
def test_a_name_id_is_a_beginning_of_kind_and_id(kind, id_):
    name = make_name_id(kind, id_)
    assert len(name) <= 31
    assert f"{kind}-{id_}".startswith(name)


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (BlockDrive("/disk", id="data0"), "data0"),
        (Volume("tag", "/dir"), "tag"),
        (Volume("tag", "/dir", id="fs0"), "fs0"),
        (NetworkDevice("tap", tap_name="tap0"), "tap0"),
        (VhostUserDevice("user0", "/socket", "vhost-user-net"), "user0"),
        (MemoryDevice(128), ""),
    ],
)
def test_what_a_device_is_known_by(device, expected):
    assert device_id(device) == expected
