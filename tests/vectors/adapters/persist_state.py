# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What drivers remember, and how a VM is handed over."""

from __future__ import annotations

import json
from typing import Any

from adapters.answer import UNSET, Answer, attempt
from adapters.fields import Fields
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors import new_hypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context, Hypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig


def _driver(name: str) -> Hypervisor:
    return new_hypervisor(name, Context("nosuch", "/nonexistent/run", "/nonexistent/state"))


def _in_old_words(driver: Hypervisor, state: dict[str, Any]) -> dict[str, Any]:
    """A state of the QEMU driver in the words of `hypervisor.json`. What is plugged in is not remembered, but asked of QEMU."""
    return {
        "Bridges": state["bridges"],
        "UUID": state["uuid"],
        "HotplugVFIOOnRootBus": driver.hypervisor_config().hotplug_vfio_on_root_bus,
    }


def _as_snapshot(driver: Hypervisor) -> dict[str, Any]:
    """What a driver remembers in the words of the new store."""
    found = _in_old_words(driver, driver.save())
    bridges = [
        {"DeviceAddr" if name == "Address" else name: value for name, value in bridge.items()}
        for bridge in found["Bridges"]
    ]
    return {**found, "Bridges": bridges, "Pid": driver.pid(), "Type": driver.name, "BlockIndex": 0}


def _qemu(stored: Fields) -> Answer:
    config = HypervisorConfig(hotplug_vfio_on_root_bus=stored.flag("HotplugVFIOOnRootBus"))
    recorded = {"uuid": stored.text("UUID"), "bridges": stored.items("Bridges")}
    driver, arrived = _driver("qemu"), _driver("qemu")
    driver.load(recorded, config)
    snapshot = _as_snapshot(driver)
    loaded = _in_old_words(driver, driver.save())
    driver.load(driver.save(), config)
    handover = json.loads(driver.to_grpc())
    error = attempt(arrived.from_grpc, config, json.dumps(handover).encode())[1]
    if error:
        return Answer(UNSET, error.error)
    return Answer(
        {
            "persist_state": snapshot,
            "state_after_load_into_empty": loaded,
            "state_after_second_load": _in_old_words(driver, driver.save()),
            "to_grpc": {"ID": handover["id"], "State": _in_old_words(driver, handover["state"])},
            "from_grpc_error": None,
            "state_after_from_grpc": _in_old_words(arrived, arrived.save()),
        }
    )


def run(given: dict[str, Any]) -> Answer:
    line = Fields(given)
    name = line.text("driver")
    if name == "qemu":
        return _qemu(line.table("hypervisor_json_old_store"))
    driver = _driver(name)
    answer = {"persist_state": driver.save(), "to_grpc_error": attempt(driver.to_grpc)[1]}
    if name == "mock":
        answer["from_grpc_error"] = attempt(driver.from_grpc, HypervisorConfig(), b"")[1]
    return Answer(answer)
