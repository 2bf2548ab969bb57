# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The definition of a managed network, and the names that follow from it. Pure."""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import re
from typing import Any

from ...errors import ConfigError
from ...options.network_options import parse_address, parse_network
from ...records.layout import STATE_ROOT
from ...untrusted.answers import Flag, ListOf, Record, Text, checked

#: The name of a network, which is a part of names of units, tables and files, and a label of its domain.
NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,28}[a-z0-9])?", re.ASCII)
#: Names of interfaces that need no quoting anywhere.
INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}", re.ASCII)
_DOMAIN = re.compile(
    r"(?=.{1,200}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*", re.ASCII
)
#: The limits of a network's size: with fewer addresses there is none for a sandbox, and dnsmasq has no DHCP for more.
LONGEST_PREFIX, SHORTEST_PREFIX = 30, 8


def validate_name(name: Any) -> str:
    """The name, if it can name a network.

    :raises ConfigError: it cannot
    """
    if not isinstance(name, str) or not NAME.fullmatch(name) or name in ("user", "none"):
        raise ConfigError(
            "must be a name of a network: 1 to 30 of the characters a-z 0-9 and -, a letter first, no dash last, and not user or none",
            option="name",
            wanted=name,
        )
    return name


@dataclasses.dataclass(frozen=True)
class Definition:
    """What a task has set about a network.

    :param subnet: IPv4, in CIDR notation
    :param gateway: the host's IPv4 address in it
    :param subnet6: IPv6, in CIDR notation; empty for none
    :param dhcp_range: `FIRST-LAST`, addresses for interfaces without a lease; empty for none
    :param dns_servers: the servers that names outside the network are asked of; empty for those of the host
    """

    name: str
    subnet: str
    gateway: str
    bridge: str
    domain: str
    subnet6: str = ""
    gateway6: str = ""
    nat: bool = True
    dhcp_range: str = ""
    dns_servers: tuple[str, ...] = ()

    @property
    def network(self) -> ipaddress.IPv4Network:
        """The IPv4 subnet."""
        return ipaddress.IPv4Network(self.subnet)

    @property
    def network6(self) -> ipaddress.IPv6Network | None:
        """The IPv6 subnet."""
        return ipaddress.IPv6Network(self.subnet6) if self.subnet6 else None

    @property
    def dynamic(self) -> tuple[ipaddress.IPv4Address, ipaddress.IPv4Address] | None:
        """The first and the last address of the DHCP range."""
        if not self.dhcp_range:
            return None
        first, _dash, last = self.dhcp_range.partition("-")
        return ipaddress.IPv4Address(first), ipaddress.IPv4Address(last)

    @property
    def bridge_mac(self) -> str:
        """The bridge's address. It is fixed, so guests keep their gateway when ports of the bridge change."""
        digest = hashlib.sha256(f"network {self.name} {self.bridge}".encode()).digest()
        return ":".join(f"{byte:02x}" for byte in (0x52, 0x54, 0x00, *digest[:3]))

    def as_record(self) -> dict[str, Any]:
        """The definition as a JSON-able value, which is also what modules show."""
        return {**dataclasses.asdict(self), "dns_servers": list(self.dns_servers)}

    @classmethod
    def from_record(cls, value: Any, source: str) -> Definition:
        """The definition from its JSON value.

        :raises AnswerError: it does not have the shape
        :raises ConfigError: a value is not possible
        """
        found = checked(_SHAPE, value, source)
        return make_definition(**found)


_SHAPE = Record(
    {name: Text(300) for name in ("name", "subnet", "gateway", "bridge", "domain")},
    {
        **{name: Text(300) for name in ("subnet6", "gateway6", "dhcp_range")},
        "nat": Flag(),
        "dns_servers": ListOf(Text(100), 16),
    },
)


def make_definition(
    name: str,
    subnet: str,
    gateway: str = "",
    bridge: str = "",
    domain: str = "",
    subnet6: str = "",
    gateway6: str = "",
    nat: bool = True,
    dhcp_range: str = "",
    dns_servers: list[str] | tuple[str, ...] = (),
) -> Definition:
    """A checked definition, with defaults for what is empty.

    :raises ConfigError: a value is not possible; the error names the option
    """
    validate_name(name)
    four = parse_network(subnet, "subnet", 4)
    if not SHORTEST_PREFIX <= four.prefixlen <= LONGEST_PREFIX:
        raise ConfigError(
            f"must have a prefix from /{SHORTEST_PREFIX} to /{LONGEST_PREFIX}", option="subnet", wanted=subnet
        )
    if four.is_multicast or four.is_reserved or four.is_loopback or four.is_link_local or four.is_unspecified:
        raise ConfigError("must be a subnet for hosts", option="subnet", wanted=subnet)
    six = parse_network(subnet6, "subnet6", 6) if subnet6 else None
    if six is not None and six.prefixlen != 64:
        raise ConfigError(
            "must have the prefix /64, which router advertisements need", option="subnet6", wanted=subnet6
        )
    if six is not None and (six.is_multicast or six.is_link_local or six.is_unspecified or six.is_loopback):
        raise ConfigError("must be a subnet for hosts, such as fd12:3456:789a::/64", option="subnet6", wanted=subnet6)
    if gateway6 and six is None:
        raise ConfigError("must be used with subnet6", option="gateway6", wanted=gateway6)
    definition = Definition(
        name=name,
        subnet=str(four),
        gateway=_gateway(gateway, four, "gateway"),
        bridge=_bridge(bridge, name),
        domain=_domain(domain, name),
        subnet6=str(six) if six is not None else "",
        gateway6=_gateway(gateway6, six, "gateway6") if six is not None else "",
        nat=nat,
        dhcp_range=_dhcp_range(dhcp_range, four),
        dns_servers=tuple(parse_address(server, "dns_servers") for server in dns_servers),
    )
    dynamic = definition.dynamic
    if dynamic and dynamic[0] <= ipaddress.IPv4Address(definition.gateway) <= dynamic[1]:
        raise ConfigError(f"must not contain the gateway {definition.gateway}", option="dhcp_range", wanted=dhcp_range)
    return definition


