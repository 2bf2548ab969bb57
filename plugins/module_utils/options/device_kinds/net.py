# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network interfaces."""

from __future__ import annotations

import dataclasses
from typing import Any

from .base import Device, DeviceKind, RateLimit, Refuse, Suboption, check_mac, rate_limit, values_of

#: The largest MTU of a tap: 65535 less its Ethernet header (the kernel's drivers/net/tun.c).
MOST_TAP_MTU = 65521


@dataclasses.dataclass
class NetworkDevice(Device):
    """A network interface of the guest.

    :param kind: tap, macvtap or user
    :param tap_name: name of the tap on the host
    :param forwards: ports of the host that lead to the guest, for the kind user, see `network_options.Port.text`
    :param offline: the guest of an interface of the kind user cannot connect to anything
    """

    kind: str
    name: str = ""
    mac: str = ""
    tap_name: str = ""
    queues: int = 1
    vhost: bool = False
    bridge: str = ""
    mtu: int = 0
    id: str = ""
    rx_rate_limit: RateLimit | None = None
    tx_rate_limit: RateLimit | None = None
    forwards: list[str] = dataclasses.field(default_factory=list)
    offline: bool = False

    @property
    def identity(self) -> str:
        return self.id or self.name or self.tap_name

    @property
    def host_tap(self) -> str:
        return self.tap_name if self.kind == "tap" else ""


def make(device: dict[str, Any]) -> NetworkDevice:
    """The record of an interface."""
    names = ("kind", "mac", "tap_name", "queues", "vhost", "bridge", "mtu", "id", "rx_rate_limit", "tx_rate_limit")
    return NetworkDevice(name=device["id"], **values_of(device, *names, "forwards", "offline"))


def check(checked: dict[str, Any], wrong: Refuse) -> None:
    """Refuse an address that no interface has, and an MTU that no tap has."""
    check_mac(checked, wrong)
    if checked["kind"] == "tap" and checked.get("mtu", 0) > MOST_TAP_MTU:
        raise wrong(
            f"mtu of device {checked['id']} must be at most {MOST_TAP_MTU}, which is what a tap takes", name="mtu"
        )


NET = DeviceKind(
    "net",
    NetworkDevice,
    {
        "kind": Suboption(required=True, choices=("tap", "user", "macvtap")),
        "mac": Suboption(),
        "tap_name": Suboption(),
        "bridge": Suboption(),
        "queues": Suboption("int", default=1, range=(1, 256)),
        "vhost": Suboption("bool", default=False),
        # IPv4's least (RFC 791) and the largest frame that virtio-net's 16-bit field can name.
        "mtu": Suboption("int", range=(68, 65535), unit="bytes"),
        "rx_rate_limit": rate_limit("device_update"),
        "tx_rate_limit": rate_limit("device_update"),
    },
    make,
    plug="network_hotplug",
    check=check,
    from_options={"forwards": "port_forward_update"},
)
