# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be asked of a Firecracker, when, and since which version. Observed and read in its sources, not in its API's description."""

from __future__ import annotations

import dataclasses
import re

Version = tuple[int, ...]

#: Words for what a VM is: before and after its start. 0.17 to 0.23 say the first ones, later versions the others.
NOT_STARTED = ("Not started", "Uninitialized")
RUNNING = ("Running",)
PAUSED = ("Paused",)
BEFORE = NOT_STARTED
AFTER = RUNNING + PAUSED
ALWAYS = BEFORE + AFTER


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """One method of one path.

    :param path: `{id}` stands for a resource's id
    :param states: the VM's states in which it is accepted
    :param since: the first version that has it
    :param pci: after the start only with PCI
    """

    method: str
    path: str
    states: tuple[str, ...]
    since: Version = (0, 17)
    pci: bool = False


ENDPOINTS = (
    Endpoint("GET", "/", ALWAYS),
    Endpoint("GET", "/version", ALWAYS, (1, 0)),
    Endpoint("GET", "/vm/config", ALWAYS, (0, 25)),
    Endpoint("PATCH", "/vm", AFTER, (0, 23)),
    Endpoint("PUT", "/actions", ALWAYS),
    Endpoint("PUT", "/boot-source", BEFORE),
    Endpoint("GET", "/machine-config", ALWAYS),
    Endpoint("PUT", "/machine-config", BEFORE),
    Endpoint("PATCH", "/machine-config", BEFORE),
    Endpoint("PUT", "/cpu-config", BEFORE, (1, 4)),
    Endpoint("PUT", "/drives/{id}", BEFORE),
    Endpoint("PUT", "/drives/{id}", AFTER, (1, 16), pci=True),
    Endpoint("PATCH", "/drives/{id}", AFTER),
    Endpoint("DELETE", "/drives/{id}", AFTER, (1, 16), pci=True),
    Endpoint("PUT", "/pmem/{id}", BEFORE, (1, 14)),
    Endpoint("PUT", "/pmem/{id}", AFTER, (1, 16), pci=True),
    Endpoint("PATCH", "/pmem/{id}", AFTER, (1, 16)),
    Endpoint("DELETE", "/pmem/{id}", AFTER, (1, 16), pci=True),
    Endpoint("PUT", "/network-interfaces/{id}", BEFORE),
    Endpoint("PUT", "/network-interfaces/{id}", AFTER, (1, 16), pci=True),
    Endpoint("PATCH", "/network-interfaces/{id}", AFTER),
    Endpoint("DELETE", "/network-interfaces/{id}", AFTER, (1, 16), pci=True),
    Endpoint("PUT", "/vsock", BEFORE, (0, 19)),
    Endpoint("PUT", "/entropy", BEFORE, (1, 4)),
    Endpoint("PUT", "/serial", BEFORE, (1, 14)),
    Endpoint("PUT", "/balloon", BEFORE, (0, 24)),
    Endpoint("GET", "/balloon", ALWAYS, (0, 24)),
    Endpoint("PATCH", "/balloon", AFTER, (0, 24)),
    Endpoint("GET", "/balloon/statistics", AFTER, (0, 24)),
    Endpoint("PATCH", "/balloon/statistics", AFTER, (0, 24)),
    Endpoint("PATCH", "/balloon/hinting/start", AFTER, (1, 14)),
    Endpoint("GET", "/balloon/hinting/status", AFTER, (1, 14)),
    Endpoint("PATCH", "/balloon/hinting/stop", AFTER, (1, 14)),
    Endpoint("PUT", "/hotplug/memory", BEFORE, (1, 14)),
    Endpoint("GET", "/hotplug/memory", AFTER, (1, 14)),
    Endpoint("PATCH", "/hotplug/memory", AFTER, (1, 14)),
    Endpoint("GET", "/mmds", ALWAYS),
    Endpoint("PUT", "/mmds", ALWAYS),
    Endpoint("PATCH", "/mmds", ALWAYS),
    Endpoint("PUT", "/mmds/config", BEFORE, (0, 22)),
    Endpoint("PUT", "/logger", BEFORE),
    Endpoint("PUT", "/metrics", BEFORE, (0, 22)),
    Endpoint("PUT", "/snapshot/create", PAUSED, (0, 23)),
    Endpoint("PUT", "/snapshot/load", BEFORE, (0, 23)),
)

#: What `PUT /actions` takes, and when.
ACTIONS = {"InstanceStart": BEFORE, "FlushMetrics": AFTER, "SendCtrlAltDel": AFTER, "BlockDeviceRescan": AFTER}


def find(method: str, path: str, state: str = "") -> Endpoint | None:
    """The entry for a request, in a state where one is given."""
    for endpoint in ENDPOINTS:
        pattern = re.escape(endpoint.path).replace(r"\{id\}", "[A-Za-z0-9_]+")
        if endpoint.method == method and re.fullmatch(pattern, path) and (not state or state in endpoint.states):
            return endpoint
    return None


def has(version: Version, method: str, path: str, state: str = "") -> bool:
    """Does that version take the request, in that state where one is given?"""
    endpoint = find(method, path, state)
    return endpoint is not None and tuple(version) >= endpoint.since
