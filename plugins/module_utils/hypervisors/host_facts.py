# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gather the facts of a host for `kata_host_info`. It runs programs and changes nothing."""

from __future__ import annotations

import dataclasses
import os
import platform
from typing import Any, Mapping, Sequence

from ..errors import HypervisorError
from ..host import facts, proc
from ..options.config import HypervisorConfig
from . import DRIVERS, driver_class, new_hypervisor
from .base import Context
from .qemu.facts import accelerator_facts

DEVICES = {
    "kvm": "/dev/kvm",
    "vhost_net": "/dev/vhost-net",
    "vhost_vsock": "/dev/vhost-vsock",
    "tun": "/dev/net/tun",
    "vfio": "/dev/vfio/vfio",
    "acrn_hsm": "/dev/acrn_hsm",
    "acrn_vhm": "/dev/acrn_vhm",
}


def gather(
    run_dir: str,
    state_dir: str,
    paths: Mapping[str, Sequence[str]] | None = None,
    kernel_path: str = "",
    probe: bool = True,
) -> dict[str, Any]:
    """The host's facts.

    :param run_dir: where the result of the accelerator's test is cached
    :param paths: programs to look at, by hypervisor; those in the usual places for a hypervisor that has none here
    :param kernel_path: a guest kernel for the decisive test of KVM
    :param probe: run guest code to find out whether KVM works
    """
    wanted = paths or {}
    vmms = [vmm for name in DRIVERS for vmm in driver_class(name).host_facts(wanted.get(name, ()))]
    qemus = [vmm for vmm in vmms if vmm["hypervisor"] == "qemu" and vmm["usable"]]
    accelerator = {"accelerator": "", "reason": "it was not asked for"}
    if probe:
        accelerator = accelerator_facts(qemus[0]["path"] if qemus else "", run_dir, kernel_path)
    for vmm in qemus:
        vmm["capabilities"] = _capabilities("qemu", vmm["path"], accelerator["accelerator"])
    return {
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "cpus": os.cpu_count() or 1,
        "memory": facts.memory_facts(),
        "huge_pages": facts.huge_page_facts(),
        "is_virtual_machine": _is_virtual_machine(),
        "nested_virtualization": facts.nested_facts(),
        "devices": {name: facts.device_facts(path) for name, path in DEVICES.items()},
        "accelerator": accelerator,
        "hypervisors": vmms,
        "free_space": {
            name: facts.free_space_mb(path) for name, path in (("state_dir_mb", state_dir), ("run_dir_mb", run_dir))
        },
    }


def _capabilities(hypervisor: str, path: str, accelerator: str) -> dict[str, Any]:
    """What can be done with a sandbox of the default machine type."""
    driver = new_hypervisor(hypervisor, Context("host", "", ""))
    try:
        driver.load({"accelerator": accelerator}, HypervisorConfig(hypervisor_path=path))
        return dataclasses.asdict(driver.capabilities())
    except HypervisorError:
        return {}


def _is_virtual_machine() -> bool | None:
    try:
        return proc.read_running_on_vmm(machine=platform.machine())
    except HypervisorError:
        return None
