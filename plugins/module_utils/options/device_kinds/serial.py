# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtio-serial ports."""

from __future__ import annotations

import dataclasses
from typing import Any

from .base import Device, DeviceKind, Suboption


@dataclasses.dataclass
class SerialPort(Device):
    """A virtio-serial port whose host side is a unix socket.

    :param device_id: id of the port device
    :param id: id of its character device
    :param host_path: path of the unix socket on the host
    :param name: the port's name in the guest (/dev/virtio-ports/NAME)
    """

    device_id: str
    id: str
    host_path: str
    name: str = ""

    @property
    def identity(self) -> str:
        return self.device_id


def make(device: dict[str, Any]) -> SerialPort:
    """The record of a port."""
    identity = device["id"]
    return SerialPort(identity, f"char-{identity}", device.get("path", ""), device.get("name", identity))


SERIAL = DeviceKind("serial", SerialPort, {"path": Suboption("path"), "name": Suboption()}, make, plug="serial_hotplug")
