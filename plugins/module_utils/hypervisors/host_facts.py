# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host offers to sandboxes. Looks and runs programs, changes nothing."""

from __future__ import annotations

import dataclasses
import os
import platform
import re
from typing import Any, Sequence

from ..errors import HypervisorError
from ..host import proc
from .common import vmm_facts

#: Devices of the host that kinds of sandbox devices need.
DEVICES = {
    "kvm": "/dev/kvm",
    "vhost_net": "/dev/vhost-net",
    "vhost_vsock": "/dev/vhost-vsock",
    "tun": "/dev/net/tun",
    "vfio": "/dev/vfio/vfio",
    "acrn_hsm": "/dev/acrn_hsm",
    "acrn_vhm": "/dev/acrn_vhm",
}

NESTED = ("/sys/module/kvm_intel/parameters/nested", "/sys/module/kvm_amd/parameters/nested")

HUGE_PAGES = "/sys/kernel/mm/hugepages"

MIB = 1024 * 1024


def gather(
    run_dir: str,
    state_dir: str,
    qemu_paths: Sequence[str] = (),
    kernel_path: str = "",
    probe: bool = True,
    firecracker_paths: Sequence[str] = (),
    acrn_dm_paths: Sequence[str] = (),
) -> dict[str, Any]:
    """The host's facts.

    :param run_dir: where the accelerator's verdict is remembered
    :param qemu_paths: QEMU binaries to look at; those in the usual places when there are none
    :param kernel_path: a guest kernel for the decisive test of KVM
    :param firecracker_paths: Firecrackers to look at, in the same way
    :param acrn_dm_paths: ACRN's device models to look at, in the same way
    :param probe: run guest code to find out whether KVM works
    """
    vmms = [qemu_facts(path, wanted=bool(qemu_paths)) for path in qemu_paths or usual_qemus()]
    usable = next((vmm["path"] for vmm in vmms if vmm["usable"]), "")
    accelerator = (
        accelerator_facts(usable, run_dir, kernel_path)
        if probe
        else {"accelerator": "", "reason": "it was not asked for"}
    )
    for vmm in vmms:
        if vmm["usable"]:
            vmm["capabilities"] = qemu_capabilities(vmm["path"], accelerator["accelerator"])
    return {
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "cpus": os.cpu_count() or 1,
        "memory": memory_facts(),
        "huge_pages": huge_page_facts(),
        "is_virtual_machine": _is_virtual_machine(),
        "nested_virtualization": nested_facts(),
        "devices": {name: device_facts(path) for name, path in DEVICES.items()},
        "accelerator": accelerator,
        "hypervisors": [*vmms, *vmm_facts.firecrackers(firecracker_paths), *vmm_facts.acrns(acrn_dm_paths)],
        "free_space": {
            name: free_space_mb(path) for name, path in (("state_dir_mb", state_dir), ("run_dir_mb", run_dir))
        },
    }


def accelerator_facts(qemu: str, run_dir: str, kernel_path: str = "") -> dict[str, Any]:
    """What a sandbox with `accelerator=auto` runs with, and why."""
    if not qemu:
        return {"accelerator": "", "reason": "there is no QEMU that could try it", "evidence": ""}
    from .qemu.accelerator import choose

    return choose(qemu, run_dir, kernel_path, keep=False).as_dict()


def usual_qemus() -> list[str]:
    """The QEMU binaries in the places where a sandbox would look for one."""
    from .qemu.machines import host_architecture

    try:
        places = host_architecture().binaries
    except HypervisorError:
        return []
    found: dict[str, str] = {}
    for path in places:
        if os.access(path, os.X_OK):
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def qemu_facts(path: str, wanted: bool = False) -> dict[str, Any]:
    """A QEMU binary's version, and whether a sandbox can run with it."""
    from .qemu.binary import version_of

    facts: dict[str, Any] = {
        "hypervisor": "qemu",
        "path": path,
        "version": "",
        "usable": False,
        "reason": "",
        "capabilities": {},
    }
    if wanted and not os.access(path, os.X_OK):
        return {**facts, "reason": "there is no program of that name"}
    try:
        facts["version"] = ".".join(map(str, version_of(path)))
    except HypervisorError as problem:
        return {**facts, "reason": str(problem)}
    return {**facts, "usable": True}


def qemu_capabilities(path: str, accelerator: str) -> dict[str, Any]:
    """What can be done with a sandbox of the default machine type."""
    from ..options.config import HypervisorConfig
    from . import new_hypervisor
    from .base import Context

    driver = new_hypervisor("qemu", Context("host", "", ""))
    try:
        driver.load({"accelerator": accelerator}, HypervisorConfig(hypervisor_path=path))
        return dataclasses.asdict(driver.capabilities())
    except HypervisorError:
        return {}


def memory_facts(path: str = proc.MEMINFO) -> dict[str, int]:
    """Memory of the host in MiB, in all and what a new process can have."""
    try:
        with open(path, encoding="ascii", errors="replace") as stream:
            return parse_memory(stream.read(proc.FILE_LIMIT))
    except OSError:
        return parse_memory("")


def parse_memory(text: str) -> dict[str, int]:
    """Memory in MiB, in all and what a new process can have, from the content of meminfo; 0 for what it does not tell."""
    facts = {}
    for name, word in (("total_mb", "MemTotal"), ("available_mb", "MemAvailable")):
        found = re.search(rf"^{word}:[ \t]+([0-9]{{1,{proc.MOST_DIGITS}}}) kB$", text, re.MULTILINE)
        facts[name] = int(found[1]) // 1024 if found else 0
    return facts


def huge_page_facts(root: str = HUGE_PAGES) -> list[dict[str, int]]:
    """The host's pools of huge pages, by size in KiB."""
    pools = []
    try:
        names = os.listdir(root)
    except OSError:
        return []
    for name in names:
        found = re.fullmatch(r"hugepages-([0-9]{1,12})kB", name)
        if found:
            counts = {word: _number(os.path.join(root, name, f"{word}_hugepages")) for word in ("nr", "free")}
            pools.append({"size_kb": int(found[1]), "total": counts["nr"], "free": counts["free"]})
    return sorted(pools, key=lambda pool: pool["size_kb"])


def nested_facts(paths: Sequence[str] = NESTED) -> bool | None:
    """Whether this host's KVM guests may run KVM themselves; None where KVM's module is not loaded."""
    for path in paths:
        word = _text(path)
        if word:
            return word in ("Y", "1")
    return None


def device_facts(path: str) -> dict[str, Any]:
    """Whether a device is there and this task's user may open it."""
    there = os.path.exists(path)
    return {"path": path, "exists": there, "accessible": there and os.access(path, os.R_OK | os.W_OK)}


def free_space_mb(path: str) -> int:
    """Space left for a directory, or for the first of its parents that exists, in MiB."""
    while path and not os.path.isdir(path):
        path = os.path.dirname(path)
    try:
        space = os.statvfs(path or "/")
    except OSError:
        return 0
    return space.f_bavail * space.f_frsize // MIB


def _is_virtual_machine() -> bool | None:
    try:
        return proc.read_running_on_vmm(machine=platform.machine())
    except HypervisorError:
        return None


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as stream:
            return stream.read(4096).strip()
    except OSError:
        return ""


def _number(path: str) -> int:
    text = _text(path)
    return int(text) if text.isdigit() and len(text) <= proc.MOST_DIGITS else 0
