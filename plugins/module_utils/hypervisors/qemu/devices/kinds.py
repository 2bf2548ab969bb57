# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of devices that QEMU has."""

from __future__ import annotations

from ....errors import Unsupported
from ....options.config import HypervisorConfig
from ....options.device_kinds.base import Device
from ....options.device_kinds.block import BlockDrive
from ....options.device_kinds.fs import Volume
from ....options.device_kinds.net import NetworkDevice
from ....options.device_kinds.pmem import PmemDrive
from ....options.device_kinds.serial import SerialPort
from ....options.device_kinds.vfio import VfioDevice
from ....options.device_kinds.vhost_user import VhostUserDevice
from ....options.device_kinds.vsock import Vsock
from .base import AnyQemuDevice
from .block import Block
from .fs import Fs
from .net import Net
from .pmem import Pmem
from .serial import Serial
from .vfio import Vfio
from .vhost_user import VhostUser
from .vsock import VhostVsock

#: By the class of the device's record.
KINDS: dict[type[Device], type[AnyQemuDevice]] = {
    BlockDrive: Block,
    NetworkDevice: Net,
    Volume: Fs,
    SerialPort: Serial,
    Vsock: VhostVsock,
    VfioDevice: Vfio,
    VhostUserDevice: VhostUser,
    PmemDrive: Pmem,
}


def device_for(record: Device, config: HypervisorConfig) -> AnyQemuDevice:
    """The device of a record in QEMU.

    :raises Unsupported: QEMU has no such device, or this driver cannot make it
    """
    if type(record) not in KINDS:
        raise Unsupported(f"the qemu driver has no device of kind {type(record).__name__}")
    return KINDS[type(record)](record, config)
