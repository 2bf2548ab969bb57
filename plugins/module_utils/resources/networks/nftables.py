# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nftables rules of one network, as a text that `nft -f` loads in one transaction. Pure.

Everything is in two tables of our own, which the transaction replaces. Rules of others are neither read nor changed.

The table of the family bridge sees what each tap sends, so it binds a tap to the addresses of its sandbox. Everything after it can rely on
source addresses. The table of the family inet has NAT, published ports and egress rules.

Frames between guests do not pass the table inet, and not every kernel has connection tracking for bridges. So if one of two guests has egress rules,
the frame is redirected to the host, which routes it back to the bridge. There the rules of the table inet apply.
"""

from __future__ import annotations

import ipaddress
from typing import Iterable, Sequence

from ...options.network_options import EgressRule, Port
from .definition import Network
from .lease import Lease

#: What a host's own packets need to reach a guest: neighbor discovery (RFC 4861), DHCP, DHCPv6.
_ND = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit }"
_LINK_LOCAL = "fe80::/10"
#: Numbers of protocols. nft takes their names from /etc/protocols, which minimal hosts do not have.
ICMP, TCP, ICMP6 = 1, 6, 58
#: The source of a DHCP client that has no address yet.
UNSPECIFIED = str(ipaddress.IPv4Address(0))


def ruleset(network: Network, leases: Sequence[Lease]) -> str:
    """The text for `nft -f` that replaces the tables of a network."""
    ordered = sorted(leases, key=lambda lease: lease.sandbox)
    return (
        removal(network.table)
        + _table("inet", network.table, _inet(network, ordered))
        + _table("bridge", network.table, _bridge(network, ordered))
    )


def removal(table: str) -> str:
    """The text for `nft -f` that removes the tables of a network. It does not fail if they do not exist."""
    return "".join(f"table {family} {table}\ndelete table {family} {table}\n" for family in ("inet", "bridge"))


def _table(family: str, name: str, chains: dict[str, list[str]]) -> str:
    lines = [f"table {family} {name} {{"]
    for chain, rules in chains.items():
        lines += [f"\tchain {chain} {{", *(f"\t\t{rule}" for rule in rules), "\t}"]
    return "\n".join([*lines, "}", ""])


def _hook(kind: str, hook: str, priority: int) -> str:
    return f"type {kind} hook {hook} priority {priority}; policy accept;"


def _set_of(values: Iterable[str]) -> str:
    return "{ " + ", ".join(values) + " }"


# --- the table of the family inet ------------------------------------------------------------------------------------


def _inet(network: Network, leases: Sequence[Lease]) -> dict[str, list[str]]:
    bridge = f'"{network.bridge}"'
    restricted = [lease for lease in leases if not lease.egress.is_open]
    published = [lease for lease in leases if lease.ports]
    chains = {f"egress-{lease.key}": _egress(network, lease) for lease in restricted}
    if published:
        chains["ports"] = [rule for lease in published for port in lease.ports for rule in _dnat(lease, port)]
    chains["from-guests"] = [
        *_isolated(bridge, leases),
        *_REPLIES,
        # With br_netfilter loaded, frames between guests pass this chain too.
        f"oifname {bridge} {_ND} accept",
        *_by_address(restricted),
        "accept",
    ]
    chains["to-guests"] = [
        *_REPLIES,
        *(rule for lease in published for port in lease.ports for rule in _published(lease, port)),
        "drop" if network.definition.nat else "accept",
    ]
    chains["to-host"] = [
        *_REPLIES,
        "udp dport 67 accept",
        f"ip6 saddr {_LINK_LOCAL} udp dport 547 accept",
        f"{_ND} accept",
        *_by_address(restricted),
        "accept",
    ]
    chains["before-routing"] = [
        _hook("filter", "prerouting", -300),
        # For published ports on 127.0.0.1 the bridge has route_localnet, which must not open the host's loopback to guests.
        f"iifname {bridge} ip daddr 127.0.0.0/8 drop",
        *_known_sources(network, leases),
    ]
    if published:
        chains["publish"] = [_hook("nat", "prerouting", -100), "fib daddr type local goto ports"]
        chains["publish-here"] = [_hook("nat", "output", -100), "fib daddr type local goto ports"]
    chains["host-addresses"] = [_hook("nat", "postrouting", 100), *_masquerade(network)]
    chains["forward"] = [
        _hook("filter", "forward", 0),
        f"iifname {bridge} goto from-guests",
        f"oifname {bridge} goto to-guests",
    ]
    chains["input"] = [_hook("filter", "input", 0), f"iifname {bridge} goto to-host"]
    # What is redirected to the host returns to the interface that it came from, so the host would correct the guest's routes.
    chains["output"] = [
        _hook("filter", "output", 0),
        f"oifname {bridge} icmp type redirect drop",
        f"oifname {bridge} icmpv6 type nd-redirect drop",
    ]
    return chains


#: What the side sends that opened a connection is always compared with the rules, so a changed rule applies to existing connections too.
_REPLIES = [
    "ct direction reply ct state established accept",
    f"meta l4proto {{ {ICMP}, {ICMP6} }} ct state related accept",
]


def _isolated(bridge: str, leases: Sequence[Lease]) -> list[str]:
    """Refuse what the host would route between guests."""
    isolated = [lease for lease in leases if lease.isolated]
    return [
        f"oifname {bridge} {family} {side} {_set_of(addresses)} drop"
        for family, addresses in _families(isolated)
        for side in ("saddr", "daddr")
    ]


def _by_address(restricted: Sequence[Lease]) -> list[str]:
    """Send a packet to the egress rules of the sandbox that it comes from."""
    rules = []
    for family, name in (("ip", "ipv4"), ("ip6", "ipv6")):
        verdicts = [f"{getattr(lease, name)} : goto egress-{lease.key}" for lease in restricted if getattr(lease, name)]
        if verdicts:
            rules.append(f"{family} saddr vmap {_set_of(verdicts)}")
    return rules


def _families(leases: Sequence[Lease]) -> list[tuple[str, list[str]]]:
    found = [("ip", [lease.ipv4 for lease in leases]), ("ip6", [lease.ipv6 for lease in leases if lease.ipv6])]
    return [(family, addresses) for family, addresses in found if addresses]


def _egress(network: Network, lease: Lease) -> list[str]:
    """The egress rules of one sandbox. With rules it may use the network's DNS; without any it reaches nothing."""
    rules = []
    if lease.egress.rules:
        gateways = [("ip", network.definition.gateway), ("ip6", network.definition.gateway6)]
        rules = [
            f"{family} daddr {address} {protocol} dport 53 accept"
            for family, address in gateways
            if address
            for protocol in ("udp", "tcp")
        ]
    return [
        *rules,
        *(_destination(rule) for rule in lease.egress.rules),
        f"meta l4proto {TCP} reject with tcp reset",
        "reject",
    ]


