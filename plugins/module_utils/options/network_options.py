# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task writes about a sandbox's network: addresses, published ports and egress rules.

Each value has one canonical text (`text`), which is what records and results contain. Parsing that text gives the value again.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from typing import Any, Sequence

from ..errors import ConfigError

MOST_PORT = 65535
PROTOCOLS = ("tcp", "udp")
LOOPBACK = "127.0.0.1"
#: How many published ports and egress rules one sandbox may have.
MOST_RULES = 256

_PORT = re.compile(r"(?:(\[[0-9A-Fa-f:.]+\]|[0-9.]+):)?([0-9]{1,5}):([0-9]{1,5})(?:/([a-z]+))?", re.ASCII)
_EGRESS = re.compile(
    r"(?:\[([0-9A-Fa-f:.]+(?:/[0-9]{1,3})?)\]|([0-9.]+(?:/[0-9]{1,2})?))(?::([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/([a-z]+))?)?",
    re.ASCII,
)
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)

PORT_FIX = 'Write "8080:80", "127.0.0.1:2222:22", "[2001:db8::1]:8080:80" or "53:53/udp", in quotes.'
EGRESS_FIX = (
    'Write "open", "none", or a list of networks and ports, such as "10.0.0.0/8", "192.0.2.1:443", '
    '"192.0.2.0/24:8000-8080/tcp" and "[2001:db8::/32]:53/udp".'
)


@dataclasses.dataclass(frozen=True)
class Port:
    """A port of the host that leads to a port of a sandbox.

    :param address: the host's address; empty for all addresses of both families
    """

    host_port: int
    guest_port: int
    protocol: str = "tcp"
    address: str = ""

    @property
    def text(self) -> str:
        """The canonical text, as a task can write it."""
        host = f"[{self.address}]:" if ":" in self.address else f"{self.address}:" if self.address else ""
        return f"{host}{self.host_port}:{self.guest_port}" + ("/udp" if self.protocol == "udp" else "")

    @property
    def version(self) -> int:
        """4 or 6, the family of the address; 0 for both."""
        return ipaddress.ip_address(self.address).version if self.address else 0

    @property
    def is_wildcard(self) -> bool:
        """Whether it is published on all addresses of its family."""
        return not self.address or ipaddress.ip_address(self.address).is_unspecified

    @property
    def of_vmm(self) -> Port:
        """The port as a network of the VMM publishes it: on the loopback interface, unless it names an address."""
        return dataclasses.replace(self, address=self.address or LOOPBACK)

    def collides_with(self, other: Port) -> bool:
        """Whether both claim the same port of the host."""
        return (
            (self.host_port, self.protocol) == (other.host_port, other.protocol)
            and (self.version == other.version or 0 in (self.version, other.version))
            and (self.address == other.address or self.is_wildcard or other.is_wildcard)
        )


def parse_port(value: Any, option: str = "ports") -> Port:
    """A published port, from `[ADDRESS:]HOST_PORT:GUEST_PORT[/PROTOCOL]`.

    :raises ConfigError: it is not one
    """
    if isinstance(value, Port):
        return value
    if not isinstance(value, str):
        # YAML 1.1 reads 2222:22 without quotes as a number of base 60.
        raise _wrong("must be a text: a published port without quotes is a number", option, value, PORT_FIX)
    found = _PORT.fullmatch(value.strip())
    if found is None:
        raise _wrong("must be a published port", option, value, PORT_FIX)
    address, host_port, guest_port, protocol = found.groups()
    if address and ipaddress.ip_address(parse_address(address.strip("[]"), option)) == ipaddress.IPv6Address("::1"):
        raise _wrong(
            "must not be on ::1, from which the kernel forwards nothing",
            option,
            value,
            "Use 127.0.0.1, which leads to the guest on every host.",
        )
    return Port(
        _port_number(host_port, option, value),
        _port_number(guest_port, option, value),
        _protocol(protocol, option, value),
        parse_address(address.strip("[]"), option) if address else "",
    )


def parse_ports(values: Any, option: str = "ports") -> tuple[Port, ...]:
    """Published ports, in the order of the task.

    :raises ConfigError: one is wrong, or two of them claim the same port of the host
    """
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        raise _wrong("must be a list", option, values, PORT_FIX)
    if len(values) > MOST_RULES:
        raise ConfigError(f"must have at most {MOST_RULES} entries", option=option, wanted=len(values))
    ports: list[Port] = []
    for value in values:
        port = parse_port(value, option)
        other = next((one for one in ports if one.collides_with(port)), None)
        if other is not None:
            raise ConfigError(
                f"must claim each port of the host once: {other.text} and {port.text} claim the same one",
                option=option,
                wanted=[one if isinstance(one, str) else one.text for one in values],
            )
        ports.append(port)
    return tuple(ports)


@dataclasses.dataclass(frozen=True)
class EgressRule:
    """A destination that a sandbox may reach.

    :param network: in CIDR notation
    :param first_port: the first of its ports; 0 for all ports of all protocols
    """

    network: str
    first_port: int = 0
    last_port: int = 0
    protocol: str = ""

    @property
    def version(self) -> int:
        """4 or 6."""
        return ipaddress.ip_network(self.network).version

    @property
    def text(self) -> str:
        """The canonical text, as a task can write it."""
        network = self.network
        if not self.first_port:
            return network
        ports = str(self.first_port) + (f"-{self.last_port}" if self.last_port != self.first_port else "")
        return (f"[{network}]" if self.version == 6 else network) + f":{ports}/{self.protocol}"


