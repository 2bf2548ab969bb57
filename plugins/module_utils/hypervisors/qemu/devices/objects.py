# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a device is made of in QEMU: its parts in the order they are made. Pure.

The same parts go onto a command line (a device that is there from the start) and over QMP (one that is plugged in), so that both make
the same device. Ids in QEMU are the user's with a prefix: they never clash with the machine's own and always start with a letter.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ....errors import ConfigError, Unsupported
from ....guest.disks import scsi_id_lun
from ....options.device_kinds.base import Device, RateLimit, device_id
from ....options.device_kinds.block import BlockDrive
from ....options.device_kinds.fs import Volume
from ....options.device_kinds.net import NetworkDevice
from ....options.device_kinds.pmem import PmemDrive
from ....options.device_kinds.serial import SerialPort
from ....options.device_kinds.vfio import VfioDevice, VfioType
from ....options.device_kinds.vhost_user import VhostUserDevice
from ....options.device_kinds.vsock import Vsock
from ..arguments import Argument
from ..machines import Machine
from ..names import DEVICE_PREFIX

#: QEMU's devices that put a file into the guest's memory map, and what the file's length is a multiple of, bytes.
MEMORY_FRONTS = {"nvdimm": "nvdimm", "virtio-pmem": "virtio-pmem-pci"}
MEMORY_BLOCK = 2 << 20


