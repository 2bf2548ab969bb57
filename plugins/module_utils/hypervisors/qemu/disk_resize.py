# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Grow disks of a running VM. QEMU grows the file and tells the guest."""

from __future__ import annotations

from typing import Any, NamedTuple

from ...errors import ConfigError, StateError, Unsupported, VmmError
from ...host.units import MIB
from ..base import ROOT_DISK, DiskResize
from .command_line import IMAGE_DEVICE
from .names import DEVICE_PREFIX
from .qmp import QmpClient, QmpError
from .vmm import plugged_devices

#: QEMU's driver of block devices of the host, which have the size that they have.
HOST_DEVICE = "host_device"


class Disk(NamedTuple):
    """A disk that a guest has.

    :param node: the node that the guest reads and writes, which may be a filter on top of the others
    :param size: bytes
    """

    node: str
    size: int


def check(qmp: QmpClient, identity: str, size_mb: int) -> Disk:
    """Refuse a growth that is not possible. Changes nothing. Returns the disk.

    :raises ConfigError: the disk is larger
    :raises StateError: the VM does not have this disk
    :raises Unsupported: the disk cannot grow
    """
    if identity != ROOT_DISK and identity not in plugged_devices(qmp):
        raise StateError("the VM does not have this disk", option="devices", wanted=identity)
    front = IMAGE_DEVICE if identity == ROOT_DISK else DEVICE_PREFIX + identity
    try:
        node = str(qmp.execute("qom-get", {"path": f"/machine/peripheral/{front}", "property": "drive"}))
    except QmpError as error:
        raise _unsupported(identity, error.answer) from error
    nodes = _nodes(qmp)
    found = nodes.get(node, {})
    if found.get("ro"):
        raise _unsupported(identity, "it is read-only")
    if HOST_DEVICE in _drivers_below(found, nodes):
        raise _unsupported(identity, "it is a block device of the host")
    size = _size(found, node)
    if size > size_mb * MIB:
        raise ConfigError(
            f"disk {identity} has {-(-size // MIB)} MiB, and a disk is never made smaller",
            option="root_disk_mb" if identity == ROOT_DISK else "size_mb",
            wanted=size_mb,
            fix=f"Set at least {-(-size // MIB)}.",
        )
    return Disk(node, size)


def resize(qmp: QmpClient, identity: str, size_mb: int) -> DiskResize:
    """Grow a disk, and read its size back.

    :raises VmmError: QEMU refused, or the disk has another size afterwards
    """
    disk = check(qmp, identity, size_mb)
    if disk.size < size_mb * MIB:
        qmp.execute("block_resize", {"node-name": disk.node, "size": size_mb * MIB})
    size = _size(_nodes(qmp).get(disk.node, {}), disk.node)
    if size != size_mb * MIB:
        raise VmmError(f"disk {identity} has {size} bytes after it was grown", wanted=size_mb)
    return DiskResize(disk.size // MIB, size // MIB)


def _nodes(qmp: QmpClient) -> dict[str, dict[str, Any]]:
    return {
        node["node-name"]: node
        for node in qmp.execute("query-named-block-nodes", {"flat": True})
        if "node-name" in node
    }


def _size(node: dict[str, Any], name: str) -> int:
    size = node.get("image", {}).get("virtual-size")
    if size is None:
        raise VmmError("QEMU does not report the size of a disk", wanted=name)
    return int(size)


def _drivers_below(node: dict[str, Any], nodes: dict[str, dict[str, Any]]) -> set[str]:
    """The drivers of the nodes that have the same file as a node: itself, and what it is read from."""
    file = node.get("file")
    return {str(one.get("drv")) for one in nodes.values() if file and one.get("file") == file}


def _unsupported(identity: str, answer: str) -> Unsupported:
    return Unsupported(
        "this disk cannot grow while the VM runs",
        option="devices",
        wanted=identity,
        answer=answer,
        fix="Disks that are files, attached by virtio-blk or virtio-scsi and not read_only, can.",
    )
