# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give requests addresses: which address a sandbox gets, and what is refused. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
import sys
from typing import Collection, Iterable, Mapping, Sequence

from ...errors import ConfigError
from ...options.network_options import Port
from .definition import Definition
from .lease import Lease, LeaseRequest, leased

#: /proc/net shows addresses in words of the machine's byte order.
ORDER = -1 if sys.byteorder == "little" else 1


def assign(definition: Definition, leases: Mapping[str, Lease], requests: Sequence[LeaseRequest]) -> list[Lease]:
    """The leases of requests, in their order.

    Requested addresses come first, then those that sandboxes have already, then free ones. So tasks can exchange the addresses of two sandboxes.

    :param leases: the recorded leases of the network, by sandbox
    :raises ConfigError: an address, a MAC address, a tap or a name is used twice, or an address cannot be used
    """
    _check_once([request.sandbox for request in requests], "sandbox", "id")
    others = {name: lease for name, lease in leases.items() if name not in {one.sandbox for one in requests}}
    taken = {lease.ipv4: name for name, lease in others.items()}
    taken6 = {lease.ipv6: name for name, lease in others.items() if lease.ipv6}
    chosen: dict[str, str] = {}
    chosen6: dict[str, str] = {}
    for request in requests:
        if request.address:
            check_address(definition, request.address, "address")
            _take(request, request.address, taken, chosen, "address")
        if request.address6:
            check_address(definition, request.address6, "address6")
            _take(request, request.address6, taken6, chosen6, "address6")
    for request in requests:
        before = leases.get(request.sandbox)
        if before is None:
            continue
        if request.sandbox not in chosen and before.ipv4 not in taken and is_usable(definition, before.ipv4):
            _take(request, before.ipv4, taken, chosen, "address")
        if request.sandbox not in chosen6 and before.ipv6 not in taken6 and is_usable(definition, before.ipv6):
            _take(request, before.ipv6, taken6, chosen6, "address6")
    for request in requests:
        if request.sandbox not in chosen:
            _take(request, choose(definition, request.sandbox, taken), taken, chosen, "address")
        if request.sandbox not in chosen6 and definition.subnet6:
            _take(request, choose6(definition, chosen[request.sandbox], taken6), taken6, chosen6, "address6")
    result = [
        leased(request, definition, chosen[request.sandbox], chosen6.get(request.sandbox, "")) for request in requests
    ]
    _check_unique(others.values(), result)
    return result


def _take(request: LeaseRequest, address: str, taken: dict[str, str], chosen: dict[str, str], option: str) -> None:
    if address in taken:
        raise ConfigError(
            f"the address {address} is already used by the sandbox {taken[address]}",
            sandbox=request.id,
            option=option,
            wanted=address,
            fix="Choose another address, or omit the option.",
        )
    taken[address] = request.sandbox
    chosen[request.sandbox] = address


def _check_once(values: Iterable[str], what: str, option: str) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise ConfigError(f"each {what} must be in the list once", option=option, wanted=value)
        seen.add(value)


def _check_unique(others: Iterable[Lease], leases: Sequence[Lease]) -> None:
    """Refuse MAC addresses, taps and names that two sandboxes of a network have.

    :raises ConfigError: the error names both sandboxes
    """
    users: dict[tuple[str, str], str] = {}
    for lease in (*others, *leases):
        for kind, value, option in (
            ("MAC address", lease.mac, "devices"),
            ("tap", lease.tap, "devices"),
            *(("host name", name, "hostname") for name in lease.names),
        ):
            user = users.setdefault((kind, value), lease.sandbox)
            if user != lease.sandbox:
                raise ConfigError(
                    f"the {kind} {value} is already used by the sandbox {user} in the network {lease.network}",
                    sandbox=lease.id,
                    option=option,
                    wanted=value,
                    fix=f"Set {option} so that it differs in both sandboxes; an id that is a host name leads to its sandbox, too.",
                )


def check_address(definition: Definition, address: str, option: str) -> None:
    """Refuse an address that no sandbox of the network can have.

    :raises ConfigError: the error names the network
    """
    subnet = definition.subnet if ipaddress.ip_address(address).version == 4 else definition.subnet6
    if not subnet:
        raise ConfigError(
            f"the network {definition.name} must have IPv6",
            option=option,
            wanted=address,
            fix="Set subnet6 of the network (kata_network), or omit the option.",
        )
    if not is_usable(definition, address):
        dynamic = f", and not in its DHCP range {definition.dhcp_range}" if definition.dhcp_range else ""
        raise ConfigError(
            f"must be an address for guests in {subnet} of the network {definition.name}: not its first, its last "
            f"or its gateway{dynamic}",
            option=option,
            wanted=address,
        )


def is_usable(definition: Definition, address: str) -> bool:
    """Whether a sandbox of the network can have this address."""
    if not address:
        return False
    found = ipaddress.ip_address(address)
    network = definition.network if found.version == 4 else definition.network6
    if network is None or found not in network or address in (definition.gateway, definition.gateway6):
        return False
    if found in (network.network_address, network.broadcast_address):
        return False
    dynamic = definition.dynamic
    return not (dynamic and found.version == 4 and int(dynamic[0]) <= int(found) <= int(dynamic[1]))


