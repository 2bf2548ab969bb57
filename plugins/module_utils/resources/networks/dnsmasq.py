# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a network's dnsmasq, which gives addresses and answers names: its configuration, its DHCP hosts and its names. Pure."""

from __future__ import annotations

import ipaddress
from typing import Sequence

from .definition import Network
from .lease import Lease

#: How long an address of the DHCP range is given.
RANGE_TIME = "12h"


def configuration(network: Network, user: str, group: str) -> str:
    """The configuration file.

    :param user: the user that it runs as
    """
    definition = network.definition
    run = network.run_directory
    four = definition.network
    lines = [
        f"# Network {network.name}. The Ansible collection kata.hypervisor writes this file.",
        f"interface={network.bridge}",
        "except-interface=lo",
        "bind-interfaces",
        f"user={user}",
        f"group={group}",
        f"pid-file={run}/dnsmasq.pid",
        f"dhcp-leasefile={run}/dnsmasq.leases",
        "no-hosts",
        f"addn-hosts={run}/hosts",
        f"dhcp-hostsfile={run}/dhcp-hosts",
        f"domain={definition.domain}",
        f"local=/{definition.domain}/",
        f"host-record={_gateway_record(network)}",
        "domain-needed",
        "bogus-priv",
        "dhcp-authoritative",
        # A guest must not take the name of another one.
        "dhcp-ignore-names",
        f"dhcp-option=option:router,{definition.gateway}",
    ]
    dynamic = definition.dynamic
    if dynamic is None:
        lines += [f"dhcp-range={four.network_address},static,{four.netmask},infinite", "dhcp-ignore=tag:!known"]
    else:
        lines.append(f"dhcp-range={dynamic[0]},{dynamic[1]},{four.netmask},{RANGE_TIME}")
    if definition.network6 is not None:
        lines += [
            "enable-ra",
            f"dhcp-range={definition.network6.network_address},static,{definition.network6.prefixlen},infinite",
            "dhcp-option=option6:dns-server,[::]",
        ]
    if definition.dns_servers:
        lines += ["no-resolv", *(f"server={server}" for server in definition.dns_servers)]
    return "\n".join([*lines, ""])


def _gateway_record(network: Network) -> str:
    definition = network.definition
    return ",".join(
        value for value in (f"gateway.{definition.domain}", definition.gateway, definition.gateway6) if value
    )


def dhcp_hosts(leases: Sequence[Lease]) -> str:
    """The file with the addresses of guests: one line per sandbox."""
    return "".join(
        ",".join([lease.mac, lease.ipv4, *([f"[{lease.ipv6}]"] if lease.ipv6 else []), lease.names[0], "infinite"])
        + "\n"
        for lease in _ordered(leases)
    )


def hosts(leases: Sequence[Lease]) -> str:
    """The file with the names of guests, in the form of hosts(5)."""
    return "".join(
        f"{address} {' '.join(f'{name}.{lease.domain}' for name in lease.names)} {' '.join(lease.names)}\n"
        for lease in _ordered(leases)
        for address in (lease.ipv4, lease.ipv6)
        if address
    )


def without_stale(database: str, network: Network, leases: Sequence[Lease]) -> str:
    """The content of dnsmasq's file of leases without those that contradict ours.

    dnsmasq does not give a guest its address while its file has the address for another guest, which may have been removed long ago. Each line is an
    expiry, a MAC address, an address, a name and a client id; those for IPv6 follow a line that starts with `duid`.
    """
    kept, macs = [], {lease.ipv4: lease.mac for lease in leases}
    sixes = {lease.ipv6 for lease in leases}
    dynamic = network.definition.dynamic
    is_six = False
    for line in database.splitlines():
        words = line.split(" ")
        if words[0] == "duid":
            is_six = True
            kept.append(line)
            continue
        try:
            address = ipaddress.ip_address(words[2])
        except (IndexError, ValueError):
            continue
        is_free = isinstance(address, ipaddress.IPv4Address) and dynamic and dynamic[0] <= address <= dynamic[1]
        if is_free or (str(address) in sixes if is_six else macs.get(str(address)) == words[1].lower()):
            kept.append(line)
    return "".join(f"{line}\n" for line in kept)


def _ordered(leases: Sequence[Lease]) -> list[Lease]:
    return sorted(leases, key=lambda lease: ipaddress.IPv4Address(lease.ipv4))
