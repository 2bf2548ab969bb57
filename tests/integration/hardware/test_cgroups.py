# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jailed Firecrackers on a host with cgroups of version 2. KATA_TEST_FIRECRACKER and KATA_TEST_JAILER name the binaries."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.support.cgroup_orders import ORDERS, check_order
from tests.support.firecracker_lab import FirecrackerLab
from tests.support.lab import removed_afterwards
from tests.support.stand_ins import REAL_FIRECRACKER, REAL_JAILER


@pytest.mark.parametrize("order", ORDERS)
def test_jailed_sandboxes_with_and_without_settings_of_their_cgroup(order: tuple[bool, bool]) -> None:
    if not REAL_FIRECRACKER or not REAL_JAILER:
        pytest.skip("KATA_TEST_FIRECRACKER and KATA_TEST_JAILER name no binaries")
    if not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        subprocess.run(["mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"], check=True)
    with removed_afterwards(FirecrackerLab(True, start_timeout=300)) as lab:
        check_order(lab, order)
