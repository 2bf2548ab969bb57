# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A device record for every number and name that Kata 1.x has for a kind, for lines that give nothing else of the device."""

from __future__ import annotations

import enum
from typing import Any

from adapters.fields import Fields
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.base import Device
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.block import BlockDrive
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.fs import Volume
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.net import NetworkDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.pmem import PmemDrive
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.serial import SerialPort
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vfio import VfioDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vhost_user import VhostUserDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vsock import Vsock
from ansible_collections.kata.hypervisor.plugins.module_utils.options.devices import CpuDevice, MemoryDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.untrusted.answers import brief


class DeviceKind(enum.IntEnum):
    """Kata 1.x's kinds of devices, with its numbers."""

    IMAGE = 0
    FS = 1
    NET = 2
    BLOCK = 3
    SERIAL_PORT = 4
    VSOCK = 5
    VFIO = 6
    VHOST_USER = 7
    CPU = 8
    MEMORY = 9


#: The last number of a kind that Kata 1.x has. Ours go on, with kinds of our own.
LAST_KIND = DeviceKind.MEMORY


def record_of(kind: int, value: Any = None) -> Device:
    """A device of that kind.

    :param value: what Kata 1.x hands over: the number of vCPUs, or the memory's record; unused for the other kinds
    :raises ConfigError: the value has another type
    """
    if kind == DeviceKind.CPU:
        return CpuDevice(value)
    if kind == DeviceKind.MEMORY:
        memory = value if isinstance(value, dict) else {"size_mb": value}
        return MemoryDevice(Fields(memory).values.get("size_mb", 0))
    devices: dict[int, Device] = {
        # An image is a part of the configuration here. In Kata 1.x it is a file that a guest maps.
        DeviceKind.IMAGE: PmemDrive("/golden/image", id="image"),
        DeviceKind.FS: Volume("tag", "/golden"),
        DeviceKind.NET: NetworkDevice("tap", name="net0", id="net0"),
        DeviceKind.BLOCK: BlockDrive("/golden/disk", id="disk"),
        DeviceKind.SERIAL_PORT: SerialPort("port0", "char0", "/golden/socket"),
        DeviceKind.VSOCK: Vsock(3),
        DeviceKind.VFIO: VfioDevice("vfio0", bdf="00:01.0"),
        DeviceKind.VHOST_USER: VhostUserDevice("user0", "/golden/socket", "vhost-user-blk-pci"),
    }
    if kind not in devices:
        raise ConfigError("there is no such kind of device", wanted=brief(kind))
    return devices[kind]
