# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs that networks need, and what the host's kernel has of them: the bridge, its addresses, the routes."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any, Sequence

from ...errors import ConfigError, HostError
from ...host.programs import run
from .definition import Definition, Network

#: Seconds for ip and nft.
SECONDS = 10.0
#: Where the programs are if PATH has no directories of system programs.
PLACES = "/usr/sbin:/sbin:/usr/local/sbin"
#: The package of each program.
PACKAGES = {
    "ip": "iproute2 (iproute on Fedora and Enterprise Linux)",
    "nft": "nftables",
    "dnsmasq": "dnsmasq-base (dnsmasq on Fedora and Enterprise Linux)",
}


def program(name: str) -> str:
    """The path of a program of the host.

    :raises HostError: it is not installed; the error names the package
    """
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{PLACES}")
    if path is None:
        raise HostError(
            f"the program {name} must be installed for managed networks",
            option="network",
            fix=f"Install the package {PACKAGES[name]}; the role kata_network does.",
        )
    return path


def check_programs() -> None:
    """Refuse hosts without the programs.

    :raises HostError: one is missing; the error names the package
    """
    for name in PACKAGES:
        program(name)


def _ip(*words: str) -> str:
    ended = run([program("ip"), *words], SECONDS)
    if ended.code:
        raise HostError(f"'ip {' '.join(words)}' failed", option="network", answer=ended.words)
    return ended.text


def _ip_json(*words: str) -> list[dict[str, Any]]:
    """The answer of `ip -j`; empty if it fails."""
    ended = run([program("ip"), "-j", *words], SECONDS)
    try:
        found = json.loads(ended.output or b"[]") if not ended.code else []
    except ValueError:
        found = []
    return [one for one in found if isinstance(one, dict) and one] if isinstance(found, list) else []


def used_networks(bridges: Sequence[str] = ()) -> list[tuple[str, str]]:
    """The networks of the host's addresses and routes in CIDR notation, each with a text that says what it is.

    :param bridges: interfaces that are not looked at
    """
    found = []
    for link in _ip_json("address", "show"):
        name = str(link.get("ifname", ""))
        for one in link.get("addr_info", []):
            if name not in bridges and one.get("scope") != "host" and one.get("local"):
                if not str(one["local"]).startswith("fe80:"):
                    found.append((f"{one['local']}/{one.get('prefixlen', 32)}", f"an address of {name}"))
    for family in ("-4", "-6"):
        for route in _ip_json(family, "route", "show", "table", "all"):
            target, device = str(route.get("dst", "")), str(route.get("dev", ""))
            kind = route.get("type", "unicast")
            if device in bridges or kind not in ("unicast", "blackhole", "unreachable", "prohibit", "throw"):
                continue
            if (
                target in ("default", "", "0.0.0.0/0", "::/0")
                or target.startswith(("fe80:", "ff00:"))
                or device == "lo"
            ):
                continue
            found.append((target, f"a route of the host{f' by {device}' if device else ''}"))
    return found


# --- the bridge ------------------------------------------------------------------------------------------------------


def find_bridge(network: Network) -> dict[str, Any] | None:
    """The interface with the name of the network's bridge; None if there is none."""
    if not os.path.isdir(f"/sys/class/net/{network.bridge}"):
        return None
    found = _ip_json("-d", "address", "show", "dev", network.bridge)
    return found[0] if found else None


def check_bridge(network: Network, found: dict[str, Any] | None) -> None:
    """Refuse an interface that is not this network's bridge.

    :raises ConfigError: another program, user or network created it
    """
    if found is None:
        return
    kind = found.get("linkinfo", {}).get("info_kind")
    if (
        kind != "bridge"
        or found.get("address") != network.definition.bridge_mac
        or found.get("ifalias", "")
        not in (
            "",
            network.alias,
        )
    ):
        raise ConfigError(
            "the host has another interface of this name",
            option="bridge",
            wanted=network.bridge,
            fix="Set another bridge for the network, or remove that interface.",
        )


def _addresses(definition: Definition) -> set[str]:
    """The bridge's addresses, as they should be."""
    four = f"{definition.gateway}/{definition.network.prefixlen}"
    six = definition.network6
    return {four} | ({f"{definition.gateway6}/{six.prefixlen}"} if six is not None else set())


def _found_addresses(found: dict[str, Any]) -> set[str]:
    return {
        f"{one.get('local')}/{one.get('prefixlen')}" for one in found.get("addr_info", []) if one.get("scope") != "link"
    }


def bridge_differences(network: Network, found: dict[str, Any] | None) -> list[str]:
    """What must be changed of the bridge; empty if nothing."""
    if found is None:
        return [f"bridge {network.bridge}"]
    differences = []
    if _found_addresses(found) != _addresses(network.definition):
        differences.append(f"addresses of {network.bridge}")
    if "UP" not in found.get("flags", []) or found.get("ifalias") != network.alias:
        differences.append(f"bridge {network.bridge}")
    return differences


def ensure_bridge(network: Network, found: dict[str, Any] | None) -> None:
    """Create the bridge, or correct it. Other ports and routes stay.

    :raises HostError: the kernel refuses
    """
    name, definition = network.bridge, network.definition
    if found is None:
        kind = ("type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0")
        _ip("link", "add", "name", name, "address", definition.bridge_mac, *kind)
    if found is None or found.get("ifalias") != network.alias:
        _ip("link", "set", "dev", name, "alias", network.alias)
    wanted, present = _addresses(definition), _found_addresses(found or {})
    for address in sorted(present - wanted):
        _ip("address", "delete", address, "dev", name)
    if wanted - present:
        # Without IPv6 the host has no link-local address that guests can reach.
        write_setting(f"net/ipv6/conf/{name}/disable_ipv6", "0" if definition.subnet6 else "1")
        write_setting(f"net/ipv6/conf/{name}/accept_ra", "0")
        # Guests get answers at once, and not after the second in which the kernel looks for a duplicate of the bridge's address.
        write_setting(f"net/ipv6/conf/{name}/accept_dad", "0")
    for address in sorted(wanted - present):
        _ip("address", "replace", address, "dev", name, *(("nodad",) if ":" in address else ()))
    if "UP" not in (found or {}).get("flags", []):
        _ip("link", "set", "dev", name, "up")


def remove_bridge(network: Network) -> None:
    """Remove the bridge, if it is this network's. Idempotent.

    :raises HostError: the kernel refuses
    """
    found = find_bridge(network)
    if found is not None:
        check_bridge(network, found)
        _ip("link", "delete", "dev", network.bridge)


# --- settings of the kernel ------------------------------------------------------------------------------------------


def read_setting(name: str) -> str | None:
    """A value below /proc/sys; None if the kernel does not have it."""
    try:
        with open(f"/proc/sys/{name}", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return None


def write_setting(name: str, value: str) -> bool:
    """Set a value below /proc/sys, if it differs. False if the kernel does not have it.

    :raises HostError: the kernel refuses
    """
    before = read_setting(name)
    if before is None or before == value:
        return before is not None
    try:
        with open(f"/proc/sys/{name}", "w", encoding="ascii") as stream:
            stream.write(value)
    except OSError as problem:
        raise HostError(f"the setting {name} must be {value}", option="network", answer=str(problem)) from problem
    return True
