# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between architectures and machine types: tables. Pure.

The kernel parameters that belong to them stand in `kernel_params.py`.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from ...errors import ConfigError

#: Where distributions keep QEMU, and the name it has where it comes for the host's own architecture alone.
DIRECTORIES = ("/usr/bin", "/usr/local/bin")
NATIVE_BINARIES = ("/usr/libexec/qemu-kvm", "/usr/bin/qemu-kvm")
#: Guest interrupt controllers of aarch64 and the vCPUs they serve.
GIC_MAX_VCPUS = {"2": 8, "3": 123, "4": 123}


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A guest architecture, named as uname(2) names it.

    :param programs: the ends of its QEMU's names
    :param default_machine: its machine type where nobody names one
    :param max_vcpus: the most vCPUs a VM can have
    :param cpu: the CPU model without KVM: all that TCG can give
    :param max_command_line: the longest kernel command line that a guest starts with, bytes
    """

    name: str
    programs: tuple[str, ...]
    default_machine: str
    max_vcpus: int
    cpu: str = "max"
    max_command_line: int = 2047

    @property
    def binaries(self) -> tuple[str, ...]:
        """Where its QEMU is looked for, in order."""
        own = [f"{directory}/qemu-system-{program}" for directory in DIRECTORIES for program in self.programs]
        return (own[0], *(NATIVE_BINARIES if self.is_native else ()), *own[1:])

    @property
    def is_native(self) -> bool:
        """Whether it is this host's own, so that KVM can run it."""
        return os.uname().machine == self.name


@dataclasses.dataclass(frozen=True)
class Machine:
    """A machine type.

    :param bridge_type: of the bridges that a VM gets, pci or pcie; empty where it has none
    :param root_bus: the bus that bridges sit on
    :param transport: suffix of virtio device names: pci, device (mmio) or ccw
    :param options: what always stands behind its name
    :param device_hotplug: devices can be added while it runs
    :param vcpu_hotplug: vCPUs can be added while it runs
    :param vcpu_unplug: vCPUs can be taken out of it again, under KVM
    :param memory: the ways in which its memory can grow while it runs, the one that nobody has to ask for first
    :param memory_block_mb: MiB; memory modules are multiples of it, since the guest would refuse another size
    :param boot_memory_block_mb: MiB; the memory that it boots with is a multiple of it
    :param image_drivers: how an image can reach the guest
    :param root_ports: ports for PCI Express devices that it has where nobody says how many
    :param panic_device: tells a panic from a reboot, empty where the machine needs none or has none
    :param generation_id: it can tell its guest that it is a copy of another one
    :param vhost_user: other processes can serve devices of it
    :param boots_disks: a firmware can start the boot loader of a disk: QEMU's `own`, or one that is `given` (firmware_path); empty where none can
    :param pflash: a firmware can be a flash memory with variables
    :param reboot: how its guests restart themselves (the kernel parameter `reboot`), where that differs from its architecture's
    """

    name: str
    architecture: Architecture
    bridge_type: str = ""
    root_bus: str = ""
    transport: str = "pci"
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    device_hotplug: bool = True
    vcpu_hotplug: bool = True
    vcpu_unplug: bool = True
    memory: tuple[str, ...] = ("virtio-mem", "pc-dimm")
    memory_block_mb: int = 128
    boot_memory_block_mb: int = 1
    image_drivers: tuple[str, ...] = ("virtio-blk", "virtio-scsi", "virtio-pmem", "nvdimm")
    root_ports: int = 0
    panic_device: str = ""
    generation_id: bool = False
    vhost_user: bool = True
    boots_disks: str = ""
    pflash: bool = False
    reboot: str = ""

    @property
    def has_bridges(self) -> bool:
        """Whether devices go behind bridges."""
        return bool(self.bridge_type) and self.transport == "pci"


X86_64 = Architecture("x86_64", ("x86_64",), "q35", 240)
#: Pointer authentication as the architecture defines it takes half of TCG's time.
AARCH64 = Architecture("aarch64", ("aarch64",), "virt", GIC_MAX_VCPUS["3"], cpu="max,pauth-impdef=on")
PPC64LE = Architecture("ppc64le", ("ppc64le", "ppc64"), "pseries", 128, cpu="power9")
S390X = Architecture("s390x", ("s390x",), "s390-ccw-virtio", 248, max_command_line=895)
ARCHITECTURES = {architecture.name: architecture for architecture in (X86_64, AARCH64, PPC64LE, S390X)}

#: Mitigations that a host may not be able to give a guest, without which pseries would not start there.
PSERIES_OPTIONS = {"cap-cfpc": "broken", "cap-sbbc": "broken", "cap-ibs": "broken"}

MACHINES = {
    machine.name: machine
    for machine in (
        Machine(
            "pc", X86_64, "pci", "pci.0", panic_device="pvpanic", generation_id=True, boots_disks="own", pflash=True
        ),
        Machine(
            "q35", X86_64, "pci", "pcie.0", panic_device="pvpanic", generation_id=True, boots_disks="own", pflash=True
        ),
        Machine(
            "microvm",
            X86_64,
            transport="device",
            device_hotplug=False,
            vcpu_hotplug=False,
            memory=(),
            image_drivers=("virtio-blk", "virtio-scsi"),
            # It has no keyboard controller. Without one, Linux jumps into the firmware of a machine that was not reset, and now and then hangs
            # there (arch/x86/kernel/reboot.c). A triple fault resets the machine.
            reboot="t",
        ),
        # Memory modules and NVDIMMs need its ACPI device, which needs a firmware; bridges have no hotplug controller that Linux drives.
        Machine(
            "virt",
            AARCH64,
            "pcie",
            "pcie.0",
            options={"gic-version": "max"},
            vcpu_hotplug=False,
            memory=("virtio-mem",),
            image_drivers=("virtio-blk", "virtio-scsi", "virtio-pmem"),
            root_ports=8,
            boots_disks="given",
            pflash=True,
        ),
        Machine(
            "pseries",
            PPC64LE,
            "pci",
            "pci.0",
            options={"usb": "off", **PSERIES_OPTIONS},
            memory=("pc-dimm",),
            memory_block_mb=256,
            boot_memory_block_mb=256,
            image_drivers=("virtio-blk", "virtio-scsi"),
        ),
        Machine(
            "s390-ccw-virtio",
            S390X,
            transport="ccw",
            vcpu_unplug=False,
            memory=(),
            image_drivers=("virtio-blk", "virtio-scsi"),
            vhost_user=False,
        ),
    )
}


def host_architecture() -> Architecture:
    """The architecture of this host.

    :raises ConfigError: the driver has no table for it
    """
    name = os.uname().machine
    try:
        return ARCHITECTURES[name]
    except KeyError:
        raise ConfigError(f"the QEMU driver has no machine table for the architecture {name}") from None


def machine_named(name: str) -> Machine:
    """The machine type of that name; the host's own when the name is empty.

    :raises ConfigError: there is none
    """
    wanted = name or host_architecture().default_machine
    try:
        return MACHINES[wanted]
    except KeyError:
        known = ", ".join(f"{machine.name} ({machine.architecture.name})" for machine in MACHINES.values())
        raise ConfigError(
            f"there is no machine type {wanted!r}", option="machine_type", wanted=wanted, fix=f"Choose one of {known}."
        ) from None
