# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's ACRN can do. Runs programs for their versions, changes nothing."""

from __future__ import annotations

import dataclasses
from typing import Any, Sequence

from ...errors import HypervisorError
from ...host.programs import check_program, existing_programs
from ..common.vmm_facts import unknown_vmm

#: See `Hypervisor.capability_columns`.
CAPABILITY_COLUMNS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ACRN 1.0 to 3.4": ({"version": [3, 4]}, {}),
}


def acrns(wanted: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The facts of these device models of ACRN, or of the one in the usual place."""
    from .start import DEFAULT_DM

    return [acrn_facts(path) for path in wanted or existing_programs([DEFAULT_DM])]


def acrn_facts(path: str) -> dict[str, Any]:
    """An acrn-dm's version, whether this host runs on ACRN, what it can do, and how it knows its VMs."""
    from . import command_line, start, vmm
    from .capabilities import capabilities

    facts = unknown_vmm("acrn", path)
    try:
        version = start.version_of(check_program(path, "hypervisor_path"))
    except HypervisorError as problem:
        return {**facts, "reason": str(problem)}
    facts["version"] = ".".join(map(str, version))
    facts["capabilities"] = dataclasses.asdict(capabilities())
    facts["vms_are_known_by"] = "uuid" if command_line.dialect_for(version).by_uuid else "name"
    try:
        vmm.check_host(start.HSM_DEVICES)
    except HypervisorError as problem:
        return {**facts, "reason": problem.message}
    return {**facts, "usable": True}