@dataclasses.dataclass(frozen=True)
class Egress:
    """Where a sandbox may connect to.

    :param is_open: everywhere; then there are no rules
    :param rules: the only destinations; none if there are no rules
    """

    is_open: bool = True
    rules: tuple[EgressRule, ...] = ()

    @property
    def value(self) -> str | list[str]:
        """The canonical value of the task's option: `open`, `none`, or a list."""
        return "open" if self.is_open else [rule.text for rule in self.rules] or "none"


OPEN = Egress()
NONE = Egress(False)


def parse_egress(value: Any, option: str = "egress") -> Egress:
    """Egress rules, from `open`, `none`, or a list of networks with or without ports.

    :raises ConfigError: it is none of these
    """
    if isinstance(value, Egress):
        return value
    if isinstance(value, (list, tuple)) and len(value) == 1 and value[0] in ("open", "none"):
        value = value[0]
    if value == "open":
        return OPEN
    if value == "none" or (isinstance(value, (list, tuple)) and not value):
        return NONE
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, (list, tuple)):
        raise _wrong("must be open, none, or a list of networks", option, value, EGRESS_FIX)
    if len(value) > MOST_RULES:
        raise ConfigError(f"must have at most {MOST_RULES} entries", option=option, wanted=len(value))
    return Egress(False, tuple(dict.fromkeys(_egress_rule(one, option) for one in value)))


def _egress_rule(value: Any, option: str) -> EgressRule:
    if not isinstance(value, str):
        raise _wrong("must be a list of texts", option, value, EGRESS_FIX)
    text = value.strip()
    # An IPv6 network without a port needs no brackets.
    found = _EGRESS.fullmatch(f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text)
    if found is None:
        raise _wrong("must be a network in CIDR notation, with or without ports", option, value, EGRESS_FIX)
    six, four, first, last, protocol = found.groups()
    network = str(parse_network(six or four, option))
    if not first:
        return EgressRule(network)
    first_port = _port_number(first, option, value)
    last_port = _port_number(last, option, value) if last else first_port
    if last_port < first_port:
        raise ConfigError("must have the smaller port first", option=option, wanted=value)
    return EgressRule(network, first_port, last_port, _protocol(protocol, option, value))


def parse_address(value: Any, option: str = "address", version: int = 0) -> str:
    """The canonical text of an IP address.

    :param version: 4 or 6; 0 for both
    :raises ConfigError: it is not an address of this version
    """
    kind = f"IPv{version} address" if version else "IP address"
    try:
        address = ipaddress.ip_address(value if isinstance(value, str) else "")
    except ValueError:
        raise ConfigError(f"must be an {kind}", option=option, wanted=value) from None
    if (version and address.version != version) or getattr(address, "scope_id", None):
        raise ConfigError(f"must be an {kind}", option=option, wanted=value)
    return str(address)


def parse_network(
    value: Any, option: str = "subnet", version: int = 0
) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """A network in CIDR notation; an address without a prefix is a network with one address.

    :param version: 4 or 6; 0 for both
    :raises ConfigError: it is not a network of this version, or has bits of a host
    """
    kind = f"IPv{version} network" if version else "network"
    text = value if isinstance(value, str) else ""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ConfigError(
            f"must be an {kind}" if version else "must be a network",
            option=option,
            wanted=value,
            fix="Write it in CIDR notation, such as 192.0.2.0/24.",
        ) from None
    if version and network.version != version:
        raise ConfigError(f"must be an {kind} in CIDR notation", option=option, wanted=value)
    if str(network.network_address) != str(ipaddress.ip_interface(text).ip):
        raise ConfigError(
            "must be a network's first address", option=option, wanted=value, fix=f"The network of it is {network}."
        )
    return network


def parse_host_name(value: Any, option: str = "hostname") -> str:
    """A host name, which is one label of a DNS name (RFC 1123).

    :raises ConfigError: it is not one
    """
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ConfigError(
            "must be a host name: 1 to 63 of the characters a-z 0-9 and -, no dash first or last",
            option=option,
            wanted=value,
        )
    return value


def host_name_of(identity: str) -> str:
    """The host name of a sandbox that has no option `hostname`: its id, with a dash for each character that no host name has."""
    name = re.sub(r"[^a-z0-9-]", "-", identity.lower(), flags=re.ASCII)[:63].strip("-")
    return name or "sandbox"


def _port_number(digits: str, option: str, value: Any) -> int:
    number = int(digits)
    if not 1 <= number <= MOST_PORT:
        raise ConfigError(f"must have ports from 1 to {MOST_PORT}", option=option, wanted=value)
    return number


def _protocol(word: str | None, option: str, value: Any) -> str:
    if word and word not in PROTOCOLS:
        raise ConfigError(f"must have one of the protocols {' and '.join(PROTOCOLS)}", option=option, wanted=value)
    return word or "tcp"


def _wrong(message: str, option: str, wanted: Any, fix: str) -> ConfigError:
    return ConfigError(message, option=option, wanted=wanted, fix=fix)
