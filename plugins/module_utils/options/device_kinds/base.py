# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a kind of device is declared. Each kind has a file of its own beside this one, and a line in the registry."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Callable, Mapping, Sequence

from ...errors import ConfigError

MAC_ADDRESS = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")

#: The numbers of a rate limit: bytes and operations per second, and what is granted once beyond that.
BUCKETS = ("bandwidth", "bandwidth_burst", "ops", "ops_burst")

#: Makes the error about a device: of a message, a fix, and the name of the suboption.
Refuse = Callable[..., ConfigError]


@dataclasses.dataclass
class Device:
    """The record of a device. Plain values: drivers translate them, nobody else acts on them."""

    @property
    def identity(self) -> str:
        """The device's id in the task, or where it has none, the name that tells it from others of its kind."""
        return str(getattr(self, "id", ""))

    @property
    def host_file(self) -> tuple[str, bool] | None:
        """The file that a VM with this device has open, and whether it can write to it."""
        return None

    @property
    def host_tap(self) -> str:
        """The tap that a VM with this device has open."""
        return ""


def device_id(device: Device) -> str:
    """See `Device.identity`."""
    return device.identity


@dataclasses.dataclass
class RateLimit:
    """A token bucket pair. Zero means unlimited.

    :param bandwidth: bytes per second
    :param bandwidth_burst: bytes granted once
    :param ops: operations per second
    :param ops_burst: operations granted once
    """

    bandwidth: int = 0
    bandwidth_burst: int = 0
    ops: int = 0
    ops_burst: int = 0


@dataclasses.dataclass(frozen=True)
class Suboption:
    """One suboption of a kind of device. A suboption `hide_NAME` keeps the suboption NAME out of results and errors.

    :param type: Ansible's type
    :param default: what it is when a task leaves it out; None leaves it to the driver
    :param elements: type of a list's elements
    :param numbers: names of the numbers in a dictionary
    :param range: least and most of a number
    :param unit: of a number
    :param updated_by: capability with which a running VM can change it while the device stays plugged; empty for none
    """

    type: str = "str"
    required: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()
    elements: str = ""
    numbers: tuple[str, ...] = ()
    range: tuple[int, int] | None = None
    unit: str = ""
    updated_by: str = ""

    def argument_spec(self) -> dict[str, Any]:
        """The suboption in an argument spec. What a kind requires is checked by `device_options.py`, as the spec is one for all kinds."""
        spec: dict[str, Any] = {"type": self.type}
        if self.choices:
            spec["choices"] = list(self.choices)
        if self.elements:
            spec["elements"] = self.elements
        if self.numbers:
            spec["options"] = {name: {"type": "int"} for name in self.numbers}
        return spec


def rate_limit(updated_by: str = "") -> Suboption:
    """A suboption that limits a rate."""
    return Suboption("dict", numbers=BUCKETS, updated_by=updated_by)


def nothing_more(_checked: dict[str, Any], _wrong: Refuse) -> None:
    """The check of a kind whose suboptions need no more than their types and ranges."""


def no_others(_device: dict[str, Any], _devices: Sequence[dict[str, Any]]) -> None:
    """The check of a kind that refers to no other device of the sandbox."""


def as_its_kind(device: dict[str, Any], _options: Mapping[str, Any]) -> str:
    """A device that is plugged as its kind is."""
    return str(device["type"])


@dataclasses.dataclass(frozen=True)
class DeviceKind:
    """A kind of device: all that is declared of it outside of the drivers.

    :param name: what a task calls it, as a device's `type`
    :param record: class of its records
    :param suboptions: by name, required ones first
    :param make: makes the record of a checked device, or of a recorded one
    :param plug: capability that a running VM needs to get one; empty: never without a restart
    :param unplug: capability that it needs to lose one; empty: as `plug`
    :param check: refuses, or corrects, values that contradict each other
    :param check_others: refuses a device that needs another one which its sandbox does not have
    :param plugged_as: kind whose capabilities it needs to be plugged, given the device and the sandbox's options
    :param from_options: values that no task gives, since they follow from the sandbox's options, with the capability that a change needs
    :param has_index: each has a position among those of its kind, which it keeps
    """

    name: str
    record: type[Device]
    suboptions: Mapping[str, Suboption]
    make: Callable[[dict[str, Any]], Device]
    plug: str = ""
    unplug: str = ""
    check: Callable[[dict[str, Any], Refuse], None] = nothing_more
    check_others: Callable[[dict[str, Any], Sequence[dict[str, Any]]], None] = no_others
    plugged_as: Callable[[dict[str, Any], Mapping[str, Any]], str] = as_its_kind
    from_options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    has_index: bool = False

    def required(self) -> tuple[str, ...]:
        """Names of the suboptions that a task must give."""
        return tuple(name for name, suboption in self.suboptions.items() if suboption.required)

    def defaults(self) -> dict[str, Any]:
        """The other suboptions, with what each is when a task leaves it out."""
        return {name: suboption.default for name, suboption in self.suboptions.items() if not suboption.required}

    def updatable(self) -> dict[str, str]:
        """The suboptions that can change while a device stays plugged, and the capability that each needs."""
        own = {name: suboption.updated_by for name, suboption in self.suboptions.items() if suboption.updated_by}
        return {**own, **self.from_options}


def values_of(device: dict[str, Any], *names: str) -> dict[str, Any]:
    """Those of the values that a device has, a rate limit as its record."""
    return {
        name: RateLimit(**device[name]) if name.endswith("rate_limit") else device[name]
        for name in names
        if name in device
    }


def check_mac(checked: dict[str, Any], wrong: Refuse) -> None:
    """Bring a MAC address into one spelling.

    :raises ConfigError: it is not the address of one interface
    """
    if "mac" not in checked:
        return
    checked["mac"] = checked["mac"].lower()
    if not MAC_ADDRESS.fullmatch(checked["mac"]) or int(checked["mac"][:2], 16) & 1:
        raise wrong(
            f"mac of device {checked['id']} must be the MAC address of one interface, not {checked['mac']}", name="mac"
        )