def choose(definition: Definition, sandbox: str, taken: Collection[str]) -> str:
    """A free IPv4 address for a sandbox. It follows from the sandbox's name, so it is the same if the sandbox is created again.

    :raises ConfigError: there is none
    """
    network = definition.network
    for address in _from(network, _number(sandbox, network.num_addresses)):
        if str(address) not in taken and is_usable(definition, str(address)):
            return str(address)
    raise ConfigError(
        f"the network {definition.name} must have a free address, and all of {network} are used",
        option="network",
        wanted=definition.name,
        fix="Remove sandboxes, or use another network.",
    )


def choose6(definition: Definition, ipv4: str, taken: Collection[str]) -> str:
    """A free IPv6 address: with the same number in its subnet as the IPv4 address, or the next one."""
    network = ipaddress.IPv6Network(definition.subnet6)
    number = int(ipaddress.IPv4Address(ipv4)) - int(definition.network.network_address)
    while True:
        address = str(network.network_address + number)
        if address not in taken and is_usable(definition, address):
            return address
        number += 1


def _number(text: str, size: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % size


def _from(network: ipaddress.IPv4Network, first: int) -> Iterable[ipaddress.IPv4Address]:
    """All addresses of a network, from a number on."""
    for step in range(network.num_addresses):
        yield network.network_address + (first + step) % network.num_addresses


# --- published ports -------------------------------------------------------------------------------------------------


def check_ports(leases: Sequence[Lease], others: Iterable[Lease], listening: Iterable[Port]) -> None:
    """Refuse published ports that another sandbox has, or that a program of the host listens on.

    :param others: the recorded leases of all networks of the host
    :param listening: ports of the host that programs listen on (their guest port is 0)
    :raises ConfigError: the error names the sandbox or the port
    """
    ours = {lease.sandbox for lease in leases}
    kept = {lease.sandbox: lease.ports for lease in others if lease.sandbox in ours}
    claimed = [(lease, port) for lease in others if lease.sandbox not in ours for port in lease.ports]
    busy: dict[tuple[int, str], list[Port]] = {}
    for port in listening:
        busy.setdefault((port.host_port, port.protocol), []).append(port)
    for lease in leases:
        for port in lease.ports:
            if port.version == 6 and not lease.ipv6:
                raise ConfigError(
                    f"the network {lease.network} must have IPv6 for a port on an IPv6 address",
                    sandbox=lease.id,
                    option="ports",
                    wanted=port.text,
                    fix="Set subnet6 of the network (kata_network).",
                )
            user = next((one for one, other in claimed if other.collides_with(port)), None)
            if user is not None:
                raise ConfigError(
                    f"the host's port {port.host_port}/{port.protocol} is already published by the sandbox {user.id} "
                    f"in the network {user.network}",
                    sandbox=lease.id,
                    option="ports",
                    wanted=port.text,
                )
            # A program that took the port after it was published does not make the next task fail.
            known = any(port == other for other in kept.get(lease.sandbox, ()))
            if not known and any(port.collides_with(one) for one in busy.get((port.host_port, port.protocol), ())):
                raise ConfigError(
                    f"the host's port {port.host_port}/{port.protocol} must be free, and a program of the host listens on it",
                    sandbox=lease.id,
                    option="ports",
                    wanted=port.text,
                    fix="Choose another port, or stop the program (ss -lp shows it).",
                )
        claimed += [(lease, port) for port in lease.ports]


def parse_sockets(text: str, protocol: str) -> list[Port]:
    """The ports that programs listen on, from the content of a file such as /proc/net/tcp (proc(5)).

    A socket on `::` may receive IPv4 too; the file does not say, so it counts for both.
    """
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        # 0A is TCP's LISTEN. A UDP socket that is connected to a peer takes no packets of others.
        if len(fields) < 4 or (fields[3] != "0A" if protocol == "tcp" else fields[2].strip("0") != ":"):
            continue
        digits, colon, port = fields[1].partition(":")
        if not colon or len(digits) not in (8, 32) or not int(port, 16):
            continue
        words = [bytes.fromhex(digits[start : start + 8])[::ORDER] for start in range(0, len(digits), 8)]
        address = ipaddress.ip_address(b"".join(words))
        mapped = getattr(address, "ipv4_mapped", None)
        text_of = "" if address == ipaddress.IPv6Address("::") else str(mapped or address)
        found.append(Port(int(port, 16), 0, protocol, text_of))
    return found


# --- overlaps --------------------------------------------------------------------------------------------------------


def check_overlap(subnet: str, option: str, used: Iterable[tuple[str, str]]) -> None:
    """Refuse a subnet that overlaps another one.

    :param used: networks in CIDR notation, each with a text that says whose it is
    :raises ConfigError: the error names the other one
    """
    network = ipaddress.ip_network(subnet)
    for text, owner in used:
        other = ipaddress.ip_network(text, strict=False)
        if other.version == network.version and network.overlaps(other):
            raise ConfigError(
                f"must not overlap a network of the host: {other} is {owner}",
                option=option,
                wanted=subnet,
                fix="Choose another subnet.",
            )
