# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A sandbox's place in a network: what its task requests, and the lease that the network gives it. Pure."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from typing import Any

from ...errors import ConfigError
from ...options.network_options import (
    OPEN,
    Egress,
    Port,
    host_name_of,
    parse_address,
    parse_egress,
    parse_host_name,
    parse_ports,
)
from ...untrusted.answers import Anything, Flag, ListOf, Record, Text, checked
from .definition import INTERFACE, Definition

#: Version of the form of a lease's file.
SCHEMA = 1
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}", re.ASCII)
#: Characters of `SandboxLayout.host_name`.
_SANDBOX = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}(?::[0-9a-f]{8})?", re.ASCII)


@dataclasses.dataclass(frozen=True)
class LeaseRequest:
    """What a sandbox wants of a network.

    :param sandbox: its unique name on the host (`SandboxLayout.host_name`)
    :param tap: the tap of its interface
    :param hostname: the guest's host name; empty for one that is made from the id
    :param address: the IPv4 address; empty to keep the one that it has, or to get a free one
    :param address6: the same for IPv6
    :param isolated: no traffic between it and other guests
    """

    sandbox: str
    id: str
    tap: str
    mac: str
    hostname: str = ""
    address: str = ""
    address6: str = ""
    ports: tuple[Port, ...] = ()
    egress: Egress = OPEN
    isolated: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "mac", self.mac.lower())
        if not _SANDBOX.fullmatch(self.sandbox):
            raise ConfigError("must be a valid id", option="id", wanted=self.sandbox)
        if not INTERFACE.fullmatch(self.tap):
            raise ConfigError(
                "must be a name of a tap: 1 to 15 of the characters A-Z a-z 0-9 . _ and -",
                option="devices",
                wanted=self.tap,
            )
        if not _MAC.fullmatch(self.mac) or int(self.mac[:2], 16) & 1:
            raise ConfigError("must be the MAC address of one interface", option="devices", wanted=self.mac)
        if self.hostname:
            parse_host_name(self.hostname)
        if self.address:
            object.__setattr__(self, "address", parse_address(self.address, "address", 4))
        if self.address6:
            object.__setattr__(self, "address6", parse_address(self.address6, "address6", 6))

    @property
    def names(self) -> tuple[str, ...]:
        """The host names that lead to it: the one that its guest has, and its id if that is a host name.

        A name that is only made from the id, such as `a-b` from `a.b`, is left to others, unless the guest has no other one.
        """
        own = host_name_of(self.id)
        return tuple(dict.fromkeys([self.hostname or own, *([own] if own == self.id else [])]))


@dataclasses.dataclass(frozen=True)
class Lease(LeaseRequest):
    """What a network gives a sandbox.

    :param address: the requested IPv4 address; empty if the network chose one
    :param ipv4: its IPv4 address
    :param ipv6: its IPv6 address; empty if the network has no IPv6
    """

    network: str = ""
    ipv4: str = ""
    ipv6: str = ""
    gateway: str = ""
    gateway6: str = ""
    prefix: int = 0
    prefix6: int = 0
    bridge: str = ""
    bridge_mac: str = ""
    domain: str = ""

    @property
    def key(self) -> str:
        """A name for the rules about it that nftables accepts, always the same for the same sandbox."""
        return hashlib.sha256(self.sandbox.encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """The full name that leads to it, on the host and in the other guests of the network."""
        return f"{self.names[0]}.{self.domain}"

    def as_record(self) -> dict[str, Any]:
        """The lease as a JSON-able value."""
        return {
            **dataclasses.asdict(self),
            "schema": SCHEMA,
            "ports": [port.text for port in self.ports],
            "egress": self.egress.value,
        }

    @classmethod
    def from_record(cls, value: Any, definition: Definition, source: str = "the lease") -> Lease:
        """A lease from its JSON value. What the network decides, such as the gateway, is taken from its definition.

        :raises AnswerError: it does not have the shape
        :raises ConfigError: a value is not possible
        """
        found = checked(_SHAPE, value, source)
        ipv4 = parse_address(found["ipv4"], "address", 4)
        ipv6 = parse_address(found["ipv6"], "address6", 6) if found.get("ipv6") and definition.subnet6 else ""
        wanted = {name: found[name] for name in _REQUESTED if name in found}
        wanted["ports"] = parse_ports(found.get("ports", []))
        wanted["egress"] = parse_egress(found.get("egress", "open"))
        return leased(LeaseRequest(**wanted), definition, ipv4, ipv6)

    def facts(self) -> dict[str, Any]:
        """The lease as results show it."""
        return {
            "network": self.network,
            "address": self.ipv4,
            "address6": self.ipv6,
            "gateway": self.gateway,
            "gateway6": self.gateway6,
            "mac": self.mac,
            "name": self.name,
            "ports": [port.text for port in self.ports],
            "egress": self.egress.value,
            "isolated": self.isolated,
        }


_REQUESTED = tuple(field.name for field in dataclasses.fields(LeaseRequest))
_SHAPE = Record(
    {name: Text(100) for name in ("sandbox", "id", "tap", "mac", "ipv4")},
    {
        **{name: Text(100) for name in ("hostname", "address", "address6", "ipv6")},
        "ports": ListOf(Text(100), 256),
        "egress": Anything(2, 300),
        "isolated": Flag(),
    },
)


def leased(request: LeaseRequest, definition: Definition, ipv4: str, ipv6: str) -> Lease:
    """The lease of a request with these addresses."""
    return Lease(
        **{name: getattr(request, name) for name in _REQUESTED},
        network=definition.name,
        ipv4=ipv4,
        ipv6=ipv6,
        gateway=definition.gateway,
        gateway6=definition.gateway6,
        prefix=definition.network.prefixlen,
        prefix6=definition.network6.prefixlen if definition.network6 else 0,
        bridge=definition.bridge,
        bridge_mac=definition.bridge_mac,
        domain=definition.domain,
    )


def record_key(sandbox: str) -> str:
    """The name of a lease's file.

    :raises ConfigError: the text cannot name a sandbox
    """
    if not _SANDBOX.fullmatch(sandbox):
        raise ConfigError("must be a valid id", option="id", wanted=sandbox)
    return f"{sandbox}.json"
