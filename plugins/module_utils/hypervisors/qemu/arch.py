# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between architectures and machine types: tables, and the kernel parameters that belong to them. Pure."""

from __future__ import annotations

import dataclasses
import platform

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.params import Param

#: The machine types whose bridges, hotplug and slots are plain PCI.
PCI_BRIDGED = ("pc", "q35", "pseries", "s390-ccw-virtio")


@dataclasses.dataclass(frozen=True)
class Machine:
    """A machine type.

    :param root_bus: the bus that bridges sit on, empty where there is no PCI
    :param bridge_type: pci, pcie, or empty where it has no bridges
    :param transport: suffix of virtio device names: pci, device (mmio) or ccw
    :param hotplug: devices, memory and vCPUs can be added while it runs
    """

    name: str
    root_bus: str
    bridge_type: str
    transport: str = "pci"
    hotplug: bool = True


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A guest architecture.

    :param binaries: where its QEMU is looked for, in order
    :param max_vcpus: the most vCPUs a VM can have
    """

    name: str
    default_machine: str
    machines: dict[str, Machine]
    binaries: tuple[str, ...]
    max_vcpus: int


X86_64 = Architecture(
    "x86_64",
    "q35",
    {
        "pc": Machine("pc", "pci.0", "pci"),
        "q35": Machine("q35", "pcie.0", "pci"),
        "microvm": Machine("microvm", "", "", "device", hotplug=False),
    },
    ("/usr/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm", "/usr/bin/qemu-kvm", "/usr/local/bin/qemu-system-x86_64"),
    240,
)
ARCHITECTURES = {"x86_64": X86_64}


def host_architecture() -> Architecture:
    """The architecture of this host.

    :raises ConfigError: the driver has no table for it
    """
    name = platform.machine()
    try:
        return ARCHITECTURES[name]
    except KeyError:
        raise ConfigError(f"the QEMU driver has no machine table for the architecture {name}") from None


def machine_named(architecture: Architecture, name: str) -> Machine:
    """The machine type of that name, the architecture's own when the name is empty.

    :raises ConfigError: there is none
    """
    wanted = name or architecture.default_machine
    try:
        return architecture.machines[wanted]
    except KeyError:
        raise ConfigError(
            f"there is no machine type {wanted!r} on {architecture.name}",
            option="machine_type",
            wanted=wanted,
            fix=f"Choose one of {', '.join(sorted(architecture.machines))}.",
        ) from None


def kernel_parameters(accelerator: str, host_khz: int, debug: bool) -> list[Param]:
    """The parameters every x86_64 guest of ours gets, before the user's own.

    C(memhp_default_state=online_movable) makes hot-added memory usable at once and removable again;
    C(iommu=off) spares the 64 MiB of bounce buffers that the kernel keeps where memory can appear above 4 GiB;
    C(tsc_early_khz) spares a TCG guest the calibration in which some machine types hang.

    :param host_khz: the host's TSC frequency in kHz, 0 when unknown
    """
    words = [
        Param("tsc", "reliable"),
        Param("no_timer_check"),
        Param("rcupdate.rcu_expedited", "1"),
        Param("i8042.direct", "1"),
        Param("i8042.dumbkbd", "1"),
        Param("i8042.nopnp", "1"),
        Param("i8042.noaux", "1"),
        Param("reboot", "k"),
        Param("console", "ttyS0"),
        Param("iommu", "off"),
        Param("cryptomgr.notests"),
        Param("net.ifnames", "0"),
        Param("memhp_default_state", "online_movable"),
        Param("panic", "1"),
    ]
    if accelerator == "tcg" and host_khz:
        words.append(Param("tsc_early_khz", str(host_khz)))
    words.append(Param("debug") if debug else Param("quiet"))
    return words