def _gateway(given: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network, option: str) -> str:
    if not given:
        return str(network.network_address + 1)
    address = ipaddress.ip_address(parse_address(given, option, network.version))
    if address not in network or address in (network.network_address, network.broadcast_address):
        raise ConfigError(
            f"must be an address in {network}, and neither the first nor the last", option=option, wanted=given
        )
    return str(address)


def _bridge(given: str, name: str) -> str:
    if not given:
        bridge = f"kata-{name}"
        return bridge if len(bridge) <= 15 else "kata-" + hashlib.sha256(name.encode()).hexdigest()[:10]
    if not INTERFACE.fullmatch(given):
        raise ConfigError(
            "must be a name of an interface: 1 to 15 of the characters A-Z a-z 0-9 . _ and -, no dot or dash first",
            option="bridge",
            wanted=given,
        )
    return given


def _domain(given: str, name: str) -> str:
    domain = (given or f"{name}.internal").lower()
    if not _DOMAIN.fullmatch(domain):
        raise ConfigError("must be a DNS domain", option="domain", wanted=given)
    return domain


def _dhcp_range(given: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    if not given:
        return ""
    first, dash, last = (part.strip() for part in given.partition("-"))
    if not dash:
        raise ConfigError("must be FIRST-LAST, two addresses with a dash", option="dhcp_range", wanted=given)
    ends = [ipaddress.ip_address(parse_address(one, "dhcp_range", 4)) for one in (first, last)]
    for end in ends:
        if end not in network or end in (network.network_address, network.broadcast_address):
            raise ConfigError(f"must be inside {network}", option="dhcp_range", wanted=given)
    if int(ends[0]) > int(ends[1]):
        raise ConfigError("must have the smaller address first", option="dhcp_range", wanted=given)
    return f"{ends[0]}-{ends[1]}"


@dataclasses.dataclass(frozen=True)
class Network:
    """A managed network of this host: its definition, and where it keeps its files. Nothing is created here.

    :param state_root: what outlives a reboot
    """

    definition: Definition
    state_root: str = STATE_ROOT

    @property
    def name(self) -> str:
        """The network's name."""
        return self.definition.name

    @property
    def bridge(self) -> str:
        """The name of its bridge, which taps of sandboxes are added to."""
        return self.definition.bridge

    @property
    def key(self) -> str:
        """The network's unique name on the host: its name and, if its directory is not the default one, a suffix."""
        return network_key(self.name, self.state_root)

    @property
    def table(self) -> str:
        """The name of its nftables tables."""
        return f"kata-hypervisor-{self.key}"

    @property
    def unit(self) -> str:
        """The name of its systemd unit."""
        return unit_name(self.name, self.state_root)

    @property
    def directory(self) -> str:
        """Where its definition and its leases are."""
        return network_directory(self.name, self.state_root)

    @property
    def run_directory(self) -> str:
        """Where dnsmasq's files are, which do not outlive a reboot."""
        return f"{RUN_DIRECTORY}/{self.key}"

    @property
    def alias(self) -> str:
        """The text by which a bridge of ours is recognized (ip link, alias)."""
        return f"kata.hypervisor {self.key}"


#: The directory of all networks' run directories and of their lock. No sandbox has a name that starts with a dot.
RUN_DIRECTORY = "/run/kata-hypervisor/.networks"


def network_key(name: str, state_root: str) -> str:
    """The unique name of a network on its host."""
    if state_root == STATE_ROOT:
        return name
    return f"{name}.{hashlib.sha256(state_root.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def unit_name(name: str, state_root: str = STATE_ROOT) -> str:
    """The name of a network's systemd unit. Units of sandboxes start after it."""
    return f"kata-network@{network_key(name, state_root)}.service"


def network_directory(name: str, state_root: str) -> str:
    """Where a network's definition and its leases are."""
    return f"{state_root}/networks/{name}"
