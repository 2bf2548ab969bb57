# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The original's choices beside the facts in `arch.py`: what its machines are called, made of and told. Pure."""

from __future__ import annotations

import dataclasses
from typing import Any, Union

from ....errors import ConfigError
from ....options.config import HypervisorConfig
from ....options.kernel_params import Param, deserialize_params, mode_params
from ...base import Capabilities
from ..bridges import Bridge, make_bridges
from ..kernel_params import ORIGINAL, words_of
from ..machines import AARCH64, GIC_MAX_VCPUS, MACHINES, PPC64LE, S390X, X86_64, Architecture

#: Buses of a machine, numbered in eight bits; the root bus is the first.
MOST_BUSES = 255

#: The word after a machine's name, and its value (None for a bare word).
MachineOptions = dict[str, Union[str, None]]


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
    kernel_parameters: tuple[Param, ...]
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
        """The bridges of a new VM.

        :raises ConfigError: there are more than a machine has buses
        """
        if count > MOST_BUSES:
            raise ConfigError(f"a machine must have at most {MOST_BUSES} bridges", option="bridges", wanted=count)
        facts = MACHINES.get(machine)
        return make_bridges(count, facts.bridge_type) if facts and facts.bridge_type else []

    def root_bus(self, machine: str) -> str:
        """The bus that bridges sit on."""
        facts = MACHINES.get(machine)
        return facts.root_bus if facts and facts.root_bus else "pci.0"

    def capabilities(self, machine: str) -> Capabilities:
        """The original's four bits; block devices are the agent's business there."""
        hotplug = self.hotplug_machines is None or machine in self.hotplug_machines
        return Capabilities(block_device_hotplug=hotplug, multi_queue=True, fs_sharing=True)

    def mode_parameters(self, debug: bool, image: bool) -> list[Param]:
        """Architecture, root and mode parameters, before the driver's and the user's own."""
        words = list(self.kernel_parameters)
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
#: A machine type that QEMU has not had for long, whose QEMU was called otherwise.
PC_LITE = "pc-lite"


def _classic(
    base: Architecture, default: str, machines: dict[str, MachineOptions], root: tuple[str, ...] = (), **own: Any
) -> ClassicArchitecture:
    """What the original made of an architecture: its own choices beside the facts that both of us have."""
    facts = MACHINES[default]
    own.setdefault("binaries", dict.fromkeys(machines, base.binaries[0]))
    return ClassicArchitecture(
        base.original,
        default,
        machines,
        max_vcpus=base.max_vcpus,
        kernel_parameters=tuple(words_of(base, ORIGINAL)),
        root_parameters=root,
        ccw=facts.transport == "ccw",
        vhost_user=facts.vhost_user,
        memory_hotplug=bool(facts.memory),
        **own,
    )


AMD64 = _classic(
    X86_64,
    "pc",
    dict.fromkeys((PC_LITE, "pc", "q35", "virt"), PC_OPTIONS),
    ("root=/dev/pmem0p1", ROOT_FLAGS.format("dax,"), "rootfstype=ext4"),
    binaries={PC_LITE: "/usr/bin/qemu-lite-system-x86_64", "pc": X86_64.binaries[0], "q35": X86_64.binaries[0]},
    memory_headroom_mb=1024,
    hides_pmu=True,
    hides_vmx=True,
    hotplug_machines=("pc", "q35", "virt"),
)
ARM64 = _classic(
    AARCH64,
    "virt",
    {"virt": {"usb": "off", "accel": "kvm", "nvdimm": None, "gic-version": "host"}},
    ("root=/dev/pmem0p1", ROOT_FLAGS.format(""), "rootfstype=ext4"),
    migration_seconds=10,
)
PPC64 = _classic(
    PPC64LE,
    "pseries",
    {"pseries": {"accel": "kvm", **MACHINES["pseries"].options}},
    image_as="virtio-blk",
    memory_headroom_mb=1024,
    fixed_memory_mb=32256,
    hides_pmu=True,
    hotplug_machines=("pseries",),
)
S390 = _classic(
    S390X,
    "s390-ccw-virtio",
    {"s390-ccw-virtio": {"accel": "kvm"}},
    ("root=/dev/vda1", ROOT_FLAGS.format(""), "rootfstype=ext4"),
    image_as="virtio-blk",
)
ARCHITECTURES = {architecture.name: architecture for architecture in (AMD64, ARM64, PPC64, S390)}


def with_gic(architecture: ClassicArchitecture, gic: str, host_cpus: int) -> ClassicArchitecture:
    """arm64 on a host with that interrupt controller: 2, 3 or 4, empty where `/proc/interrupts` names none."""
    version = {"2": "2", "3": "3", "4": "3"}.get(gic, "host")
    options = {**architecture.machines["virt"], "gic-version": version}
    return dataclasses.replace(architecture, machines={"virt": options}, max_vcpus=GIC_MAX_VCPUS.get(gic, host_cpus))
