# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a driver in a record may be anything: it is loaded, or refused with a typed error."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors import HYPERVISORS, new_hypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.acrn.vmm import AcrnState
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.state import FirecrackerState
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.bridges import make_bridges
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.state import QemuState
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig
from tests.support.wrong_answers import junk

PROCESS = {"pid": 1, "start_time": 2, "executable": "/bin/x", "boot": ""}
STATES: dict[str, dict[str, Any]] = {
    "qemu": {
        **QemuState().as_dict(),
        "process": PROCESS,
        "bridges": [bridge.as_dict() for bridge in make_bridges(2, "pci")],
        "daemons": {"a": PROCESS},
    },
    "firecracker": {
        **FirecrackerState().as_dict(),
        "process": PROCESS,
        "jail": {"base": "/j", "program": "f", "id": "a", "uid": 1, "gid": 1},
    },
    "acrn": {**dataclasses.asdict(AcrnState()), "process": PROCESS, "placeholders": ["a", ""], "slots": [5, 6]},
    "mock": {"started": True, "cold_devices": {"a": "block"}},
}
STATES["qemu"]["bridges"][0]["Address"] = {"1": "disk"}


def _changed(value: Any, random_: random.Random) -> Any:
    """The value with one place exchanged."""
    if isinstance(value, dict) and value and random_.random() < 0.9:
        name = random_.choice(sorted(value))
        if random_.random() < 0.2:
            return {key: one for key, one in value.items() if key != name}
        return (
            {**value, name: _changed(value[name], random_)} if random_.random() < 0.95 else {**value, "x": value[name]}
        )
    if isinstance(value, list) and value and random_.random() < 0.7:
        position = random_.randrange(len(value))
        return [*value[:position], _changed(value[position], random_), *value[position + 1 :]]
    return random_.choice([junk(random_), float("inf"), float("nan")])


def test_each_driver_has_a_recorded_state() -> None:
    assert set(STATES) == set(HYPERVISORS)


@pytest.mark.parametrize("name", STATES)
def test_a_recorded_state_is_loaded_or_refused(name: str) -> None:
    random_ = random.Random(name)
    context = Context("a", "/nonexistent/run", "/nonexistent/state")
    driver = new_hypervisor(name, context)
    driver.load(STATES[name], HypervisorConfig())
    loaded = 0
    for _number in range(3000):
        driver = new_hypervisor(name, context)
        try:
            driver.load(_changed(STATES[name], random_), HypervisorConfig())
        except HypervisorError:
            continue
        driver.save()
        loaded += 1
    assert 0 < loaded < 3000