def _destination(rule: EgressRule) -> str:
    words = f"{'ip' if rule.version == 4 else 'ip6'} daddr {rule.network}"
    if ipaddress.ip_network(rule.network).prefixlen == 0:
        words = f"meta nfproto ipv{rule.version}"
    if rule.first_port:
        ports = str(rule.first_port) + (f"-{rule.last_port}" if rule.last_port != rule.first_port else "")
        words += f" {rule.protocol} dport {ports}"
    return f"{words} accept"


def _targets(lease: Lease, port: Port) -> list[tuple[int, str, str]]:
    """Where a published port leads to: version, the guest's address, and its address with the port."""
    found = []
    if port.version in (0, 4):
        found.append((4, lease.ipv4, f"{lease.ipv4}:{port.guest_port}"))
    if port.version in (0, 6) and lease.ipv6:
        found.append((6, lease.ipv6, f"[{lease.ipv6}]:{port.guest_port}"))
    return found


def _dnat(lease: Lease, port: Port) -> list[str]:
    rules = []
    for version, _address, target in _targets(lease, port):
        family = "ip" if version == 4 else "ip6"
        # The kernel has no route_localnet for IPv6: without an answer, programs that connect to `localhost` would not try IPv4.
        everywhere = "meta nfproto ipv4" if version == 4 else "ip6 daddr != ::1"
        match = everywhere if port.is_wildcard else f"{family} daddr {port.address}"
        rules.append(f"{match} {port.protocol} dport {port.host_port} dnat {family} to {target}")
    return rules


def _published(lease: Lease, port: Port) -> list[str]:
    return [
        f"{'ip' if version == 4 else 'ip6'} daddr {address} {port.protocol} dport {port.guest_port} ct status dnat accept"
        for version, address, _target in _targets(lease, port)
    ]


