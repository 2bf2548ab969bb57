# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's QEMUs can do. Runs programs for their versions, changes nothing."""

from __future__ import annotations

import os
from typing import Any, Sequence

from ...errors import HypervisorError
from ...host.programs import existing_programs
from ..common.vmm_facts import unknown_vmm

#: See `Hypervisor.capability_columns`.
CAPABILITY_COLUMNS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "q35 or pc, KVM": ({"accelerator": "kvm"}, {"hypervisor_machine_type": "q35"}),
    "q35 or pc, TCG": ({"accelerator": "tcg"}, {"hypervisor_machine_type": "q35"}),
    "microvm": ({"accelerator": "kvm"}, {"hypervisor_machine_type": "microvm"}),
    "virt (aarch64)": ({"accelerator": "kvm"}, {"hypervisor_machine_type": "virt"}),
    "pseries (ppc64le), KVM": ({"accelerator": "kvm"}, {"hypervisor_machine_type": "pseries"}),
    "s390-ccw-virtio (s390x)": ({"accelerator": "kvm"}, {"hypervisor_machine_type": "s390-ccw-virtio"}),
}


def accelerator_facts(qemu: str, run_dir: str, kernel_path: str = "") -> dict[str, Any]:
    """What a sandbox with `accelerator=auto` runs with, and why."""
    if not qemu:
        return {"accelerator": "", "reason": "there is no QEMU that could try it", "evidence": ""}
    from .accelerator import choose

    return choose(qemu, run_dir, kernel_path, keep=False).as_dict()


def qemus(wanted: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The facts of these QEMUs, or of those in the usual places."""
    return [qemu_facts(path, wanted=bool(wanted)) for path in wanted or usual_qemus()]


def usual_qemus() -> list[str]:
    """The QEMU binaries in the places where a sandbox would look for one."""
    from .machines import host_architecture

    try:
        places = host_architecture().binaries
    except HypervisorError:
        return []
    return existing_programs(places)


def qemu_facts(path: str, wanted: bool = False) -> dict[str, Any]:
    """A QEMU binary's version, and whether a sandbox can run with it."""
    from .binary import version_of

    facts = unknown_vmm("qemu", path)
    if wanted and not os.access(path, os.X_OK):
        return {**facts, "reason": "there is no program of that name"}
    try:
        facts["version"] = ".".join(map(str, version_of(path)))
    except HypervisorError as problem:
        return {**facts, "reason": str(problem)}
    return {**facts, "usable": True}
