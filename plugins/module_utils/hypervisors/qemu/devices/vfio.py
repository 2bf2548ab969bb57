# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices of the host that are passed through to a QEMU's guest, and what sysfs says of them (Linux, Documentation/driver-api/vfio.rst)."""

from __future__ import annotations

import contextlib
import os
from typing import Collection, Iterator

from ....errors import ConfigError, HostError
from ....host.users import Wanted, is_own_uid
from ....options.device_kinds.vfio import VfioDevice, VfioType
from ....untrusted.files import Directory, through
from ..vmm import Vmm
from .base import QemuDevice, Started
from .host_resources import HostResources
from .objects import Descriptors, QemuObject, Slot, need_pci

PCI_DEVICES = "/sys/bus/pci/devices"
#: Drivers that leave a device to whom its group is given; those of VFIO have it in their names.
HARMLESS_DRIVERS = ("pci-stub",)
#: How the class of PCI bridges begins; what drives a bridge does no DMA of its own.
BRIDGE_CLASS = "0x06"


class Vfio(QemuDevice[VfioDevice]):
    """A device of the host."""

    def ports(self, hot: bool, root_bus: str) -> str:
        if self.config.hotplug_vfio_on_root_bus:
            # Nothing is plugged into the root of PCI Express itself, only into its ports.
            return "only" if root_bus == "pcie.0" else "none"
        return "first"  # It is a PCI Express device, and belongs into a root port.

    def check_host(self, own_socket: str, own: Collection[int]) -> None:
        check(self.record)

    def opened_by_name(self) -> list[Wanted]:
        return [Wanted("devices", node_of(self.record), "rw")]

    def open(self, vmm: Vmm, resources: HostResources, started: Started) -> None:
        if vmm.state.uid or self.config.vmm_user:
            running = vmm.process()
            let_lock(running.pid if running else 0, max(vmm.state.max_memory_mb, self.config.memory_size))

    @contextlib.contextmanager
    def lent(self, uid: int) -> Iterator[None]:
        if not is_own_uid(uid):
            yield
            return
        # By its name, and it keeps it open.
        with open_node(node_of(self.record)) as node:
            before = os.stat(node)
            os.chown(node, uid, -1)
            try:
                yield
            finally:
                os.chown(node, before.st_uid, -1)

    def objects(self, slot: Slot, descriptors: Descriptors | None = None) -> list[QemuObject]:
        device = self.record
        need_pci(device.id, slot)
        if device.type == VfioType.MEDIATED:
            front = {"sysfsdev": device.sysfs_dev}
        elif device.type == VfioType.NORMAL:
            front = {"host": device.bdf}
        else:
            raise ConfigError("there is no such type of VFIO device", option="devices", wanted=device.type)
        return [QemuObject("device", self.frontend_id, "vfio-pci", {**front, **slot.properties()})]


def node_of(device: VfioDevice, pci_devices: str = PCI_DEVICES) -> str:
    """The device node of its IOMMU group."""
    return f"/dev/vfio/{os.path.basename(_group_of(device, pci_devices))}"


def check(device: VfioDevice, pci_devices: str = PCI_DEVICES) -> None:
    """Refuse a device that cannot be given away. Changes nothing.

    :raises HostError: it is not there, not bound to vfio-pci, in no IOMMU group, or in one of which the host uses another device
    """
    path, wanted = _path_of(device, pci_devices), device.bdf or device.sysfs_dev
    if not os.path.isdir(path):
        fix = "Name it as lspci -D does, such as 0000:01:00.0." if device.type == VfioType.NORMAL else ""
        raise HostError("the host has no such device", option="devices", wanted=wanted, fix=fix)
    if device.type == VfioType.NORMAL:
        driver = _driver_of(path)
        if driver != "vfio-pci":
            raise HostError(
                f"this device is bound to {driver or 'no driver'}, not to vfio-pci",
                option="devices",
                wanted=wanted,
                fix="Bind it to vfio-pci first (driverctl set-override, or sysfs driver_override).",
            )
    node = node_of(device, pci_devices)
    if not os.path.exists(node):
        raise HostError(
            f"the device's IOMMU group is not at {node}",
            option="devices",
            wanted=wanted,
            fix="The host needs an IOMMU that is switched on (intel_iommu=on or amd_iommu=on) and the module vfio.",
        )
    used = _used_by_host(_group_of(device, pci_devices))
    if used:
        raise HostError(
            f"the host uses other devices of its IOMMU group: {', '.join(used)}",
            option="devices",
            wanted=wanted,
            fix="A group is given away whole: bind these to vfio-pci too, or unbind them.",
        )


@contextlib.contextmanager
def open_node(path: str) -> Iterator[str]:
    """A path that leads to a device node whatever becomes of its name."""
    with Directory.open(os.path.dirname(path)) as directory, directory.held(os.path.basename(path)) as descriptor:
        yield through(descriptor)


def let_lock(pid: int, memory_mb: int) -> None:
    """Let a process lock as much memory as a guest can have, which all is mapped for its devices, and 1 GiB for what devices map. Root's is not limited.

    :param pid: of a QEMU that runs; 0 for ourselves, of whom the QEMU that is started next has the limit
    :param memory_mb: the most that the guest can have, MiB; -1 for no limit
    :raises HostError: the kernel refuses
    """
    import resource

    wanted = (memory_mb + 1024) << 20 if memory_mb >= 0 else resource.RLIM_INFINITY
    try:
        if wanted == resource.RLIM_INFINITY:
            resource.prlimit(pid, resource.RLIMIT_MEMLOCK, (wanted, wanted))
            return
        soft, hard = resource.prlimit(pid, resource.RLIMIT_MEMLOCK)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            hard = hard if hard == resource.RLIM_INFINITY else max(hard, wanted)
            resource.prlimit(pid, resource.RLIMIT_MEMLOCK, (wanted, hard))
    except (OSError, ValueError) as error:
        raise HostError(
            "QEMU cannot be let lock the guest's memory, as its device needs",
            option="devices",
            wanted=wanted,
            answer=str(error),
        ) from error


def _path_of(device: VfioDevice, pci_devices: str) -> str:
    return device.sysfs_dev if device.type == VfioType.MEDIATED else os.path.join(pci_devices, device.bdf)


def _group_of(device: VfioDevice, pci_devices: str) -> str:
    return os.path.realpath(os.path.join(_path_of(device, pci_devices), "iommu_group"))


def _driver_of(path: str) -> str:
    link = os.path.join(path, "driver")
    return os.path.basename(os.path.realpath(link)) if os.path.exists(link) else ""


def _used_by_host(group: str) -> list[str]:
    """Devices of a group that drivers of the host's work with, each with its driver."""
    used = []
    for name in sorted(os.listdir(os.path.join(group, "devices"))):
        path = os.path.join(group, "devices", name)
        driver = _driver_of(path)
        if driver and "vfio" not in driver and driver not in HARMLESS_DRIVERS and not _is_bridge(path):
            used.append(f"{name} ({driver})")
    return used


def _is_bridge(path: str) -> bool:
    try:
        with open(os.path.join(path, "class"), encoding="ascii") as stream:
            return stream.read().startswith(BRIDGE_CLASS)
    except OSError:
        return False
