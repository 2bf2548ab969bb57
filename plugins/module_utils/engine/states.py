# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a sandbox, computed from its record and its observed VM. Pure."""

from __future__ import annotations

from ..hypervisors.base import Observed
from ..records.record import SandboxRecord

#: Phases of a record in which a task starts or ends a VM.
HALF_WAY = ("starting", "restoring", "stopping")


def situation(record: SandboxRecord | None, observed: Observed) -> str:
    """The state as the planner sees it: off, saved, running, paused, unresponsive, or broken (crashed, panicked, incomplete or with leftovers)."""
    if observed.power == "unresponsive" and record is not None:
        # A VM that a killed task was starting or ending does not answer yet, or no longer; no guest is lost with it.
        return "broken" if record.phase in HALF_WAY else "unresponsive"
    if record is None:
        return "broken" if observed.power != "off" or observed.leftovers else "off"
    if observed.power == "failed" or (observed.power == "off" and observed.leftovers):
        return "broken"
    if observed.power == "off":
        if record.saved_state:
            return "saved"
        return "broken" if record.desired != "stopped" else "off"
    # A clone runs before it has all its devices and memory.
    unfinished = observed.power != "running" or observed.leftovers or record.effective().get("template")
    half_started = record.phase == "starting" and unfinished
    if half_started or record.phase == "restoring":
        return "broken"
    return observed.power


def state_of(record: SandboxRecord | None, observed: Observed) -> str:
    """The state as users see it: absent, stopped, started, paused, saved, crashed, failed, unresponsive or incomplete.

    A crashed sandbox should run and does not. A failed one has a VMM whose guest is lost. An unresponsive one has a VMM that does not answer.
    An incomplete one was left by a killed task.
    """
    if record is None:
        return "incomplete" if observed.power != "off" or observed.leftovers else "absent"
    if record.phase == "removing":
        return "incomplete"
    if observed.power == "failed" or (observed.power == "unresponsive" and record.phase not in HALF_WAY):
        return observed.power
    now = situation(record, observed)
    if now == "broken":
        if record.phase in HALF_WAY and (record.phase != "stopping" or observed.power == "unresponsive"):
            return "incomplete"
        if record.desired == "stopped" or (
            observed.power == "off" and observed.ended_by_guest and not record.saved_state
        ):
            return "stopped"
        return "saved" if record.saved_state else "crashed"
    return settled_state(now)


def settled_state(now: str) -> str:
    """The value of the option `state` for a result of `situation`."""
    return {"off": "stopped", "running": "started"}.get(now, now)


def as_saved(record: SandboxRecord, observed: Observed) -> Observed:
    """The VM in a saved state: its recorded options and devices, with the limits that its driver recorded."""
    effective = record.effective()
    return Observed(
        vcpus=record.saved_vcpus or effective.get("vcpus") or 0,
        min_vcpus=observed.min_vcpus,
        memory_mb=effective.get("memory_mb") or 0,
        min_memory_mb=observed.min_memory_mb,
        devices=[device["id"] for device in record.devices],
    )
