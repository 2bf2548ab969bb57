# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generates docs/capabilities.md from the drivers and from the declarations of the options.

Usage: python -m tools.capabilities [--check]

With `--check` nothing is written, and the exit code is 1 when the page is not current.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import tests.support.checkout
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors import (
    HYPERVISORS,
    driver_class,
    new_hypervisor,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Capabilities, Context
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker import vulnerabilities
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.api.dialect import FEATURES, shown
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.api.endpoints import find
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.options.declarations import Cost
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import declared_options

ROOT = tests.support.checkout.ROOT
PAGE = ROOT / "docs/capabilities.md"

#: A label for each capability.
WORDS = {
    "block_device": "disks",
    "block_device_hotplug": "plug a disk",
    "block_device_unplug": "unplug a disk",
    "device_update": "change a disk's file, an interface's limits",
    "disk_limit_update": "change a disk's limits",
    "disk_resize": "grow a disk",
    "port_forward_update": "change the published ports of a user network",
    "balloon_update": "change a balloon's size",
    "pmem_hotplug": "plug persistent memory",
    "pmem_unplug": "unplug persistent memory",
    "pmem_update": "change the limits of persistent memory",
    "metadata_update": "change the content of the metadata service",
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


#: Features that need a request of the API, and a label for each.
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


#: What a change of an option costs.
COSTS = {Cost.LIVE: "live", Cost.RESTART: "restart", Cost.RECREATE: "recreate", Cost.UNSUPPORTED: "-"}

#: The columns of the table of options. The mock has all options.
OPTION_COLUMNS = {driver_class(name).title: name for name in HYPERVISORS if name != "mock"}


def capabilities_of(name: str, state: dict[str, Any], options: dict[str, Any]) -> Capabilities:
    """The capabilities that the driver reports for a VM in this state with these options."""
    driver = new_hypervisor(name, Context("matrix", "/nonexistent/run", "/nonexistent/sandboxes/matrix"))
    driver.load(state, HypervisorConfig(**options))
    return driver.capabilities()


def columns() -> dict[str, dict[str, Capabilities]]:
    """The tables, one per hypervisor, and the columns of each."""
    return {
        driver_class(name).title: {
            column: capabilities_of(name, state, options)
            for column, (state, options) in driver_class(name).capability_columns().items()
        }
        for name in HYPERVISORS
    }


def option_table() -> list[str]:
    """The table of all options that describe a VM."""
    lines = ["| option | " + " | ".join(OPTION_COLUMNS) + " |", "|---" * (len(OPTION_COLUMNS) + 1) + "|"]
    for declared in sorted(declared_options().values(), key=lambda declared: declared.name):
        costs = [COSTS[declared.cost_for(driver)] for driver in OPTION_COLUMNS.values()]
        lines.append(f"| `{declared.name}` | " + " | ".join(costs) + " |")
    return lines


def table(found: dict[str, Capabilities]) -> list[str]:
    """The table of capabilities of one group of hypervisors."""
    lines = ["| while the VM runs | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
    for name, words in WORDS.items():
        marks = ["yes" if getattr(capabilities, name) else "-" for capabilities in found.values()]
        lines.append(f"| {words} (`{name}`) | " + " | ".join(marks) + " |")
    return lines


def page() -> str:
    """The text of the page."""
    lines = [
        "<!--",
        "Copyright (c) 2026 The kata.hypervisor authors",
        "GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)",
        "SPDX-License-" + "Identifier: GPL-3.0-or-later",
        "-->",
        "",
        "# What each hypervisor can do",
        "",
        "`make docs` generates this page from the drivers and from the declarations of the options, and a test checks that it is current.",
        "The same data decides what check mode predicts and which tasks fail, and is in a sandbox's facts (`capabilities`).",
        "",
        "A dash means: not available. A task that needs it fails before it changes anything, or it needs a restart, which the task must allow",
        "(`disruption`).",
    ]
    for title, found in columns().items():
        lines += ["", f"## {title}", "", *table(found)]
    lines += [
        "",
        "## Options",
        "",
        "What a change of an option of `kata_sandbox` costs on an existing sandbox:",
        "",
        "- *live*: the change is made while the VM runs.",
        "- *restart*: the VM must be stopped and started again, so the task needs `disruption: restart` if it runs.",
        "- *recreate*: the VM must be replaced by a new one (`disruption: recreate`). A change of `hypervisor` is one case. If the",
        "  sandbox has a root disk of its own, another `image_path` and `root_disk_mb: 0` are others, and the disk's content is lost.",
        "- a dash: the hypervisor does not have the option. A task that sets it fails.",
        "",
        "A live change of `vcpus` and `memory_mb` also needs the capability in the tables above (`vcpu_hotplug`, `vcpu_unplug`, `memory_grow`,",
        "`memory_shrink`). Without it, the change needs a restart.",
        "",
        *option_table(),
        "",
        "## Features of Firecracker by version",
        "",
        "With an earlier version a task that uses the feature fails and names the version that has it.",
        "",
    ]
    lines += ["| feature | since |", "|---|---|"]
    for since, what in sorted(
        [*FEATURES.values(), *((find(*request).since, words) for request, words in REQUESTS.items())]
    ):
        lines.append(f"| {what} | {shown(since)} |")
    lines += ["", "## Versions of Firecracker that are refused", ""]
    lines += ["These versions are only used with `allow_vulnerable_vmm: true`.", ""]
    lines += ["| vulnerability | versions | applies | effect |", "|---|---|---|---|"]
    for known in vulnerabilities.VULNERABILITIES:
        ranges = ", ".join(f"{shown(first)} to before {shown(repaired)}" for first, repaired in known.ranges)
        lines.append(f"| {known.name} | {ranges} | {known.when or 'always'} | {known.what} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    if "--check" in sys.argv[1:]:
        if PAGE.read_text(encoding="utf-8") != page():
            print(f"{PAGE} is not current; run make docs", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    if {field.name for field in dataclasses.fields(Capabilities)} != set(WORDS):
        sys.exit("each capability needs a label")
    sys.exit(main())
