# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of devices that ACRN has."""

from __future__ import annotations

from ....options.device_kinds.base import Device
from ....options.device_kinds.block import BlockDrive
from ....options.device_kinds.net import NetworkDevice
from ....options.device_kinds.serial import SerialPort
from .base import AcrnDevice, AnyAcrnDevice
from .block import Block
from .net import Net
from .serial import Serial

#: By the class of the device's record.
KINDS: dict[type[Device], type[AnyAcrnDevice]] = {BlockDrive: Block, NetworkDevice: Net, SerialPort: Serial}


def device_for(record: Device) -> AnyAcrnDevice:
    """The device of a record in ACRN; one of another kind is refused by name."""
    return KINDS.get(type(record), AcrnDevice)(record)
