# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The records of devices a sandbox can have. Plain values: drivers translate them, nobody else acts on them."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Union

from ..errors import ConfigError


class DeviceKind(enum.IntEnum):
    """Kinds of devices, up to memory with the numbers of Kata 1.x (they show up in its error texts)."""

    IMAGE = 0
    FS = 1
    NET = 2
    BLOCK = 3
    SERIAL_PORT = 4
    VSOCK = 5
    VFIO = 6
    VHOST_USER = 7
    CPU = 8
    MEMORY = 9
    BALLOON = 10
    PMEM = 11
    ENTROPY = 12
    METADATA = 13


@dataclasses.dataclass
class Volume:
    """A directory of the host shared with the guest under a tag."""

    mount_tag: str
    host_path: str
    id: str = ""
    read_only: bool = False


@dataclasses.dataclass
class SerialPort:
    """A virtio-serial port whose host side is a unix socket.

    :param device_id: id of the port device
    :param id: id of its character device
    :param host_path: path of the unix socket on the host
    :param name: the port's name in the guest (/dev/virtio-ports/NAME)
    """

    device_id: str
    id: str
    host_path: str
    name: str = ""


@dataclasses.dataclass
class Vsock:
    """A vsock device.

    :param context_id: guest CID, 3 to 2^32-1
    :param uds_path: host end of the hybrid vsock (Firecracker)
    """

    context_id: int
    uds_path: str = ""
    id: str = "vsock0"


@dataclasses.dataclass
class RateLimit:
    """A token bucket pair. Zero means unlimited.

    :param bandwidth: bytes per second
    :param bandwidth_burst: bytes granted once
    :param ops: operations per second
    :param ops_burst: operations granted once
    """

    bandwidth: int = 0
    bandwidth_burst: int = 0
    ops: int = 0
    ops_burst: int = 0


