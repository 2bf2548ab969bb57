# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Firecracker alone can tell of a VM, by name, for its user."""

from __future__ import annotations

import os
from typing import Any

from ...errors import VmmError
from .api import dialect
from .names import METRICS
from .vmm import Vmm


def driver_details(vmm: Vmm) -> dict[str, Any]:
    """Its version, its jail, where its metrics are, and what its balloon holds. Never raises: what cannot be asked is left out."""
    state = vmm.state
    found: dict[str, Any] = {"vmm_version": dialect.shown(vmm.version) if state.version else "", "uuid": state.uuid}
    if state.jail is not None:
        found["jail"] = state.jail.root
    metrics = vmm.written(METRICS)
    if state.vsock:
        found["vsock_socket"] = state.vsock
    if os.path.exists(metrics):
        found["metrics_log"] = metrics
        if vmm.process() is not None:
            try:  # By itself Firecracker writes them every minute.
                vmm.api().put("/actions", {"action_type": "FlushMetrics"})
            except VmmError:
                pass
    if "balloon" in state.singles and vmm.process() is not None:
        try:
            found["balloon"] = _balloon(vmm)
        except VmmError:
            pass  # It answers nothing; the state says so already.
    return found


def _balloon(vmm: Vmm) -> dict[str, Any]:
    """What the balloon shall hold and, where the guest tells of its memory, what it does hold and what that memory is used for."""
    api = vmm.api()
    config = api.get("/balloon")
    told = api.get("/balloon/statistics") if config.get("stats_polling_interval_s") else {}
    return {
        "target_mb": config.get(dialect.balloon_word(vmm.version)),
        "actual_mb": told.get("actual_mib"),
        "statistics": told,
    }
