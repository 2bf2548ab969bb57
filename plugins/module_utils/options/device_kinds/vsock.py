# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Vsocks: sockets between guest and host without a network."""

from __future__ import annotations

import dataclasses
from typing import Any

from .base import Device, DeviceKind, Suboption


@dataclasses.dataclass
class Vsock(Device):
    """A vsock device.

    :param context_id: guest CID, 3 to 2^32-2
    :param uds_path: host end of the hybrid vsock (Firecracker)
    """

    context_id: int
    uds_path: str = ""
    id: str = "vsock0"


def make(device: dict[str, Any]) -> Vsock:
    """The record of a vsock."""
    return Vsock(device["cid"], uds_path=device.get("path", ""), id=device["id"])


VSOCK = DeviceKind(
    "vsock",
    Vsock,
    {
        # 0 to 2 and 2^32 - 1 are taken (vsock(7)).
        "cid": Suboption("int", required=True, range=(3, 2**32 - 2)),
        "path": Suboption("path"),
    },
    make,
    plug="vsock_hotplug",
)
