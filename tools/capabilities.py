#!/usr/bin/env python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes docs/capabilities.md out of the drivers' own capabilities, the same that errors, facts and check mode use: `capabilities.py [--check]`."""

from __future__ import annotations

import dataclasses
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/capabilities.md"
sys.path.insert(0, str(ROOT / "tests"))

import checkout  # noqa: E402

checkout.make_importable()

from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors import new_hypervisor  # noqa: E402
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Capabilities, Context  # noqa: E402
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker import vulnerabilities  # noqa: E402
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.api.dialect import FEATURES, shown  # noqa: E402
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.api.endpoints import find  # noqa: E402
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig  # noqa: E402

#: What a capability is called for people.
WORDS = {
    "block_device": "disks",
    "block_device_hotplug": "plug a disk",
    "block_device_unplug": "unplug a disk",
    "device_update": "change a disk's file, an interface's limits",
    "disk_limit_update": "change a disk's limits",
    "balloon_update": "change a balloon's size",
    "pmem_hotplug": "plug persistent memory",
    "pmem_unplug": "unplug persistent memory",
    "pmem_update": "change the limits of persistent memory",
    "metadata_update": "change what the metadata service tells",
    "network_hotplug": "plug and unplug an interface",
    "fs_sharing": "share directories",
    "fs_hotplug": "plug a shared directory",
    "serial_hotplug": "plug a serial port",
    "vsock_hotplug": "plug a vsock",
    "vfio_hotplug": "plug a VFIO device",
    "vhost_user_hotplug": "plug a vhost-user device",
    "multi_queue": "interfaces with many queues",
    "pause": "pause and resume",
    "save": "save and restore",
    "vcpu_hotplug": "more vCPUs",
    "vcpu_unplug": "fewer vCPUs",
    "memory_grow": "more memory",
    "memory_shrink": "less memory",
    "guest_agent": "ask an agent in the guest",
}


#: What takes a request of its own, in words.
REQUESTS = {
    ("PATCH", "/vm"): "pause and resume",
    ("PUT", "/snapshot/create"): "snapshots",
    ("PUT", "/vsock"): "vsock",
    ("PUT", "/entropy"): "entropy device",
    ("PUT", "/cpu-config"): "CPU configurations",
    ("PUT", "/balloon"): "balloon",
    ("PUT", "/pmem/x"): "persistent memory",
    ("PATCH", "/pmem/x"): "change of limits of persistent memory",
    ("PUT", "/hotplug/memory"): "memory hotplug",
    ("DELETE", "/drives/x"): "hotplug by PCI",
}


def of(name: str, state: dict[str, object], **options: object) -> Capabilities:
    """What the driver says of a VM in that state, made with these options."""
    driver = new_hypervisor(name, Context("matrix", "/nonexistent/run", "/nonexistent/sandboxes/matrix"))
    driver.load(state, HypervisorConfig(**options))  # type: ignore[arg-type]
    return driver.capabilities()


def columns() -> dict[str, dict[str, Capabilities]]:
    """The tables, and the columns of each."""
    region = {"memory_size": 128, "max_memory_mb": 512}
    return {
        "QEMU": {
            "q35 or pc, KVM": of("qemu", {"accelerator": "kvm"}, hypervisor_machine_type="q35"),
            "q35 or pc, TCG": of("qemu", {"accelerator": "tcg"}, hypervisor_machine_type="q35"),
            "microvm": of("qemu", {"accelerator": "kvm"}, hypervisor_machine_type="microvm"),
            "virt (aarch64)": of("qemu", {"accelerator": "kvm"}, hypervisor_machine_type="virt"),
            "pseries (ppc64le), KVM": of("qemu", {"accelerator": "kvm"}, hypervisor_machine_type="pseries"),
            "s390-ccw-virtio (s390x)": of("qemu", {"accelerator": "kvm"}, hypervisor_machine_type="s390-ccw-virtio"),
        },
        "Firecracker": {
            "0.21, 0.22": of("firecracker", {"version": [0, 21, 3]}),
            "0.23": of("firecracker", {"version": [0, 23, 3]}),
            "0.24, 0.25": of("firecracker", {"version": [0, 25, 2]}),
            "1.0 to 1.15": of("firecracker", {"version": [1, 15, 1]}),
            "1.16 and later": of("firecracker", {"version": [1, 16, 1]}),
            "with placeholder_drives": of("firecracker", {"version": [0, 21, 3]}, placeholder_drives=1),
            "1.14 and later with max_memory_mb": of("firecracker", {"version": [1, 14, 4]}, **region),
            "1.16 and later with enable_pci": of("firecracker", {"version": [1, 16, 1]}, enable_pci=True),
        },
        "ACRN and the mock": {"ACRN 1.0 to 3.4": of("acrn", {"version": [3, 4]}), "mock": of("mock", {})},
    }


def table(found: dict[str, Capabilities]) -> list[str]:
    """One table."""
    lines = ["| while the VM runs | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
    for name, words in WORDS.items():
        marks = ["yes" if getattr(capabilities, name) else "-" for capabilities in found.values()]
        lines.append(f"| {words} (`{name}`) | " + " | ".join(marks) + " |")
    return lines


def page() -> str:
    """The whole page."""
    lines = [
        "<!--",
        "Copyright (c) 2026 The kata.hypervisor authors",
        "GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)",
        "SPDX-License-" + "Identifier: GPL-3.0-or-later",
        "-->",
        "",
        "# What each hypervisor can do",
        "",
        "Made by `tools/capabilities.py` from what the drivers say of themselves; a test compares. The same answers decide what check mode",
        "foretells and what a task refuses, and stand in a sandbox's facts (`capabilities`). What is not there is refused by name before",
        "anything changes, or takes a restart that the task has to allow (`disruption`).",
    ]
    for title, found in columns().items():
        lines += ["", f"## {title}", "", *table(found)]
    lines += [
        "",
        "## What takes which version of Firecracker",
        "",
        "An earlier one is refused, with the version that has it.",
        "",
    ]
    lines += ["| what | since |", "|---|---|"]
    for since, what in sorted(
        [*FEATURES.values(), *((find(*request).since, words) for request, words in REQUESTS.items())]
    ):
        lines.append(f"| {what} | {shown(since)} |")
    lines += ["", "## Versions of Firecracker that are refused", ""]
    lines += ["Unless `allow_vulnerable_vmm` is set.", "", "| hole | versions | when | what |", "|---|---|---|---|"]
    for hole in vulnerabilities.VULNERABILITIES:
        ranges = ", ".join(f"{shown(first)} to before {shown(repaired)}" for first, repaired in hole.ranges)
        lines.append(f"| {hole.name} | {ranges} | {hole.when or 'always'} | {hole.what} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    if "--check" in sys.argv[1:]:
        if PAGE.read_text(encoding="utf-8") != page():
            print(f"{PAGE} is not what the drivers say; run tools/capabilities.py", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    if {field.name for field in dataclasses.fields(Capabilities)} != set(WORDS):
        sys.exit("a capability has no words")
    sys.exit(main())
