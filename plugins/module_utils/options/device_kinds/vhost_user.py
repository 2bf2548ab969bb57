# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices that another process serves over a vhost-user socket."""

from __future__ import annotations

import dataclasses
from typing import Any

from .base import Device, DeviceKind, Suboption, check_mac


@dataclasses.dataclass
class VhostUserDevice(Device):
    """A device served by another process over a vhost-user socket.

    :param type: vhost-user-scsi-pci, vhost-user-net (virtio-net-pci), vhost-user-blk-pci or vhost-user-fs-pci
    """

    dev_id: str
    socket_path: str
    type: str
    mac_address: str = ""
    tag: str = ""
    queues: int = 1

    @property
    def identity(self) -> str:
        return self.dev_id


def make(device: dict[str, Any]) -> VhostUserDevice:
    """The record of such a device."""
    return VhostUserDevice(
        device["id"],
        device["path"],
        device["model"],
        device.get("mac", ""),
        device.get("tag", ""),
        queues=device["queues"],
    )


VHOST_USER = DeviceKind(
    "vhost_user",
    VhostUserDevice,
    {
        "path": Suboption("path", required=True),
        "model": Suboption(
            required=True,
            choices=("vhost-user-scsi-pci", "virtio-net-pci", "vhost-user-blk-pci", "vhost-user-fs-pci"),
        ),
        "mac": Suboption(),
        "tag": Suboption(),
        "queues": Suboption("int", default=1, range=(1, 256)),
    },
    make,
    plug="vhost_user_hotplug",
    check=check_mac,
)
