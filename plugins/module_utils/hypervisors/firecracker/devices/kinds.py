# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of devices that Firecracker has."""

from __future__ import annotations

from typing import Any, Collection

from ....errors import ConfigError
from ....options.config import HypervisorConfig
from ....options.device_kinds.balloon import Balloon
from ....options.device_kinds.base import Device
from ....options.device_kinds.block import BlockDrive
from ....options.device_kinds.entropy import EntropyDevice
from ....options.device_kinds.mmds import MetadataService
from ....options.device_kinds.net import NetworkDevice
from ....options.device_kinds.pmem import PmemDrive
from ....options.device_kinds.vhost_user import VhostUserDevice
from ....options.device_kinds.vsock import Vsock
from ..api.endpoints import Version
from ..state import Jail
from .balloon import MemoryBalloon
from .base import AnyFirecrackerDevice, FirecrackerDevice
from .block import Block
from .entropy import Entropy
from .mmds import Mmds
from .net import Net
from .pmem import Pmem
from .vhost_user import VhostUser
from .vsock import HybridVsock

#: By the class of the device's record.
KINDS: dict[type[Device], type[AnyFirecrackerDevice]] = {
    BlockDrive: Block,
    NetworkDevice: Net,
    Vsock: HybridVsock,
    VhostUserDevice: VhostUser,
    PmemDrive: Pmem,
    EntropyDevice: Entropy,
    Balloon: MemoryBalloon,
    MetadataService: Mmds,
}


def device_for(record: Device) -> FirecrackerDevice[Any]:
    """The device of a record in Firecracker; one of another kind refuses everything."""
    return KINDS.get(type(record), FirecrackerDevice)(record)


def check_device(
    device: AnyFirecrackerDevice,
    config: HypervisorConfig,
    version: Version,
    jail: Jail | None,
    others: Collection[Device],
    sockets: Collection[str] = (),
) -> None:
    """Refuse a device that Firecracker, this version of it, or the host does not have. Changes nothing.

    :param others: the VM's other devices
    :param sockets: paths of those that are this sandbox's
    """
    if device.single and (
        device.asked_for_by(config) or any(device_for(other).single == device.single for other in others)
    ):
        raise ConfigError(f"Firecracker gives a VM one {device.words}", option="devices", wanted=device.identity)
    device.check(config, version, jail, sockets)