def _masquerade(network: Network) -> list[str]:
    definition = network.definition
    bridge = f'"{network.bridge}"'
    rules = [
        f"oifname {bridge} ip saddr 127.0.0.0/8 masquerade",
    ]
    for family, subnet in (("ip", definition.subnet), ("ip6", definition.subnet6)):
        if not subnet:
            continue
        # A guest that uses a published port of its own network must get the answers from the host.
        rules.append(f"{family} saddr {subnet} {family} daddr {subnet} ct status dnat masquerade")
        if definition.nat:
            rules.append(f"{family} saddr {subnet} oifname != {bridge} masquerade")
    return rules


def _known_sources(network: Network, leases: Sequence[Lease]) -> list[str]:
    """Refuse packets from the bridge with a source that nobody in the network has."""
    bridge = f'"{network.bridge}"'
    definition = network.definition
    four = [UNSPECIFIED, *(lease.ipv4 for lease in leases), *([definition.dhcp_range] if definition.dhcp_range else [])]
    six = ["::", _LINK_LOCAL, *(lease.ipv6 for lease in leases if lease.ipv6)]
    return [
        f"iifname {bridge} {family} saddr != {_set_of(sources)} drop"
        for family, sources in (("ip", four), ("ip6", six))
    ]


# --- the table of the family bridge ----------------------------------------------------------------------------------


def _bridge(network: Network, leases: Sequence[Lease]) -> dict[str, list[str]]:
    restricted = [lease for lease in leases if not lease.egress.is_open]
    to_host = f"ether daddr set {network.definition.bridge_mac} meta pkttype set host accept"
    chains: dict[str, list[str]] = {}
    # What is for a guest with egress rules goes through the host, in both directions, so the host sees complete connections.
    chains["between-guests"] = [
        *(f"{family} daddr {_set_of(addresses)} {to_host}" for family, addresses in _families(restricted)),
        "accept",
    ]
    chains["by-host"] = ["meta pkttype { broadcast, multicast } drop", to_host]
    for lease in leases:
        chains[f"from-{lease.key}"] = _from_tap(lease)
    taps = [f'"{lease.tap}" : goto from-{lease.key}' for lease in leases]
    chains["from-taps"] = [_hook("filter", "prerouting", -300)]
    if taps:
        chains["from-taps"].append(f"iifname vmap {_set_of(taps)}")
    chains["forward"] = [_hook("filter", "forward", -200), *_between_taps(leases)]
    return chains


def _from_tap(lease: Lease) -> list[str]:
    """Accept only frames with the addresses of the sandbox, and nothing that only a router or a DHCP server sends."""
    onward = "goto between-guests" if lease.egress.is_open else "goto by-host"
    rules = [
        f"ether saddr != {lease.mac} drop",
        f"arp saddr ether != {lease.mac} drop",
        f"arp saddr ip {{ 0.0.0.0, {lease.ipv4} }} accept",
        "udp sport { 67, 547 } drop",
        "ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept",
        f"ip saddr {lease.ipv4} {onward}",
    ]
    if lease.ipv6:
        # The bytes of the advertised address: nftables has no name for them in all versions.
        target = f"{int(ipaddress.IPv6Address(lease.ipv6)):#034x}"
        rules += [
            "icmpv6 type { nd-router-advert, nd-redirect } drop",
            f"icmpv6 type nd-neighbor-advert @th,64,128 != {target} @th,64,16 & 0xffc0 != 0xfe80 drop",
            f"ip6 saddr {{ ::, {_LINK_LOCAL}, {lease.ipv6} }} {_ND} accept",
            f"ip6 saddr {_LINK_LOCAL} udp sport 546 udp dport 547 accept",
            f"ip6 saddr {lease.ipv6} {onward}",
        ]
        # Connections with link-local addresses do not pass the egress rules.
        rules += [f"ip6 saddr {_LINK_LOCAL} accept"] if lease.egress.is_open else []
    return [*rules, "drop"]


def _between_taps(leases: Sequence[Lease]) -> list[str]:
    """No frame between an isolated guest and another one; only neighbor discovery where one of them has egress rules."""
    isolated = [f'"{lease.tap}"' for lease in leases if lease.isolated]
    restricted = [f'"{lease.tap}"' for lease in leases if not lease.egress.is_open and not lease.isolated]
    rules = [f"{side} {_set_of(isolated)} drop" for side in ("iifname", "oifname") if isolated]
    for side in ("iifname", "oifname"):
        if restricted:
            rules += [
                f"{side} {_set_of(restricted)} ether type ip drop",
                f"{side} {_set_of(restricted)} ether type ip6 icmpv6 type != {{ nd-neighbor-solicit, nd-neighbor-advert }} drop",
                f"{side} {_set_of(restricted)} ether type ip6 meta l4proto != {ICMP6} drop",
            ]
    return rules
