# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's Firecrackers and jailers can do. Runs programs for their versions, changes nothing."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Sequence

from ...errors import HypervisorError
from ...host.programs import check_program, existing_programs
from ..common.vmm_facts import unknown_vmm
from . import vulnerabilities

KVM = "/dev/kvm"

#: See `Hypervisor.capability_columns`.
CAPABILITY_COLUMNS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "0.21, 0.22": ({"version": [0, 21, 3]}, {"use_vsock": True}),
    "0.23": ({"version": [0, 23, 3]}, {"use_vsock": True}),
    "0.24, 0.25": ({"version": [0, 25, 2]}, {"use_vsock": True}),
    "1.0 to 1.15": ({"version": [1, 15, 1]}, {"use_vsock": True}),
    "1.16 and later": ({"version": [1, 16, 1]}, {"use_vsock": True}),
    "with placeholder_drives": ({"version": [0, 21, 3]}, {"use_vsock": True, "placeholder_drives": 1}),
    "1.14 and later with max_memory_mb": (
        {"version": [1, 14, 4]},
        {"use_vsock": True, "memory_size": 128, "max_memory_mb": 512},
    ),
    "1.16 and later with enable_pci": ({"version": [1, 16, 1]}, {"use_vsock": True, "enable_pci": True}),
}


def firecrackers(wanted: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The facts of these Firecrackers, or of those in the usual places."""
    from .binary import PLACES

    return [firecracker_facts(path) for path in wanted or existing_programs(PLACES)]


def firecracker_facts(path: str, kvm: str = KVM) -> dict[str, Any]:
    """A Firecracker's version, whether a sandbox can run with it, what it can do, its known vulnerabilities, and its jailer."""
    from . import binary
    from .api import dialect

    facts = unknown_vmm("firecracker", path)
    try:
        version = binary.version_of(check_program(path, "hypervisor_path"), "Firecracker", "hypervisor_path")
    except HypervisorError as problem:
        return {**facts, "reason": str(problem)}
    facts["version"] = dialect.shown(version)
    facts["capabilities"] = dataclasses.asdict(dialect.capabilities(version))
    facts["capabilities_with_pci"] = dataclasses.asdict(dialect.capabilities(version, pci=dialect.can(version, "pci")))
    facts.update(_shown(vulnerabilities.known_vulnerabilities(version, jailer=False, pci=True)))
    always = vulnerabilities.known_vulnerabilities(version)
    if always:
        facts["reason"] = f"it has a known vulnerability ({always[0].name}); allow_vulnerable_vmm uses it all the same"
    elif not os.access(kvm, os.R_OK | os.W_OK):
        facts["reason"] = f"{kvm} cannot be opened"
    beside = os.path.join(os.path.dirname(os.path.realpath(path)), "jailer")
    jailer = next(
        iter(existing_programs([beside, *(os.path.join(os.path.dirname(place), "jailer") for place in binary.PLACES)])),
        "",
    )
    return {**facts, "usable": not facts["reason"], "jailer": jailer_facts(jailer) if jailer else None}


def jailer_facts(path: str) -> dict[str, Any]:
    """A jailer's version and known vulnerabilities, and whether a sandbox can be jailed with it."""
    from . import binary
    from .api import dialect

    facts: dict[str, Any] = {"path": path, "version": "", "usable": False, "reason": "", **_shown([])}
    try:
        version = binary.version_of(path, "Jailer", "jailer_path")
    except HypervisorError as problem:
        return {**facts, "reason": str(problem)}
    found = [one for one in vulnerabilities.known_vulnerabilities(version, jailer=True) if one.when == "jailer"]
    reason = (
        f"it has a known vulnerability ({found[0].name}); allow_vulnerable_vmm uses it all the same" if found else ""
    )
    return {
        **facts,
        "version": dialect.shown(version),
        "usable": not found,
        "reason": reason,
        **_shown(found),
    }


def _shown(found: Sequence[Any]) -> dict[str, list[dict[str, str]]]:
    """Vulnerabilities as facts, also under the name that earlier tasks use."""
    listed = [{"name": one.name, "what": one.what, "when": one.when or "always"} for one in found]
    return {"known_vulnerabilities": listed, "known_holes": listed}
