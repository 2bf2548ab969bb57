# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A task that is killed right before any of its changes to the file system: the next one reaches the goal, and nothing is left over."""

from __future__ import annotations

from typing import Any, Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.converge import converge
from tests.support.firecracker_lab import FirecrackerLab
from tests.support.killing import KILLED, run_killed
from tests.support.lab import removed_afterwards
from tests.support.stand_ins import IS_ROOT

#: Every so many changes a task is killed; one that is prime meets different places in each task.
STRIDE = 5


@pytest.fixture(params=["plain", "jailed"])
def lab(request: pytest.FixtureRequest) -> Iterator[FirecrackerLab]:
    """Firecrackers in a jail, and without one."""
    if request.param == "jailed" and not IS_ROOT:
        pytest.skip("only root can make a jail")
    with removed_afterwards(FirecrackerLab(request.param == "jailed")) as made:
        yield made


def kill_before(lab: FirecrackerLab, change: int, **wish: Any) -> bool:
    """Run a task that is killed right before a change; whether it got that far."""
    spec = lab.spec(**wish)
    return run_killed(lab.root, change, lambda: converge(spec)) == KILLED


def test_killed_while_it_starts(lab: FirecrackerLab) -> None:
    wish = {"state": "started", **lab.options, "devices": [{"id": "d", "type": "block", "file": lab.file("d")}]}
    change = 1
    while kill_before(lab, change, **wish):
        assert lab.run(**wish)["sandbox"]["state"] == "started"
        assert len([line for line in lab.processes() if "--api-sock" in line]) == 1
        lab.remove_all()
        change += STRIDE
    assert change > 4 * STRIDE
    assert lab.facts()["state"] == "started"


def test_killed_while_it_is_saved_and_brought_back(lab: FirecrackerLab) -> None:
    lab.start()
    for state in ("saved", "started"):
        change = 1
        while kill_before(lab, change, state=state):
            assert lab.run(state=state)["sandbox"]["state"] == state
            lab.run(state="started" if state == "saved" else "saved")
            change += STRIDE
        assert lab.facts()["state"] == state and change > STRIDE


def test_killed_while_it_is_removed(lab: FirecrackerLab) -> None:
    lab.start()
    change = 1
    while kill_before(lab, change, state="absent", stop_timeout=0):
        lab.run(state="absent")
        assert lab.processes() == [] and lab.jails() == []
        lab.start()
        change += STRIDE
    assert lab.facts()["state"] == "absent"