@dataclasses.dataclass
class QemuObject:
    """One part of a device.

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
        """The part as an option of the command line."""
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


def frontend_id(device: Device) -> str:
    """The id in QEMU of the part that the guest sees."""
    return DEVICE_PREFIX + device_id(device)


def needs_slot(device: Device, driver: str) -> bool:
    """Does it take a slot on a bridge? SCSI disks and serial ports sit on controllers of their own."""
    return not isinstance(device, SerialPort) and not (
        isinstance(device, BlockDrive) and driver in ("virtio-scsi", "nvdimm")
    )


def is_memory(device: BlockDrive | PmemDrive, driver: str) -> bool:
    """Is it a file in the guest's memory?

    :param driver: how a block device reaches the guest where its record does not say
    """
    return isinstance(device, PmemDrive) or (device.driver or driver) == "nvdimm"


def objects_for(
    device: Device, place: Slot, driver: str = "", descriptors: Descriptors | None = None
) -> list[QemuObject]:
    """The parts of a device, the one that the guest sees last.

    :param driver: how a block device reaches the guest where its record does not say
    :param descriptors: names of the open files that QEMU was handed for it
    :raises Unsupported: QEMU has no such device, or this driver cannot make it
    """
    descriptors = descriptors or Descriptors()
    if isinstance(device, (BlockDrive, PmemDrive)) and is_memory(device, driver):
        return _memory(device, place, descriptors)
    if isinstance(device, BlockDrive):
        return _block(device, place, device.driver or driver, descriptors)
    if isinstance(device, NetworkDevice):
        return _network(device, place, descriptors)
    if isinstance(device, SerialPort):
        return _serial_port(device, descriptors)
    if isinstance(device, Volume):
        return _shared_directory(device, place, descriptors)
    if isinstance(device, Vsock):
        return _vsock(device, place, descriptors)
    if isinstance(device, VfioDevice):
        return _vfio(device, place)
    if isinstance(device, VhostUserDevice):
        return _vhost_user(device, place, descriptors)
    raise Unsupported(f"the qemu driver has no device of kind {type(device).__name__}")


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


def _block(drive: BlockDrive, place: Slot, driver: str, descriptors: Descriptors) -> list[QemuObject]:
    node = node_id(drive)
    block = descriptors.block if descriptors.file else drive.file.startswith("/dev/")
    properties: dict[str, Any] = {
        "read-only": drive.read_only,
        "discard": "unmap" if drive.discard else "ignore",
        "file": {"driver": "host_device" if block else "file", "filename": descriptors.file or drive.file},
    }
    if drive.io_engine:
        properties["file"]["aio"] = {"sync": "threads", "async": "io_uring"}[drive.io_engine]
    if drive.cache:
        properties["cache"] = {"direct": drive.cache.startswith("none"), "no-flush": drive.cache.endswith("unsafe")}
    if drive.format not in ("raw", "qcow2"):
        raise ConfigError("the format of a disk must be raw or qcow2", option="devices", wanted=drive.format)
    if drive.format != "raw":
        # Whatever the header names is not opened.
        properties["backing"] = None
    backend = [QemuObject("blockdev", node, drive.format, properties), *limiter(drive)]
    front: dict[str, Any] = {"drive": backend[-1].id}
    if drive.serial:
        front["serial"] = drive.serial
    if drive.cache:
        front["write-cache"] = "off" if drive.cache == "writethrough" else "on"
    if driver == "virtio-scsi":
        scsi_id, lun = scsi_id_lun(drive.index)
        return [
            *backend,
            QemuObject(
                "device", frontend_id(drive), "scsi-hd", {"bus": "scsi0.0", "scsi-id": scsi_id, "lun": lun, **front}
            ),
        ]
    if driver == "virtio-blk":
        return [
            *backend,
            QemuObject("device", frontend_id(drive), f"virtio-blk-{place.transport}", {**front, **place.properties()}),
        ]
    raise Unsupported(
        f"the qemu driver attaches no disk by {driver}",
        option="devices",
        wanted=drive.id,
        fix="Choose virtio-blk or virtio-scsi.",
    )


def _memory(drive: BlockDrive | PmemDrive, place: Slot, descriptors: Descriptors) -> list[QemuObject]:
    """A file in the guest's memory map: what the guest writes is in the file, and the host's page cache is the only one."""
    kind = "virtio-pmem" if isinstance(drive, PmemDrive) else "nvdimm"
    if kind not in place.memory:
        raise Unsupported(f"this machine type has no {kind}", option="devices", wanted=drive.id)
    if isinstance(drive, PmemDrive) and drive.read_only:
        fix = "Use type block with driver nvdimm, or leave read_only out."
        raise Unsupported("QEMU's virtio-pmem cannot be read-only", option="devices", wanted=drive.id, fix=fix)
    if drive.rate_limit:
        raise Unsupported("QEMU cannot limit a file in the guest's memory", option="devices", wanted=drive.id)
    if isinstance(drive, BlockDrive) and drive.format != "raw":
        raise ConfigError("a file in the guest's memory is raw", option="devices", wanted=drive.format)
    backend: dict[str, Any] = {
        "mem-path": descriptors.file or drive.file,
        "size": descriptors.size,
        "share": not drive.read_only,
    }
    front: dict[str, Any] = {"memdev": f"file-{drive.id}"}
    if drive.read_only:
        backend["readonly"] = front["unarmed"] = True
    if kind == "virtio-pmem":
        front.update(place.properties())
    return [
        QemuObject("object", f"file-{drive.id}", "memory-backend-file", backend),
        QemuObject("device", frontend_id(drive), MEMORY_FRONTS[kind], front),
    ]


def node_id(drive: BlockDrive) -> str:
    """The id in QEMU of the disk itself, without its limits."""
    return f"node-{drive.id}"


def limiter(drive: BlockDrive) -> list[QemuObject]:
    """What stands between the guest and a disk with limits: the limits, and a filter that keeps them."""
    if drive.rate_limit is None:
        return []
    filtered = {"throttle-group": f"limits-{drive.id}", "file": node_id(drive), "read-only": drive.read_only}
    filtered["discard"] = "unmap" if drive.discard else "ignore"
    return [
        QemuObject("object", f"limits-{drive.id}", "throttle-group", {"limits": limits(drive.rate_limit)}),
        QemuObject("blockdev", f"limited-{drive.id}", "throttle", filtered),
    ]


def limits(limit: RateLimit) -> dict[str, int]:
    """A rate limit as QEMU's ThrottleLimits: a maximum is what may go through in one second, after a quiet one.

    All are said, since what is not said stays as it is.
    """
    found = {}
    for name, rate, burst in (("bps", limit.bandwidth, limit.bandwidth_burst), ("iops", limit.ops, limit.ops_burst)):
        found[f"{name}-total"] = rate
        found[f"{name}-total-max"] = rate + burst if burst else 0
    return found


def _network(interface: NetworkDevice, place: Slot, descriptors: Descriptors) -> list[QemuObject]:
    netdev = f"net-{interface.id}"
    if interface.rx_rate_limit or interface.tx_rate_limit:
        raise Unsupported(
            "QEMU cannot limit the rate of an interface",
            option="devices",
            wanted=interface.id,
            fix="Limit its tap on the host (tc), or choose hypervisor firecracker.",
        )
    if interface.kind == "user":
        backend = QemuObject("netdev", netdev, "user")
    elif interface.kind in ("tap", "macvtap"):
        properties: dict[str, Any] = {"fds": ":".join(descriptors.tap)}
        if descriptors.vhost:
            properties.update({"vhost": True, "vhostfds": ":".join(descriptors.vhost)})
        else:
            properties["vhost"] = False
        backend = QemuObject("netdev", netdev, "tap", properties)
    else:
        raise Unsupported(
            f"the qemu driver has no network interface of kind {interface.kind}", option="devices", wanted=interface.id
        )
    front: dict[str, Any] = {"netdev": netdev, "mac": interface.mac, **place.properties()}
    if interface.queues > 1:
        front["mq"] = True
        if place.transport == "pci":
            front["vectors"] = 2 * interface.queues + 2
    if descriptors.vhost:
        front.update(_vectors_of_others(place))
    if interface.mtu:
        front["host_mtu"] = interface.mtu
    return [backend, QemuObject("device", frontend_id(interface), f"virtio-net-{place.transport}", front)]


def _vectors_of_others(place: Slot) -> dict[str, Any]:
    """What an interface whose queues another process or the kernel serves says of MSI-X: without KVM, QEMU 7.2 ends by a segmentation fault with it."""
    return {"vectors": 0} if place.transport == "pci" and not place.irqfd else {}


def _serial_port(port: SerialPort, descriptors: Descriptors) -> list[QemuObject]:
    chardev = f"char-{port.device_id}"
    return [
        QemuObject("chardev", chardev, "socket", {"fd": descriptors.listener, "server": True, "wait": False}),
        QemuObject(
            "device",
            frontend_id(port),
            "virtserialport",
            {"bus": "serial0.0", "chardev": chardev, "name": port.name or port.device_id},
        ),
    ]


def _shared_directory(volume: Volume, place: Slot, descriptors: Descriptors) -> list[QemuObject]:
    if descriptors.socket:
        return _vhost_user_fs(volume.id, volume.mount_tag, descriptors, "", place)
    # mapped-xattr: what a guest calls root owns nothing of the host's.
    export = QemuObject(
        "fsdev", f"fs-{volume.id}", "local", {"path": volume.host_path, "security_model": "mapped-xattr"}
    )
    if volume.read_only:
        export.properties["readonly"] = True
    front = {"fsdev": export.id, "mount_tag": volume.mount_tag, **place.properties()}
    return [export, QemuObject("device", frontend_id(volume), f"virtio-9p-{place.transport}", front)]


def _connection(identifier: str, descriptors: Descriptors, path: str) -> QemuObject:
    """The chardev of a device that another process serves: a connection that we have made, where there is one."""
    return QemuObject(
        "chardev", identifier, "socket", {"fd": descriptors.socket} if descriptors.socket else {"path": path}
    )


def _vhost_user_fs(identifier: str, tag: str, descriptors: Descriptors, path: str, place: Slot) -> list[QemuObject]:
    _need_other_processes(identifier, place)
    chardev = f"char-{identifier}"
    front: dict[str, Any] = {"chardev": chardev, "tag": tag, **place.properties()}
    return [
        _connection(chardev, descriptors, path),
        QemuObject("device", DEVICE_PREFIX + identifier, f"vhost-user-fs-{place.transport}", front),
    ]


def _vsock(vsock: Vsock, place: Slot, descriptors: Descriptors) -> list[QemuObject]:
    front: dict[str, Any] = {"guest-cid": vsock.context_id, **place.properties()}
    if descriptors.vhost:
        front["vhostfd"] = descriptors.vhost[0]
    return [QemuObject("device", frontend_id(vsock), f"vhost-vsock-{place.transport}", front)]


def _vfio(device: VfioDevice, place: Slot) -> list[QemuObject]:
    _need_pci(device.id, place)
    if device.type == VfioType.MEDIATED:
        front: dict[str, Any] = {"sysfsdev": device.sysfs_dev}
    elif device.type == VfioType.NORMAL:
        front = {"host": device.bdf}
    else:
        raise ConfigError("there is no such type of VFIO device", option="devices", wanted=device.type)
    return [QemuObject("device", frontend_id(device), "vfio-pci", {**front, **place.properties()})]


def _need_pci(identity: str, place: Slot) -> None:
    if place.transport != "pci":
        raise Unsupported("this machine type has no PCI, which this device needs", option="devices", wanted=identity)


def _need_other_processes(identity: str, place: Slot) -> None:
    if not place.vhost_user:
        raise Unsupported(
            "no other process can serve a device of this machine type",
            option="devices",
            wanted=identity,
            fix="Share directories with shared_fs virtio-9p.",
        )


def _vhost_user(device: VhostUserDevice, place: Slot, descriptors: Descriptors) -> list[QemuObject]:
    _need_other_processes(device.dev_id, place)
    if device.type == "vhost-user-fs-pci":
        return _vhost_user_fs(device.dev_id, device.tag, descriptors, device.socket_path, place)
    chardev = f"char-{device.dev_id}"
    parts = [_connection(chardev, descriptors, device.socket_path)]
    front: dict[str, Any] = dict(place.properties())
    if device.type == "virtio-net-pci":
        netdev = f"net-{device.dev_id}"
        parts.append(QemuObject("netdev", netdev, "vhost-user", {"chardev": chardev, "queues": device.queues}))
        front.update({"netdev": netdev, "mac": device.mac_address, **_vectors_of_others(place)})
        if device.queues > 1:
            front["mq"] = True
        return [*parts, QemuObject("device", frontend_id(device), f"virtio-net-{place.transport}", front)]
    if device.type in ("vhost-user-scsi-pci", "vhost-user-blk-pci"):
        _need_pci(device.dev_id, place)
        front["chardev"] = chardev
        if device.type == "vhost-user-scsi-pci":
            # QEMU acknowledges this feature to the process without asking whether it has it; one that has not ends the connection.
            front["param_change"] = False
        return [*parts, QemuObject("device", frontend_id(device), device.type, front)]
    raise ConfigError("there is no such vhost-user device", option="devices", wanted=device.type)
