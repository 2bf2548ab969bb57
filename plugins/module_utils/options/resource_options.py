# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of what the host gives a sandbox: root disk, volumes, network, identity. Each is declared once, and its values are checked here.

They are not part of the VM's configuration. `resources/` creates what they request, and the engine attaches it to the VM. The labels are recorded only.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Callable

from ..errors import ConfigError
from .declarations import Cost, option

WITH_DISKS = ("qemu", "firecracker", "mock")

#: Longest name of a volume: it is part of a device's id, which has 32 characters at most.
VOLUME_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,27}")
FILESYSTEMS = ("ext4", "xfs", "btrfs", "vfat", "none")

VOLUME_SUBOPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "size_mb": {"type": "int"},
    "filesystem": {"type": "str", "choices": list(FILESYSTEMS)},
    "label": {"type": "str"},
    "read_only": {"type": "bool", "default": False},
    "keep": {"type": "bool", "default": True},
}


@dataclasses.dataclass
class ResourceOptions:
    """What a sandbox gets from its host beside its VM. Zero and empty mean "none"."""

    root_disk_mb: int = option(0, "root_disk_mb", "disk", type="int", unit="MiB", cost=Cost.LIVE, only=WITH_DISKS)
    volumes: list[dict[str, Any]] = option(  # noqa: RUF009
        list, "volumes", type="list", elements="dict", cost=Cost.LIVE, only=WITH_DISKS
    )
    network: str = option("", "network", only=WITH_DISKS)
    address: str = option("", "address", only=WITH_DISKS)
    address6: str = option("", "address6", only=WITH_DISKS)
    ports: list[str] = option(list, "ports", type="list", elements="str", cost=Cost.LIVE, only=WITH_DISKS)  # noqa: RUF009
    egress: Any = option("", "egress", type="raw", cost=Cost.LIVE, only=WITH_DISKS)  # noqa: RUF009
    isolated: bool = option(False, "isolated", type="bool", cost=Cost.LIVE, only=WITH_DISKS)
    hostname: str = option("", "hostname", only=WITH_DISKS)
    ssh_keys: list[str] = option(list, "ssh_keys", type="list", elements="str", only=WITH_DISKS)  # noqa: RUF009
    user_data: Any = option("", "user_data", type="raw", only=WITH_DISKS)  # noqa: RUF009
    vendor_data: Any = option("", "vendor_data", type="raw", only=WITH_DISKS)  # noqa: RUF009
    network_config: Any = option("", "network_config", type="raw", only=WITH_DISKS)  # noqa: RUF009
    labels: dict[str, str] = option(dict, "labels", type="dict", cost=Cost.LIVE)  # noqa: RUF009
    guest_agent: str = option("", "guest_agent", choices=("install", "none"), only=WITH_DISKS)


#: The names of these options.
RESOURCE_OPTIONS = tuple(one.name for one in dataclasses.fields(ResourceOptions))

#: Those for which the host has something to create.
PROVIDED = tuple(name for name in RESOURCE_OPTIONS if name != "labels")

#: The options that make a seed, and those that only a sandbox with a network has.
IDENTITY = ("hostname", "ssh_keys", "user_data", "vendor_data", "network_config", "guest_agent")
OF_NETWORK = ("address", "address6", "ports", "egress", "isolated")


def checked_resource(name: str, value: Any) -> Any:
    """The validated value of one of these options, in one spelling.

    :raises ConfigError: it cannot be used
    """
    return _CHECKS[name](name, value)


def check_together(options: Mapping[str, Any]) -> None:
    """Refuse options that contradict each other.

    :param options: all options of the sandbox, by name
    :raises ConfigError: names one of them
    """
    network = options.get("network") or ""
    for name in OF_NETWORK:
        if options.get(name) and not network:
            raise ConfigError(
                "the sandbox must have a network for this option",
                option=name,
                wanted=options[name],
                fix="Set network to the name of a network of the host (kata_network), or to user.",
            )
    if network == "user":
        for name in ("address", "address6", "isolated"):
            if options.get(name):
                raise ConfigError(
                    "must not be set with network: user, where the VMM gives each guest a network of its own",
                    option=name,
                    wanted=options[name],
                    fix="Omit it, or use a network of the host (kata_network).",
                )
        if any(port.startswith("[") for port in options.get("ports") or []):
            raise ConfigError(
                "must be published on an IPv4 address with network: user",
                option="ports",
                wanted=options["ports"],
                fix="Omit the address, or use a network of the host (kata_network).",
            )
        if isinstance(options.get("egress"), list):
            raise ConfigError(
                "must be open or none with network: user, where the VMM has no rules for single addresses",
                option="egress",
                wanted=options["egress"],
                fix="Use a network of the host (kata_network) for a list.",
            )
    if options.get("guest_agent") and options.get("vendor_data"):
        raise ConfigError(
            "must not be set together with vendor_data, which is how the guest is told to install its agent",
            option="guest_agent",
            wanted=options["guest_agent"],
            fix="Omit one of them. Vendor data or user data can install the package qemu-guest-agent too.",
        )
    if options.get("root_disk_mb") and not options.get("image_path"):
        raise ConfigError(
            "a root disk is made from an image, so image_path must be set",
            option="root_disk_mb",
            wanted=options["root_disk_mb"],
            fix="Set image_path to a disk image, or to the name of an installed one.",
        )
    if options.get("root_disk_mb") and options.get("template"):
        raise ConfigError(
            "a clone of a template must not have a root disk, since its guest runs already",
            option="root_disk_mb",
            wanted=options["root_disk_mb"],
            fix="Omit root_disk_mb or template.",
        )


