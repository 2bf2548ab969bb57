# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices of the host that are passed through to the guest."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

from .base import Device, DeviceKind, Refuse, Suboption


class VfioType(enum.IntEnum):
    """How a VFIO device is named: by its PCI address, or by its sysfs path (mediated)."""

    NORMAL = 1
    MEDIATED = 2


@dataclasses.dataclass
class VfioDevice(Device):
    """A host PCI device (bdf) or a mediated device (sysfs_dev) given to the guest."""

    id: str
    type: int = VfioType.NORMAL
    bdf: str = ""
    sysfs_dev: str = ""


def make(device: dict[str, Any]) -> VfioDevice:
    """The record of a device of the host."""
    if "path" in device:
        return VfioDevice(device["id"], VfioType.MEDIATED, sysfs_dev=device["path"])
    return VfioDevice(device["id"], VfioType.NORMAL, bdf=device["address"])


def check(checked: dict[str, Any], wrong: Refuse) -> None:
    """Refuse a device with two names, or none."""
    if ("address" in checked) == ("path" in checked):
        raise wrong(f"device {checked['id']} of type vfio needs either address or path")


VFIO = DeviceKind(
    "vfio",
    VfioDevice,
    {"address": Suboption(), "path": Suboption("path")},
    make,
    plug="vfio_hotplug",
    check=check,
)
