# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk names and SCSI addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.guest.disks import (
    scsi_address,
    scsi_id_lun,
    virtio_disk_name,
)


def _index(name: str) -> int:
    """The index of a disk's name, by the reading that `sd` and `virtio_blk` of Linux write."""
    number = 0
    for letter in name[2:]:
        number = number * 26 + ord(letter) - ord("a") + 1
    return number - 1


@given(st.integers(0, 1 << 40))
def test_a_name_leads_back_to_its_index(index):
    assert _index(virtio_disk_name(index)) == index


@given(st.integers(0, 65535))
def test_an_address_leads_back_to_its_index(index):
    scsi_id, lun = scsi_id_lun(index)
    assert (scsi_id * 256 + lun, lun < 256) == (index, True)
    assert scsi_address(index) == f"{scsi_id}:{lun}"


@pytest.mark.parametrize(("index", "name"), [(0, "vda"), (25, "vdz"), (26, "vdaa"), (701, "vdzz"), (702, "vdaaa")])
def test_names_around_the_turns(index, name):
    assert virtio_disk_name(index) == name


@pytest.mark.parametrize("index", [-1, 65536])
def test_an_index_out_of_range_is_refused(index):
    with pytest.raises(ConfigError) as caught:
        scsi_id_lun(index)
    assert caught.value.wanted == index


def test_a_negative_disk_has_no_name():
    with pytest.raises(ConfigError):
        virtio_disk_name(-1)
