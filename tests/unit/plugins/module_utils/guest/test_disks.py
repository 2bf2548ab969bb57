# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SCSI addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.guest.disks import scsi_id_lun


@given(st.integers(0, 65535))
def test_an_address_leads_back_to_its_index(index):
    scsi_id, lun = scsi_id_lun(index)
    assert (scsi_id * 256 + lun, lun < 256) == (index, True)


@pytest.mark.parametrize("index", [-1, 65536])
def test_an_index_out_of_range_is_refused(index):
    with pytest.raises(ConfigError) as caught:
        scsi_id_lun(index)
    assert caught.value.wanted == index
