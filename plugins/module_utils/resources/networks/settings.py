# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the kernel that networks need: forwarding, and routes from the host's loopback to published ports.

Settings of the host are recorded with the value that they had, and get it back when the last network is removed. Settings of a bridge end with it.
"""

from __future__ import annotations

import json
import os
from typing import Sequence

from ...host.atomic_files import DRAFT, ensure_directory, replace_file, write_problem
from ...untrusted.answers import AnswerError, MapOf, Text, checked, parsed
from .definition import Network
from .host_links import read_setting, write_setting
from .lease import Lease
from .store import network_names

FORWARD4, FORWARD6 = "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"


def needed(network: Network, leases: Sequence[Lease]) -> dict[str, str]:
    """The settings and their values, in the order in which they are set."""
    wanted = {FORWARD4: "1"}
    if network.definition.subnet6:
        if read_setting(FORWARD6) == "0":
            wanted.update(_router_advertisements())
        wanted[FORWARD6] = "1"
    if any(port.version in (0, 4) for lease in leases for port in lease.ports):
        wanted[f"net/ipv4/conf/{network.bridge}/route_localnet"] = "1"
    return wanted


def _router_advertisements() -> dict[str, str]:
    """A host that forwards ignores router advertisements, and loses its default route, unless accept_ra is 2 (ip-sysctl)."""
    interfaces = [
        name for name in sorted(os.listdir("/proc/sys/net/ipv6/conf")) if name not in ("all", "default", "lo")
    ]
    names = [f"net/ipv6/conf/{name}/accept_ra" for name in interfaces]
    return {name: "2" for name in names if read_setting(name) == "1"}


def differences(network: Network, leases: Sequence[Lease]) -> list[str]:
    """The settings that differ, each as a text."""
    return [
        f"{name.replace('/', '.')} = {value}"
        for name, value in needed(network, leases).items()
        if read_setting(name) not in (value, None)
    ]


def ensure(network: Network, leases: Sequence[Lease]) -> list[str]:
    """Set what differs, and record what was there. Returns what was set, each as a text."""
    changed = differences(network, leases)
    if not changed:
        return []
    before = _recorded(network.state_root)
    wanted = needed(network, leases)
    for name in wanted:
        value = read_setting(name)
        if value is not None and value != wanted[name] and f"/{network.bridge}/" not in name:
            before.setdefault(name, value)
    _record(network.state_root, before)
    for name, value in wanted.items():
        write_setting(name, value)
    return changed


def restore(network: Network) -> None:
    """Give the host's settings the values that they had, if this is the last network and no other program has changed them. Idempotent."""
    if [name for name in network_names(network.state_root) if name != network.name]:
        return
    for name, value in reversed(_recorded(network.state_root).items()):
        if read_setting(name) == ("2" if name.endswith("accept_ra") else "1"):
            write_setting(name, value)
    if os.path.lexists(_path(network.state_root)):
        os.unlink(_path(network.state_root))


def _path(state_root: str) -> str:
    return f"{state_root}/networks/.settings.json"


def _recorded(state_root: str) -> dict[str, str]:
    try:
        with open(_path(state_root), encoding="ascii") as stream:
            found: dict[str, str] = checked(
                MapOf(Text(20)), parsed(stream.read(100_000), "settings", 100_000), "settings"
            )
            return {name: value for name, value in found.items() if name.startswith("net/") and ".." not in name}
    except (OSError, UnicodeDecodeError, AnswerError):
        return {}


def _record(state_root: str, settings: dict[str, str]) -> None:
    path = _path(state_root)
    try:
        ensure_directory(os.path.dirname(path))
        replace_file(path, json.dumps(settings).encode(), 0o600, f"{state_root}/networks/{DRAFT}settings")
    except OSError as problem:
        raise write_problem(problem, "the host's settings cannot be recorded", path) from problem