def managed_network(options: Mapping[str, Any]) -> str:
    """The name of the sandbox's network of the host; empty for none, and for a network of the VMM."""
    network = str(options.get("network") or "")
    return "" if network == "user" else network


def host_name(options: Mapping[str, Any], sandbox: str) -> str:
    """The guest's host name: the option's, else one made of the sandbox's id."""
    own = re.sub(r"[^A-Za-z0-9-]+", "-", sandbox).strip("-")[:63].rstrip("-")
    return str(options.get("hostname") or own or "sandbox")


# --- the checks ----------------------------------------------------------------------------------------------------


def _check_size(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
        raise ConfigError(f"must be a number of MiB from 0 to {2**32 - 1}", option=name, wanted=value)
    return value


def _check_bool(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError("must be true or false", option=name, wanted=value)
    return value


def _check_volumes(name: str, value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
        raise ConfigError("must be a list of volumes", option=name, wanted=value)
    volumes = [_check_volume(name, entry) for entry in value]
    names = [volume["name"] for volume in volumes]
    for volume in volumes:
        if names.count(volume["name"]) > 1:
            raise ConfigError("must not list the same volume twice", option=name, wanted=volume["name"])
    return volumes


def _check_volume(option_name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    volume: dict[str, Any] = {"read_only": False, "keep": True}
    volume.update({name: value for name, value in given.items() if value is not None})

    def wrong(what: str, value: Any) -> ConfigError:
        return ConfigError(what, option=option_name, wanted=value)

    for suboption in volume:
        if suboption not in VOLUME_SUBOPTIONS:
            raise wrong(f"a volume must have none but the suboptions {', '.join(VOLUME_SUBOPTIONS)}", suboption)
    name = volume.get("name")
    if not isinstance(name, str) or not VOLUME_NAME.fullmatch(name):
        raise wrong(
            "the name of a volume must be 1 to 28 of the characters A-Z a-z 0-9 . _ - and start with a letter or digit",
            name,
        )
    if "size_mb" in volume and not _check_size(option_name, volume["size_mb"]):
        raise wrong(f"size_mb of volume {name} must be at least 1", volume["size_mb"])
    if volume.get("filesystem", "none") not in FILESYSTEMS:
        raise wrong(f"filesystem of volume {name} must be one of {', '.join(FILESYSTEMS)}", volume["filesystem"])
    if not isinstance(volume.get("label", ""), str) or not volume.get("label", "").isprintable():
        raise wrong(f"label of volume {name} must be text", volume["label"])
    for flag in ("read_only", "keep"):
        if not isinstance(volume[flag], bool):
            raise wrong(f"{flag} of volume {name} must be true or false", volume[flag])
    return volume


def _check_network(name: str, value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z][a-z0-9-]{0,29}|", value):
        raise ConfigError("must be the name of a network of the host, or user, or none", option=name, wanted=value)
    return "" if value == "none" else value


def _check_address(name: str, value: Any) -> str:
    if not value:
        return ""
    from .network_options import parse_address

    return parse_address(value, name, 6 if name == "address6" else 4)


def _check_ports(name: str, value: Any) -> list[str]:
    from .network_options import parse_ports

    return [port.text for port in parse_ports(value, name)]


def _check_egress(name: str, value: Any) -> Any:
    from .network_options import parse_egress

    # An empty list allows no destination. Only the empty text is "not set".
    allowed = "open" if value == "" else parse_egress(value, name).value
    return "" if allowed == "open" else allowed


def _check_host_name(_name: str, value: Any) -> str:
    from .identity import checked_hostname

    return checked_hostname(value)


def _check_keys(_name: str, value: Any) -> list[str]:
    from .identity import checked_ssh_keys

    return checked_ssh_keys(value)


def _check_data(name: str, value: Any) -> str:
    from .identity import checked_user_data

    return checked_user_data(value, name)


def _check_agent(name: str, value: Any) -> str:
    if value not in ("", "install", "none"):
        raise ConfigError("must be install or none", option=name, wanted=value)
    return "" if value == "none" else str(value)


def _check_network_config(_name: str, value: Any) -> str:
    from .identity import checked_network_config

    return checked_network_config(value)


def _check_labels(name: str, value: Any) -> dict[str, str]:
    from .labels import checked_labels

    return checked_labels(name, value)


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "root_disk_mb": _check_size,
    "volumes": _check_volumes,
    "network": _check_network,
    "address": _check_address,
    "address6": _check_address,
    "ports": _check_ports,
    "egress": _check_egress,
    "isolated": _check_bool,
    "hostname": _check_host_name,
    "ssh_keys": _check_keys,
    "user_data": _check_data,
    "vendor_data": _check_data,
    "network_config": _check_network_config,
    "labels": _check_labels,
    "guest_agent": _check_agent,
}
