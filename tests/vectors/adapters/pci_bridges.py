# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Slots behind bridges."""

from __future__ import annotations

from typing import Any

from adapters.answer import Answer, attempt
from adapters.fields import Fields, unknown_operation
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, Unsupported
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.bridges import (
    MOST_BRIDGES,
    Bridge,
    allocate,
    release,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.machines import machine_named
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.start import planned_bridges
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig


def _add(bridges: list[Bridge], device_id: str) -> dict[str, Any]:
    slot, error = attempt(allocate, bridges, device_id)
    if error:
        return {"addr": "", "bridge_id": "", "bridge_addr": 0, "error": error}
    return {
        "addr": slot.addr,
        "bridge_id": slot.bridge.id,
        "bridge_addr": slot.bridge.address,
        "pci_addr": slot.path,
    }


def _remove(bridges: list[Bridge], device_id: str) -> dict[str, Any]:
    error = attempt(release, bridges, device_id)[1]
    return {"error": error} if error else {}


def run(given: dict[str, Any]) -> Answer:
    line = Fields(given)
    count = line.number("bridges", 0, 0)
    if count > MOST_BRIDGES:
        raise ConfigError(f"there must be at most {MOST_BRIDGES} bridges", option="bridges", wanted=count)
    # The root ports that a machine has beside its bridges are not asked for.
    machine = machine_named(line.text("machine_type") or "pc")
    if not machine.has_bridges:
        raise Unsupported(f"machine type {machine.name} has no bridges", option="bridges", wanted=count)
    bridges = planned_bridges(HypervisorConfig(default_bridges=count), machine, [])
    calls = {"add": _add, "del": _remove}
    results = []
    for operation in line.tables("ops"):
        if operation.text("op") not in calls:
            raise unknown_operation(operation.text("op"))
        results.append(calls[operation.text("op")](bridges, operation.text("id")))
    return Answer({"results": results, "final": [bridge.as_dict() for bridge in bridges]})
