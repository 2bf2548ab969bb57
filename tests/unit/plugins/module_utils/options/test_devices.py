# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ids of devices, and memory in blocks."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import StoreError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.state import (
    as_record,
    from_record,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.state import QemuState
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.base import RateLimit, device_id
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.block import BlockDrive
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.fs import Volume
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.net import NetworkDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vhost_user import VhostUserDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_options import make_device
from ansible_collections.kata.hypervisor.plugins.module_utils.options.devices import MemoryDevice, align_memory
from ansible_collections.kata.hypervisor.plugins.module_utils.untrusted.answers import AnswerError


@given(st.integers(0, 1 << 31), st.integers(1, 1 << 20))
def test_memory_grows_to_the_next_whole_block(memory, block):
    aligned = align_memory(memory, block)
    assert aligned % block == 0
    assert 0 <= aligned - memory < block


@given(st.integers(0, (1 << 32) - 1))
def test_no_block_size_leaves_the_memory_alone(memory):
    assert align_memory(memory, 0) == memory


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


# --- what a record says of devices -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "x"},
        {"type": ""},
        {"type": ["block"]},
        {"file": 2**70},
        {"file": None},
        {"read_only": 1},
        {"index": True},
        {"rate_limit": "/"},
    ],
)
def test_a_recorded_device_of_another_form_is_a_typed_error(wrong):
    with pytest.raises(StoreError, match="device d cannot be used"):
        make_device({"id": "d", "type": "block", "file": "/d", "index": 0, **wrong})


def test_a_recorded_device_that_newer_rules_refuse_can_still_be_removed():
    assert device_id(make_device({"id": "s", "type": "fs", "tag": "x" * 40, "path": "/p", "read_only": False})) == "s"


KEPT = as_record(BlockDrive("/d", id="d", rate_limit=RateLimit(ops=3)))


def test_a_kept_device_comes_back():
    assert from_record(KEPT) == BlockDrive("/d", id="d", rate_limit=RateLimit(ops=3))


@given(
    st.sampled_from(sorted(KEPT)),
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2),
)
def test_a_kept_device_with_another_value_is_a_typed_error_at_most(name, value):
    with contextlib.suppress(AnswerError):
        device_id(from_record({**KEPT, name: value}))
    with contextlib.suppress(AnswerError):
        from_record({kept: entry for kept, entry in KEPT.items() if kept != name})


@pytest.mark.parametrize(
    "bridge",
    [
        5,
        {},
        {"Type": "pci", "ID": "b", "Address": [1]},
        {"Type": "pci", "ID": "b", "Addr": []},
        {"Type": "pci", "ID": "b", "Address": {"x": "y"}},
    ],
)
def test_a_recorded_bridge_of_another_form_is_a_typed_error(bridge):
    with pytest.raises(AnswerError):
        QemuState.from_dict({"bridges": [bridge]})
