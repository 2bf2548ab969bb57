# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a sandbox is, from what is remembered of it and what is true of its VM. Pure."""

from __future__ import annotations

from ..hypervisors.base import Observed
from ..records.record import SandboxRecord

#: Phases of a record in which a task was making a VM or ending it.
HALF_WAY = ("starting", "restoring", "stopping")


def situation(record: SandboxRecord | None, observed: Observed) -> str:
    """What there is: off, saved, running, paused, unresponsive, or broken (crashed, panicked, incomplete or with leftovers)."""
    if observed.power == "unresponsive" and record is not None:
        # One that a killed task was starting or ending does not answer yet, or any more; no guest is lost with it.
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
    """The state for people: absent, stopped, started, paused, saved, crashed, failed, unresponsive or incomplete.

    Crashed is what should run and does not; failed is a VMM whose guest is lost; unresponsive is one that does not answer; incomplete is what
    a killed task left.
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
    """What `situation` gave, as a value of a task's `state`."""
    return {"off": "stopped", "running": "started"}.get(now, now)


def as_saved(record: SandboxRecord, observed: Observed) -> Observed:
    """The VM that a saved state holds: as the record has it, with the limits that its driver remembers."""
    effective = record.effective()
    return Observed(
        vcpus=effective.get("vcpus") or 0,
        min_vcpus=observed.min_vcpus,
        memory_mb=effective.get("memory_mb") or 0,
        min_memory_mb=observed.min_memory_mb,
        devices=[device["id"] for device in record.devices],
    )
