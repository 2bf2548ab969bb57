# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects that make a device in QEMU, where it is plugged, and what kinds of devices share. Pure.

The same objects go onto a command line (a device that is there from the start) and over QMP (one that is plugged in), so that both make
the same device. Ids in QEMU are the user's with a prefix: they never clash with the machine's own and always start with a letter.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ....errors import Unsupported
from ..arguments import Argument
from ..machines import Machine
from ..names import DEVICE_PREFIX


@dataclasses.dataclass
class QemuObject:
    """One of the objects that make a device in QEMU.

    :param kind: blockdev, netdev, chardev, object, fsdev or device; fdset is an open file that QEMU inherits
    :param id: its id in QEMU
    :param type: its driver or type
    :param properties: the rest, as QMP takes it
    """

    kind: str
    id: str
    type: str
    properties: dict[str, Any] = dataclasses.field(default_factory=dict)

    def argument(self) -> Argument:
        """The object as an option of the command line."""
        if self.kind == "fdset":
            return Argument("add-fd", None, self.properties)
        key = "node-name" if self.kind == "blockdev" else "id"
        if self.kind == "chardev":
            return Argument("chardev", "socket", {"id": self.id, **self.properties})
        return Argument(self.kind, self.type, {key: self.id, **self.properties})


@dataclasses.dataclass
class Slot:
    """Where a device goes: a bus and an address, what its transport is called, whether another process can serve it there.

    :param memory: how a file can be in the guest's memory there
    :param irqfd: interrupts reach the guest by themselves, as they do under KVM
    """

    transport: str
    bus: str = ""
    addr: str = ""
    vhost_user: bool = True
    memory: tuple[str, ...] = ("nvdimm", "virtio-pmem")
    irqfd: bool = True

    @classmethod
    def for_machine(cls, machine: Machine) -> Slot:
        """A machine's transport, wherever QEMU finds a place on it."""
        return cls(machine.transport, vhost_user=machine.vhost_user, memory=machine.image_drivers)

    def properties(self) -> dict[str, Any]:
        """bus and addr, where there are any."""
        return {"bus": self.bus, "addr": self.addr} if self.bus else {}


@dataclasses.dataclass
class Descriptors:
    """Names by which QEMU knows open files: numbers on a command line, names given with getfd over QMP.

    :param socket: a connection to the process that serves it
    :param file: path by which QEMU knows the open file of a disk
    :param block: that is a block device
    :param size: of the device's file, bytes
    """

    tap: list[str] = dataclasses.field(default_factory=list)
    vhost: list[str] = dataclasses.field(default_factory=list)
    listener: str = ""
    socket: str = ""
    file: str = ""
    block: bool = False
    size: int = 0


def connection(identifier: str, descriptors: Descriptors, path: str) -> QemuObject:
    """The chardev of a device that another process serves: a connection that we have made, where there is one."""
    return QemuObject(
        "chardev", identifier, "socket", {"fd": descriptors.socket} if descriptors.socket else {"path": path}
    )


def vhost_user_fs(identifier: str, tag: str, descriptors: Descriptors, path: str, slot: Slot) -> list[QemuObject]:
    """The objects of a directory that another process shares.

    :raises Unsupported: no other process can serve a device there
    """
    need_other_processes(identifier, slot)
    chardev = f"char-{identifier}"
    front: dict[str, Any] = {"chardev": chardev, "tag": tag, **slot.properties()}
    return [
        connection(chardev, descriptors, path),
        QemuObject("device", DEVICE_PREFIX + identifier, f"vhost-user-fs-{slot.transport}", front),
    ]


def vectors_of_others(slot: Slot) -> dict[str, Any]:
    """What an interface whose queues another process or the kernel serves says of MSI-X: without KVM, QEMU 7.2 ends by a segmentation fault with it."""
    return {"vectors": 0} if slot.transport == "pci" and not slot.irqfd else {}


def need_pci(identity: str, slot: Slot) -> None:
    """Refuse a PCI device on a machine without PCI."""
    if slot.transport != "pci":
        raise Unsupported("this machine type has no PCI, which this device needs", option="devices", wanted=identity)


def need_other_processes(identity: str, slot: Slot) -> None:
    """Refuse a device of another process on a machine where none can serve one."""
    if not slot.vhost_user:
        raise Unsupported(
            "no other process can serve a device of this machine type",
            option="devices",
            wanted=identity,
            fix="Share directories with shared_fs virtio-9p.",
        )