@dataclasses.dataclass
class BlockDrive:
    """A disk: a file or a block device of the host.

    :param file: path on the host
    :param format: raw or qcow2; never probed
    :param index: position that names the SCSI address
    :param driver: virtio-blk, virtio-scsi, nvdimm; empty takes the configuration's
    :param cache: none, writeback, writethrough or unsafe; empty takes the configuration's
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


class VfioType(enum.IntEnum):
    """How a VFIO device is named: by its PCI address, or by its sysfs path (mediated)."""

    NORMAL = 1
    MEDIATED = 2


@dataclasses.dataclass
class VfioDevice:
    """A host PCI device (bdf) or a mediated device (sysfs_dev) given to the guest."""

    id: str
    type: int = VfioType.NORMAL
    bdf: str = ""
    sysfs_dev: str = ""


@dataclasses.dataclass
class VhostUserDevice:
    """A device served by another process over a vhost-user socket.

    :param type: vhost-user-scsi-pci, vhost-user-net (virtio-net-pci), vhost-user-blk-pci or vhost-user-fs-pci
    """

    dev_id: str
    socket_path: str
    type: str
    mac_address: str = ""
    tag: str = ""
    queues: int = 1


@dataclasses.dataclass
class NetworkDevice:
    """A network interface of the guest.

    :param kind: tap, macvtap or user
    :param tap_name: name of the tap on the host
    """

    kind: str
    name: str = ""
    mac: str = ""
    tap_name: str = ""
    queues: int = 1
    vhost: bool = False
    bridge: str = ""
    mtu: int = 0
    id: str = ""
    rx_rate_limit: RateLimit | None = None
    tx_rate_limit: RateLimit | None = None


@dataclasses.dataclass
class CpuDevice:
    """A number of vCPUs to add or to remove.

    :raises ConfigError: it is no number
    """

    count: int

    def __post_init__(self) -> None:
        _check_number("the number of vCPUs", self.count)
        if self.count < 0:
            raise ConfigError("the number of vCPUs must be at least 0", option="vcpus", wanted=self.count)


@dataclasses.dataclass
class MemoryDevice:
    """A piece of memory to add or to remove.

    :param size_mb: MiB
    :param slot: memory slot number
    :param addr: guest-physical address, filled in where it was probed
    :raises ConfigError: one of them is no number
    """

    size_mb: int
    slot: int = 0
    addr: int = 0
    probe: bool = False

    def __post_init__(self) -> None:
        for what, value in (
            ("the size of memory in MiB", self.size_mb),
            ("a memory slot", self.slot),
            ("an address", self.addr),
        ):
            _check_number(what, value)


@dataclasses.dataclass
class Balloon:
    """A balloon by which the host takes memory from the guest and gives it back.

    :param size_mb: MiB that it shall hold
    :param deflate_on_oom: the guest takes memory back out of it before it kills a process for want of memory
    :param stats_seconds: how often the guest tells of its memory; 0 for never, and then nobody knows what the balloon really holds
    :param free_page_hinting: the guest can be asked for pages that it does not use
    :param free_page_reporting: the guest tells by itself of pages that it does not use
    """

    id: str
    size_mb: int = 0
    deflate_on_oom: bool = False
    stats_seconds: int = 0
    free_page_hinting: bool = False
    free_page_reporting: bool = False


@dataclasses.dataclass
class PmemDrive:
    """A file of the host that the guest sees as persistent memory (virtio-pmem), without a page cache of its own."""

    file: str
    id: str
    read_only: bool = False
    rate_limit: RateLimit | None = None


@dataclasses.dataclass
class EntropyDevice:
    """A source of randomness (virtio-rng)."""

    id: str
    rate_limit: RateLimit | None = None


@dataclasses.dataclass
class MetadataService:
    """What the guest is told at an address of its own (Firecracker's MMDS).

    :param interfaces: ids of the network devices that lead there
    :param version: V1, or V2 where the guest has to fetch a token first
    :param address: a link-local IPv4 address; empty for 169.254.169.254
    :param imds_compat: answer as EC2's service does
    :param contents: a JSON object
    """

    id: str
    interfaces: list[str]
    version: str = "V2"
    address: str = ""
    imds_compat: bool = False
    contents: dict[str, Any] = dataclasses.field(default_factory=dict)


Device = Union[
    Volume,
    SerialPort,
    Vsock,
    BlockDrive,
    VfioDevice,
    VhostUserDevice,
    NetworkDevice,
    CpuDevice,
    MemoryDevice,
    Balloon,
    PmemDrive,
    EntropyDevice,
    MetadataService,
]

KIND_OF: dict[type, DeviceKind] = {
    Volume: DeviceKind.FS,
    SerialPort: DeviceKind.SERIAL_PORT,
    Vsock: DeviceKind.VSOCK,
    BlockDrive: DeviceKind.BLOCK,
    VfioDevice: DeviceKind.VFIO,
    VhostUserDevice: DeviceKind.VHOST_USER,
    NetworkDevice: DeviceKind.NET,
    CpuDevice: DeviceKind.CPU,
    MemoryDevice: DeviceKind.MEMORY,
    Balloon: DeviceKind.BALLOON,
    PmemDrive: DeviceKind.PMEM,
    EntropyDevice: DeviceKind.ENTROPY,
    MetadataService: DeviceKind.METADATA,
}


def kind_of(device: Device) -> DeviceKind:
    """The kind of a device record."""
    return KIND_OF[type(device)]


def device_id(device: Device) -> str:
    """What a device record is known by: its id, or where the user gave none, the name that tells it from its like."""
    if isinstance(device, VhostUserDevice):
        return device.dev_id
    if isinstance(device, SerialPort):
        return device.device_id
    if isinstance(device, Volume):
        return device.id or device.mount_tag
    if isinstance(device, NetworkDevice):
        return device.id or device.name or device.tap_name
    if isinstance(device, (CpuDevice, MemoryDevice)):
        return ""
    return device.id


def _check_number(what: str, value: Any) -> None:
    """Refuse a value that is no whole number; True and False are none.

    :raises ConfigError: it is something else
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"{what} must be a whole number", wanted=value)


def align_memory(memory_mb: int, block_mb: int) -> int:
    """`memory_mb` rounded up to whole blocks of `block_mb` MiB (0: as it is), in unsigned 32-bit arithmetic."""
    if block_mb:
        memory_mb = -(-memory_mb // block_mb) * block_mb
    return memory_mb % (1 << 32)
