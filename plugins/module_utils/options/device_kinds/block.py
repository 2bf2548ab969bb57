# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Mapping

from .base import Device, DeviceKind, RateLimit, Refuse, Suboption, rate_limit, values_of

#: Bytes of a disk's serial number (virtio's VIRTIO_BLK_ID_BYTES).
MOST_SERIAL = 20


@dataclasses.dataclass
class BlockDrive(Device):
    """A disk: a file or a block device of the host.

    :param file: path on the host
    :param format: raw or qcow2; never probed
    :param index: position that names the SCSI address
    :param driver: virtio-blk, virtio-scsi, nvdimm; empty takes the configuration's
    :param cache: none, writeback, writethrough or unsafe; empty takes the configuration's
    :param managed: the file is ours, and not one that a task names: a volume or a seed
    :param serial: what the guest sees as the disk's serial number, at most 20 bytes
    """

    file: str
    format: str = "raw"
    id: str = ""
    index: int = 0
    driver: str = ""
    read_only: bool = False
    cache: str = ""
    discard: bool = False
    serial: str = ""
    io_engine: str = ""
    rate_limit: RateLimit | None = None
    managed: bool = False

    @property
    def host_file(self) -> tuple[str, bool]:
        return self.file, not self.read_only


def make(device: dict[str, Any]) -> BlockDrive:
    """The record of a disk."""
    names = ("file", "format", "id", "index", "driver", "read_only", "cache", "discard", "serial", "io_engine")
    return BlockDrive(**values_of(device, *names, "rate_limit"), managed="source" in device)


def check(checked: dict[str, Any], wrong: Refuse) -> None:
    """Refuse a serial number that a guest would see cut."""
    if len(os.fsencode(checked.get("serial", ""))) > MOST_SERIAL:
        raise wrong(
            f"serial of device {checked['id']} must be at most {MOST_SERIAL} bytes long, which is what a guest sees",
            name="serial",
        )


def plugged_as(device: dict[str, Any], options: Mapping[str, Any]) -> str:
    """A disk in the guest's memory is plugged as persistent memory is."""
    return "pmem" if (device.get("driver") or options.get("block_device_driver")) == "nvdimm" else "block"


BLOCK = DeviceKind(
    "block",
    BlockDrive,
    {
        "file": Suboption("path", required=True, updated_by="device_update"),
        "format": Suboption(choices=("raw", "qcow2"), default="raw"),
        "driver": Suboption(choices=("virtio-blk", "virtio-scsi", "nvdimm")),
        "read_only": Suboption("bool", default=False),
        "cache": Suboption(choices=("none", "writeback", "writethrough", "unsafe")),
        "discard": Suboption("bool", default=False),
        "serial": Suboption(),
        "io_engine": Suboption(choices=("sync", "async")),
        "rate_limit": rate_limit("disk_limit_update"),
    },
    make,
    plug="block_device_hotplug",
    unplug="block_device_unplug",
    check=check,
    plugged_as=plugged_as,
    has_index=True,
)
