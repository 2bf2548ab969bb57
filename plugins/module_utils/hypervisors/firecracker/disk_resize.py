# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Grow disks of a running VM: the file on the host, and then Firecracker opens it again and tells the guest its size."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from ...errors import ConfigError, HostError, StateError, Unsupported
from ...host.atomic_files import sync
from ...host.units import MIB
from ...options.config import HypervisorConfig
from ...options.device_kinds.block import BlockDrive
from ..base import ROOT_DISK, DiskResize
from .api.dialect import dialect_for
from .device_ids import PLACEHOLDER, ROOT_DRIVE
from .devices.kinds import device_for
from .host_resources import HostResources
from .state import from_record
from .vmm import POWER, Vmm


class Disk(NamedTuple):
    """A disk that a guest has.

    :param name: its id in the API
    :param file: its path on the host
    :param seen: its path as Firecracker sees it
    :param size: bytes
    """

    name: str
    file: str
    seen: str
    size: int


def find(vmm: Vmm, config: HypervisorConfig, identity: str, size_mb: int) -> Disk:
    """Refuse a growth that is not possible. Changes nothing. Returns the disk.

    :raises ConfigError: the disk is larger
    :raises StateError: the VM does not have this disk
    :raises Unsupported: the disk cannot grow
    """
    host = HostResources(vmm, config)
    if identity == ROOT_DISK:
        if not config.root_disk_path:
            raise StateError("the VM does not have a root disk of its own", option="root_disk_mb", wanted=size_mb)
        name, file, seen = ROOT_DRIVE, config.root_disk_path, host.file_path(config.root_disk_path, ROOT_DRIVE)
    else:
        record = vmm.state.devices.get(identity)
        device = from_record(record) if record else None
        if device is None or identity not in vmm.plugged(vmm.api()):
            raise StateError("the VM does not have this disk", option="devices", wanted=identity)
        if not isinstance(device, BlockDrive) or device.read_only:
            raise _unsupported(identity, "it is read-only" if isinstance(device, BlockDrive) else "it is not a disk")
        found, places = device_for(device), vmm.state.placeholders
        name = f"{PLACEHOLDER}{places.index(identity)}" if identity in places else found.api_id
        file, seen = device.file, found.path(host)
    status = os.stat(file)
    if not stat.S_ISREG(status.st_mode):
        raise _unsupported(identity, "it is a block device of the host")
    if status.st_size > size_mb * MIB:
        least = -(-status.st_size // MIB)
        raise ConfigError(
            f"disk {identity} has {least} MiB, and a disk is never made smaller",
            option="root_disk_mb" if identity == ROOT_DISK else "size_mb",
            wanted=size_mb,
            fix=f"Set at least {least}.",
        )
    return Disk(name, file, seen, status.st_size)


def resize(vmm: Vmm, config: HypervisorConfig, identity: str, size_mb: int) -> DiskResize:
    """Grow a disk. Firecracker is always told, since it does not report the size that it knows.

    :raises HostError: the file cannot grow
    :raises ApiError: Firecracker refused
    """
    disk = find(vmm, config, identity, size_mb)
    if disk.size < size_mb * MIB:
        try:
            os.truncate(disk.file, size_mb * MIB)
            sync(disk.file)
        except OSError as error:
            raise HostError("the disk cannot be grown", wanted=disk.file, answer=str(error)) from error
    api = vmm.api()
    api.patch(f"/drives/{disk.name}", {"drive_id": disk.name, "path_on_host": disk.seen})
    if dialect_for(vmm.version).rescan and POWER.get(vmm.status(api)) == "running":
        api.put("/actions", {"action_type": "BlockDeviceRescan", "payload": disk.name})
    return DiskResize(disk.size // MIB, os.stat(disk.file).st_size // MIB)


def _unsupported(identity: str, answer: str) -> Unsupported:
    return Unsupported(
        "this disk cannot grow while the VM runs",
        option="devices",
        wanted=identity,
        answer=answer,
        fix="Disks that are files and not read_only can.",
    )
