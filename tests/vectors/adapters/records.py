# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A device record for every number and name that Kata 1.x has for a kind, for lines that give nothing else of the device."""

from __future__ import annotations

from typing import Any

from adapters.fields import Fields
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.options.devices import (
    BlockDrive,
    CpuDevice,
    Device,
    DeviceKind,
    MemoryDevice,
    NetworkDevice,
    PmemDrive,
    SerialPort,
    VfioDevice,
    VhostUserDevice,
    Volume,
    Vsock,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.untrusted.answers import brief

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
