# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The original's tables: what each architecture's machines are called, made of and told. Pure."""

from __future__ import annotations

import dataclasses
from typing import Union

from ansible_collections.kata.hypervisor.plugins.module_utils.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Capabilities
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.bridges import Bridge, make_bridges
from ansible_collections.kata.hypervisor.plugins.module_utils.params import (
    Param,
    deserialize_params,
    mode_params,
    parse_kernel_params,
)

#: The word after a machine's name, and its value (None for a bare word).
MachineOptions = dict[str, Union[str, None]]

#: Which bridges a machine type gets; the others get none.
BRIDGE_TYPES = {"pc": "pci", "q35": "pci", "pseries": "pci", "s390-ccw-virtio": "pci", "virt": "pcie"}
ROOT_BUSES = {"q35": "pcie.0", "virt": "pcie.0"}

#: Guest interrupt controllers of arm64 and the vCPUs they serve.
GIC_MAX_VCPUS = {"2": 8, "3": 123, "4": 123}


@dataclasses.dataclass(frozen=True)
class ClassicArchitecture:
    """One architecture, in Go's names.

    :param machines: options by machine type; a type that is not there is refused
    :param binaries: the QEMU of a machine type, where the configuration names none
    :param image_as: nvdimm or virtio-blk
    :param memory_headroom_mb: MiB that the memory can grow beyond the host's, None where the offset does not count either
    :param fixed_memory_mb: MiB taken for the host's memory, 0 for what the host really has
    :param hotplug_machines: the machine types with block hotplug, None for all
    """

    name: str
    default_machine: str
    machines: dict[str, MachineOptions]
    binaries: dict[str, str]
    max_vcpus: int
    kernel_parameters: str
    root_parameters: tuple[str, ...] = ()
    image_as: str = "nvdimm"
    ccw: bool = False
    vhost_user: bool = True
    memory_hotplug: bool = True
    memory_headroom_mb: int | None = None
    fixed_memory_mb: int = 0
    hides_pmu: bool = False
    hides_vmx: bool = False
    migration_seconds: int = 5
    hotplug_machines: tuple[str, ...] | None = None

    def machine(self, name: str) -> str:
        """The machine type, the default one where none is named."""
        return name or self.default_machine

    def machine_options(self, name: str) -> MachineOptions:
        """What stands behind a machine type.

        :raises ConfigError: the architecture does not have it
        """
        if name not in self.machines:
            raise ConfigError(
                f"{self.name} has no such machine type",
                option="machine_type",
                wanted=name,
                fix=f"Choose one of {', '.join(self.machines)}.",
            )
        return dict(self.machines[name])

    def binary(self, machine: str) -> str:
        """The QEMU of a machine type.

        :raises ConfigError: none is known
        """
        if machine not in self.binaries:
            raise ConfigError(
                f"no QEMU is known for the machine type {machine!r}",
                option="hypervisor_path",
                fix="Give hypervisor_path.",
            )
        return self.binaries[machine]

    def cpu_model(self, nested: bool, template: bool) -> str:
        """The CPU that the guest sees: the host's, without what cannot work."""
        hidden = (",pmu=off" if nested and self.hides_pmu else "") + (",vmx=off" if template and self.hides_vmx else "")
        return "host" + hidden

    def max_memory_mb(self, host_mb: int, offset_mb: int) -> int:
        """MiB that a VM can grow to."""
        if self.memory_headroom_mb is None:
            return host_mb
        return (self.fixed_memory_mb or host_mb) + self.memory_headroom_mb + offset_mb

    def bridges(self, machine: str, count: int) -> list[Bridge]:
        """The bridges of a new VM."""
        bridge_type = BRIDGE_TYPES.get(machine)
        return make_bridges(count, bridge_type) if bridge_type else []

    def capabilities(self, machine: str) -> Capabilities:
        """The original's four bits; block devices are the agent's business there."""
        hotplug = self.hotplug_machines is None or machine in self.hotplug_machines
        return Capabilities(block_device_hotplug=hotplug, multi_queue=True, fs_sharing=True)

    def mode_parameters(self, debug: bool, image: bool) -> list[Param]:
        """Architecture, root and mode parameters, before the driver's and the user's own."""
        words = parse_kernel_params(self.kernel_parameters)
        if image:
            words += deserialize_params(self.root_parameters)
        return words + mode_params(debug, image)


