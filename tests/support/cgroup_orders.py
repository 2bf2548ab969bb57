# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two jailed sandboxes, one with settings of its cgroup and one without: in version 2 a cgroup with processes can have no settings for those below it."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker import jailer
from tests.support.firecracker_lab import FirecrackerLab

#: Which of two has settings.
ORDERS = [(True, False), (False, True)]


def check_order(lab: FirecrackerLab, order: tuple[bool, bool]) -> None:
    """Start both, restart both, remove both; each time the other one goes on, and no cgroup is left."""
    old = jailer.cgroup_version() == 1
    base = pathlib.Path("/sys/fs/cgroup") / ("cpu" if old else "")
    try:
        (base / "kata-probe").mkdir()
        (base / "kata-probe").rmdir()
    except OSError as problem:
        pytest.skip(f"cgroups cannot be made here: {problem}")
    setting = "cpu.shares=512" if old else "cpu.weight=50"
    parents = []
    for number, with_settings in enumerate(order):
        lab.start(f"s{number}", **({"jailer_cgroups": [setting]} if with_settings else {}))
        jail = lab.driver(f"s{number}").vmm.state.jail
        assert jail is not None and bool(jailer.cgroups(jail)) == with_settings
        parents.append(base / jail.cgroup_parent)
    for number in (0, 1):
        assert lab.run(f"s{number}", state="restarted", stop_timeout=0)["sandbox"]["state"] == "started"
        lab.run(f"s{number}", state="absent", stop_timeout=0)
        assert lab.facts(f"s{1 - number}")["state"] == ("started" if number == 0 else "absent")
    assert not [str(path) for path in parents if path.exists()]
