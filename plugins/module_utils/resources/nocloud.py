# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a NoCloud seed, as text. Pure. Guests read them with cloud-init, or with the script of the collection's own images.

The format is in cloud-init's documentation, "NoCloud". All files are JSON, which is YAML too, or the user's own text. One more file, which
cloud-init does not look at, has the same for the script (`guest/identity.py`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from typing import Any, Iterator, Sequence

from ..guest import identity

#: The label by which a guest finds its seed.
LABEL = "cidata"
#: The name of the interface of a managed network in the guest.
INTERFACE = "eth0"
#: What a line for the script can have as its value, beside a key.
WORD = re.compile(r"[0-9A-Za-z_.:/-]{1,255}")


@dataclasses.dataclass(frozen=True)
class Seed:
    """Who a guest is. Values are checked already (`options/identity.py`); empty ones are omitted.

    :param instance_id: the sandbox's id; what a guest reads has a digest of the seed behind it
    :param hostname: with or without a domain
    :param ssh_keys: public keys of the image's default user
    :param user_data: in one of the forms that cloud-init knows
    :param vendor_data: the same, with a lower priority
    :param network_config: the user's own network configuration
    :param network: the one that is used without it, see `network_config_of`
    """

    instance_id: str
    hostname: str = ""
    ssh_keys: tuple[str, ...] = ()
    user_data: str = ""
    vendor_data: str = ""
    network_config: str = ""
    network: str = ""


def seed_digest(seed: Seed) -> str:
    """A digest of all that the guest reads, hexadecimal. Another digest makes another instance, so cloud-init applies the seed again."""
    value = dataclasses.asdict(
        dataclasses.replace(seed, network=seed.network_config or seed.network, network_config="")
    )
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def seed_files(seed: Seed) -> dict[str, bytes]:
    """The files of a seed, by name. A file without content is omitted, except `meta-data` and `user-data`, which cloud-init asks for."""
    about: dict[str, Any] = {"instance-id": f"{seed.instance_id}-{seed_digest(seed)[:16]}"}
    if seed.hostname:
        about["local-hostname"] = seed.hostname
    if seed.ssh_keys:
        about["public-keys"] = list(seed.ssh_keys)
    files = {
        "meta-data": json.dumps(about, indent=1) + "\n",
        identity.FILE: "".join(f"{word} {value}".rstrip() + "\n" for word, value in _lines(about, seed)),
        "user-data": seed.user_data,
        "vendor-data": seed.vendor_data,
        "network-config": seed.network_config or seed.network,
    }
    return {name: text.encode() for name, text in files.items() if text or name in ("meta-data", "user-data")}


def _lines(about: dict[str, Any], seed: Seed) -> Iterator[tuple[str, str]]:
    """The words and values of the script's file."""
    yield "instance", about["instance-id"]
    if seed.hostname:
        yield "hostname", seed.hostname
    for key in seed.ssh_keys:
        yield "key", key
    yield from _network_lines(seed.network_config or seed.network)


def _network_lines(text: str) -> Iterator[tuple[str, str]]:
    """A network configuration of version 2 as lines for the script, which knows ethernets with addresses, routes to everywhere and name servers.

    One that is not JSON, as the user's own text may be, cannot be read without a parser of YAML and is left to cloud-init.
    """
    try:
        config = json.loads(text)
        config = config.get("network", config)
        interfaces = dict(config["ethernets"]).items() if config.get("version") == 2 else ()
        for name, interface in interfaces:
            lines = list(_interface_lines(name, interface))
            if WORD.fullmatch(lines[0][1]):
                yield from (line for line in lines if WORD.fullmatch(line[1]) or not line[1])
    except (ValueError, TypeError, KeyError, AttributeError):
        return


def _interface_lines(name: str, interface: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "interface", str((interface.get("match") or {}).get("macaddress") or name).lower()
    for address in interface.get("addresses") or ():
        yield "address", str(address)
    gateways = [interface.get("gateway4"), interface.get("gateway6")]
    gateways += [
        route.get("via")
        for route in interface.get("routes") or ()
        if route.get("to") in ("default", "0.0.0.0/0", "::/0")
    ]
    for gateway in filter(None, gateways):
        yield "gateway", str(gateway)
    if interface.get("dhcp4") is True:
        yield "dhcp", ""
    named = interface.get("nameservers") or {}
    for server in named.get("addresses") or ():
        yield "nameserver", str(server)
    for domain in named.get("search") or ():
        yield "search", str(domain)


def network_config_of(
    mac: str,
    addresses: Sequence[str] = (),
    gateways: Sequence[str] = (),
    nameservers: Sequence[str] = (),
    search: Sequence[str] = (),
) -> str:
    """A network configuration (version 2) of one interface, which is found by its MAC address. Without addresses, DHCP is used.

    :param addresses: with the length of the prefix, such as `10.64.0.5/24` and `fd00::5/64`
    :param gateways: at most one of IPv4 and one of IPv6
    """
    interface: dict[str, Any] = {"match": {"macaddress": mac.lower()}, "set-name": INTERFACE}
    if addresses:
        interface["addresses"] = list(addresses)
    else:
        interface["dhcp4"] = True
    if gateways:
        interface["routes"] = [
            {"to": "::/0" if ":" in gateway else "0.0.0.0/0", "via": gateway} for gateway in gateways
        ]
    if nameservers or search:
        named = {"addresses": list(nameservers), "search": list(search)}
        interface["nameservers"] = {name: value for name, value in named.items() if value}
    return json.dumps({"version": 2, "ethernets": {INTERFACE: interface}}, indent=1) + "\n"
