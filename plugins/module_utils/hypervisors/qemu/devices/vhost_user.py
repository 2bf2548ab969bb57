# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices in QEMU that another process serves over a socket which a task names."""

from __future__ import annotations

from typing import Any, Collection

from ....errors import ConfigError
from ....host.sockets import check_served, connected_socket
from ....host.users import Wanted
from ....options.device_kinds.vhost_user import VhostUserDevice
from ..vmm import Vmm
from .base import QemuDevice, Started
from .host_resources import HostResources
from .objects import (
    Descriptors,
    QemuObject,
    Slot,
    connection,
    need_other_processes,
    need_pci,
    vectors_of_others,
    vhost_user_fs,
)


class VhostUser(QemuDevice[VhostUserDevice]):
    """An interface, a disk, a SCSI controller or a shared directory of another process."""

    @property
    def shares_memory(self) -> bool:
        return True

    def check_host(self, own_socket: str, own: Collection[int]) -> None:
        check_served(self.record.socket_path)

    def opened_by_name(self) -> list[Wanted]:
        return [Wanted("devices", self.record.socket_path, "rw")]

    def open(self, vmm: Vmm, resources: HostResources, started: Started) -> None:
        resources.socket = [connected_socket(self.record.socket_path)]

    def objects(self, slot: Slot, descriptors: Descriptors | None = None) -> list[QemuObject]:
        device, descriptors = self.record, descriptors or Descriptors()
        need_other_processes(device.dev_id, slot)
        if device.type == "vhost-user-fs-pci":
            return vhost_user_fs(device.dev_id, device.tag, descriptors, device.socket_path, slot)
        chardev = connection(f"char-{device.dev_id}", descriptors, device.socket_path)
        front: dict[str, Any] = dict(slot.properties())
        if device.type == "virtio-net-pci":
            netdev = f"net-{device.dev_id}"
            backend = QemuObject("netdev", netdev, "vhost-user", {"chardev": chardev.id, "queues": device.queues})
            front.update({"netdev": netdev, "mac": device.mac_address, **vectors_of_others(slot)})
            if device.queues > 1:
                front["mq"] = True
            return [chardev, backend, QemuObject("device", self.frontend_id, f"virtio-net-{slot.transport}", front)]
        if device.type in ("vhost-user-scsi-pci", "vhost-user-blk-pci"):
            need_pci(device.dev_id, slot)
            front["chardev"] = chardev.id
            if device.type == "vhost-user-scsi-pci":
                # QEMU acknowledges this feature to the process without asking whether it has it; one that has not ends the connection.
                front["param_change"] = False
            return [chardev, QemuObject("device", self.frontend_id, device.type, front)]
        raise ConfigError("there is no such vhost-user device", option="devices", wanted=device.type)