def kernel_parameters(config: HypervisorConfig, architecture: ClassicArchitecture) -> list[Param]:
    """All parameters of the guest's kernel. The configured image decides about root=, not a custom one."""
    return [
        *architecture.mode_parameters(config.debug, bool(config.image_path)),
        Param("panic", "1"),
        Param("nr_cpus", str(config.default_max_vcpus)),
        Param("agent.use_vsock", "true" if config.use_vsock else "false"),
        *config.kernel_params,
    ]


#: A value that holds blanks is one parameter here and several words in the guest.
ROOT_FLAGS = "rootflags={}data=ordered,errors=remount-ro ro"
PC_OPTIONS: MachineOptions = {"accel": "kvm", "kernel_irqchip": None, "nvdimm": None}

AMD64 = ClassicArchitecture(
    "amd64",
    "pc",
    dict.fromkeys(("pc-lite", "pc", "q35", "virt"), PC_OPTIONS),
    {
        "pc-lite": "/usr/bin/qemu-lite-system-x86_64",
        "pc": "/usr/bin/qemu-system-x86_64",
        "q35": "/usr/bin/qemu-system-x86_64",
    },
    240,
    "tsc=reliable no_timer_check rcupdate.rcu_expedited=1 i8042.direct=1 i8042.dumbkbd=1 i8042.nopnp=1 i8042.noaux=1"
    " noreplace-smp reboot=k console=hvc0 console=hvc1 iommu=off cryptomgr.notests net.ifnames=0 pci=lastbus=0",
    ("root=/dev/pmem0p1", ROOT_FLAGS.format("dax,"), "rootfstype=ext4"),
    memory_headroom_mb=1024,
    hides_pmu=True,
    hides_vmx=True,
    hotplug_machines=("pc", "q35", "virt"),
)
ARM64 = ClassicArchitecture(
    "arm64",
    "virt",
    {"virt": {"usb": "off", "accel": "kvm", "nvdimm": None, "gic-version": "host"}},
    {"virt": "/usr/bin/qemu-system-aarch64"},
    max(GIC_MAX_VCPUS.values()),
    "console=hvc0 console=hvc1 iommu.passthrough=0",
    ("root=/dev/pmem0p1", ROOT_FLAGS.format(""), "rootfstype=ext4"),
    migration_seconds=10,
)
PPC64LE = ClassicArchitecture(
    "ppc64le",
    "pseries",
    {"pseries": {"accel": "kvm", "usb": "off", "cap-cfpc": "broken", "cap-sbbc": "broken", "cap-ibs": "broken"}},
    {"pseries": "/usr/bin/qemu-system-ppc64le"},
    128,
    "tsc=reliable no_timer_check rcupdate.rcu_expedited=1 noreplace-smp reboot=k console=hvc0 console=hvc1"
    " cryptomgr.notests net.ifnames=0",
    image_as="virtio-blk",
    memory_headroom_mb=1024,
    fixed_memory_mb=32256,
    hides_pmu=True,
    hotplug_machines=("pseries",),
)
S390X = ClassicArchitecture(
    "s390x",
    "s390-ccw-virtio",
    {"s390-ccw-virtio": {"accel": "kvm"}},
    {"s390-ccw-virtio": "/usr/bin/qemu-system-s390x"},
    248,
    "console=ttysclp0",
    ("root=/dev/vda1", ROOT_FLAGS.format(""), "rootfstype=ext4"),
    image_as="virtio-blk",
    ccw=True,
    vhost_user=False,
    memory_hotplug=False,
)
ARCHITECTURES = {architecture.name: architecture for architecture in (AMD64, ARM64, PPC64LE, S390X)}


def with_gic(architecture: ClassicArchitecture, gic: str, host_cpus: int) -> ClassicArchitecture:
    """arm64 on a host with that interrupt controller: 2, 3 or 4, empty where C(/proc/interrupts) names none."""
    version = {"2": "2", "3": "3", "4": "3"}.get(gic, "host")
    options = {**architecture.machines["virt"], "gic-version": version}
    return dataclasses.replace(architecture, machines={"virt": options}, max_vcpus=GIC_MAX_VCPUS.get(gic, host_cpus))
