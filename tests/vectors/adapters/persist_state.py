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
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.classic.state import (
    ClassicState,
    Handover,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig

#: The VM that the vectors hand over.
SMP = {"CPUs": 2, "Cores": 1, "Threads": 1, "Sockets": 8, "MaxCPUs": 8}
QMP_SOCKET = "/run/vc/vm/x/qmp.sock"


def _qemu(stored: dict[str, Any]) -> Answer:
    state = ClassicState.from_store(stored)
    snapshot = state.as_snapshot(0)
    loaded = ClassicState.from_snapshot(snapshot)
    handover = Handover("nosuch", QMP_SOCKET, state, 1, SMP).to_bytes()
    arrived, error = attempt(Handover.from_bytes, handover)
    if error:
        return Answer(UNSET, error.error)
    return Answer(
        {
            "persist_state": snapshot,
            "state_after_load_into_empty": loaded.as_store(),
            "state_after_second_load": ClassicState.from_snapshot(snapshot).as_store(),
            "to_grpc": json.loads(handover),
            "from_grpc_error": error,
            "state_after_from_grpc": arrived.state.as_store(),
        }
    )


def run(given: dict[str, Any]) -> Answer:
    line = Fields(given)
    name = line.text("driver")
    if name == "qemu":
        return _qemu(line.table("hypervisor_json_old_store").values)
    driver = new_hypervisor(name, Context("golden", "/nonexistent/run", "/nonexistent/state"))
    answer = {"persist_state": driver.save(), "to_grpc_error": attempt(driver.to_grpc)[1]}
    if name == "mock":
        answer["from_grpc_error"] = attempt(driver.from_grpc, HypervisorConfig(), b"")[1]
    return Answer(answer)
