# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of each machine type, in the words that its QEMU takes (qemu-system-ARCHITECTURE -machine help, -device help)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError, StateError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import bridges
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.arguments import MODERN
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.command_line import VmPlan, command_line
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.devices.kinds import device_for
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.devices.objects import Slot
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.machines import (
    ARCHITECTURES,
    MACHINES,
    machine_named,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.block import BlockDrive
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vfio import VfioDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vhost_user import VhostUserDevice


def argv(machine: str, accelerator: str = "tcg", ports: int = 0, **options: Any) -> list[str]:
    """The command line of a VM of that machine type."""
    config = HypervisorConfig(
        **{
            "kernel_path": "/k",
            "initrd_path": "/i",
            "num_vcpus": 1,
            "default_max_vcpus": 4,
            "memory_size": 512,
            "max_memory_mb": 1024,
            "mem_slots": 10,
            "entropy_source": "/dev/urandom",
            **options,
        }
    )
    kind = machine_named(machine)
    places = bridges.with_root_ports(bridges.make_bridges(1, kind.bridge_type), ports) if kind.has_bridges else []
    return command_line(
        VmPlan("web", "uuid", config, kind, accelerator, "/run/pid", "/run/console.log", places, host_khz=2000000),
        MODERN,
    )


def value(words: list[str], name: str) -> str:
    """What stands behind an option."""
    return words[words.index(f"-{name}") + 1]


def drivers(words: list[str]) -> list[str]:
    """The devices' drivers."""
    return [json.loads(word)["driver"] for option, word in zip(words, words[1:]) if option == "-device"]


@pytest.mark.parametrize(
    ("machine", "words", "cpu", "console", "transport"),
    [
        ("q35", "q35,accel=tcg,memory-backend=dimm1", "max", "console=ttyS0", "pci"),
        ("pc", "pc,accel=tcg,memory-backend=dimm1", "max", "console=ttyS0", "pci"),
        ("microvm", "microvm,accel=tcg,memory-backend=dimm1", "max", "console=ttyS0", "device"),
        (
            "virt",
            "virt,gic-version=max,accel=tcg,memory-backend=dimm1",
            "max,pauth-impdef=on",
            "console=ttyAMA0",
            "pci",
        ),
        (
            "pseries",
            "pseries,usb=off,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,accel=tcg,memory-backend=dimm1",
            "power9",
            "console=hvc0",
            "pci",
        ),
        ("s390-ccw-virtio", "s390-ccw-virtio,accel=tcg,memory-backend=dimm1", "max", "console=ttysclp0", "ccw"),
    ],
)
def test_each_machine_type_in_its_own_words(machine: str, words: str, cpu: str, console: str, transport: str) -> None:
    line = argv(machine, memory_hotplug="none", block_device_driver="virtio-scsi")
    assert value(line, "machine") == words
    assert value(line, "cpu") == cpu
    assert console in value(line, "append").split()
    assert {f"virtio-serial-{transport}", f"virtio-scsi-{transport}", f"virtio-rng-{transport}"} <= set(drivers(line))
    assert ("tsc_early_khz=2000000" in value(line, "append")) == (MACHINES[machine].architecture.name == "x86_64")
    assert value(line, "serial") == "chardev:console"


@pytest.mark.parametrize(("machine", "restart"), [("q35", ["reboot=k"]), ("microvm", ["reboot=t"]), ("virt", [])])
def test_a_guest_restarts_its_machine_in_a_way_that_the_machine_has(machine: str, restart: list[str]) -> None:
    line = value(argv(machine, memory_hotplug="none"), "append")
    assert [word for word in line.split() if word.startswith("reboot=")] == restart


def test_the_original_and_we_know_the_same_architectures() -> None:
    assert {machine.architecture.name for machine in MACHINES.values()} == set(ARCHITECTURES)
    assert {architecture.default_machine for architecture in ARCHITECTURES.values()} <= set(MACHINES)


@pytest.mark.parametrize("machine", ["virt", "pseries", "s390-ccw-virtio"])
def test_only_a_pc_has_a_pcs_devices(machine: str) -> None:
    line = argv(machine, "kvm", memory_hotplug="none")
    assert value(line, "cpu") == "host"
    assert not {"pvpanic", "vmgenid"} & set(drivers(line))
    assert "kvm-pit.lost_tick_policy=discard" not in line
    assert "i8042.direct=1" not in value(line, "append")


@pytest.mark.parametrize(
    ("machine", "sockets"), [("q35", 4), ("pseries", 4), ("s390-ccw-virtio", 4), ("virt", 1), ("microvm", 1)]
)
def test_room_for_vcpus_where_they_can_be_plugged(machine: str, sockets: int) -> None:
    assert (
        value(argv(machine, memory_hotplug="none"), "smp") == f"1,cores=1,threads=1,sockets={sockets},maxcpus={sockets}"
    )


@pytest.mark.parametrize(
    ("machine", "way", "memory", "devices"),
    [
        ("q35", "virtio-mem", "512M,slots=10,maxmem=2048M", {"virtio-mem-pci"}),
        ("virt", "virtio-mem", "512M,slots=10,maxmem=2048M", {"virtio-mem-pci"}),
        ("pseries", "pc-dimm", "512M,slots=10,maxmem=2048M", set()),
        ("q35", "balloon", "1024M", {"virtio-balloon-pci"}),
        ("microvm", "balloon", "1024M", {"virtio-balloon-device"}),
        ("s390-ccw-virtio", "balloon", "1024M", {"virtio-balloon-ccw"}),
        ("s390-ccw-virtio", "none", "512M", set()),
    ],
)
def test_room_for_memory_in_the_way_that_was_chosen(machine: str, way: str, memory: str, devices: set[str]) -> None:
    line = argv(machine, memory_hotplug=way)
    assert value(line, "m") == memory
    assert {driver for driver in drivers(line) if "balloon" in driver or "virtio-mem" in driver} == devices


def test_root_ports_have_a_chassis_and_a_slot_of_their_own() -> None:
    line = argv("q35", ports=2, memory_hotplug="none")
    ports = [
        json.loads(word) for option, word in zip(line, line[1:]) if option == "-device" and "pcie-root-port" in word
    ]
    assert ports == [
        {"driver": "pcie-root-port", "bus": "pcie.0", "id": "root-port-0", "addr": "3", "chassis": 2, "slot": 2},
        {"driver": "pcie-root-port", "bus": "pcie.0", "id": "root-port-1", "addr": "4", "chassis": 3, "slot": 3},
    ]


def test_a_root_port_holds_one_device() -> None:
    places = bridges.with_root_ports(bridges.make_bridges(1, "pci"), 2)
    assert bridges.allocate(places, "cold").path == "02/01"
    assert [bridges.allocate(places, name, "first").path for name in ("a", "b", "c")] == ["03/00", "04/00", "02/02"]
    with pytest.raises(StateError, match="no more bridge slots"):
        bridges.allocate(places, "d", "only")
    bridges.release(places, "a")
    assert bridges.allocate(places, "d", "only").path == "03/00"


def test_a_change_of_bridges_keeps_what_sits_on_those_that_stay() -> None:
    recorded = bridges.make_bridges(2, "pci")
    bridges.allocate(recorded, "data0")
    changed = bridges.rearranged(bridges.with_root_ports(bridges.make_bridges(1, "pci"), 1), recorded)
    assert [bridge.id for bridge in changed] == ["pci-bridge-0", "root-port-0"]
    assert changed[0].slots == {1: "data0"}


def test_devices_take_the_machines_transport() -> None:
    disk = device_for(BlockDrive("/d", id="d"), HypervisorConfig(block_device_driver="virtio-blk"))
    assert disk.objects(Slot.for_machine(machine_named("s390-ccw-virtio")))[-1].type == "virtio-blk-ccw"
    assert disk.objects(Slot.for_machine(machine_named("microvm")))[-1].type == "virtio-blk-device"


@pytest.mark.parametrize(
    ("device", "words"),
    [
        (VfioDevice("v", bdf="0000:01:00.0"), "has no PCI"),
        (VhostUserDevice("u", "/u.sock", "vhost-user-blk-pci"), "no other process can serve"),
    ],
)
def test_what_s390x_does_not_have_is_refused(device: Any, words: str) -> None:
    with pytest.raises(HypervisorError, match=words):
        device_for(device, HypervisorConfig()).objects(Slot.for_machine(machine_named("s390-ccw-virtio")))


def test_a_scsi_disk_of_another_process_needs_no_feature_that_the_process_may_lack() -> None:
    """QEMU acknowledges VIRTIO_SCSI_F_CHANGE without asking (rust-vmm's vhost-device-scsi says so, and how to leave it out)."""
    served = VhostUserDevice("u", "/u.sock", "vhost-user-scsi-pci")
    objects = device_for(served, HypervisorConfig()).objects(Slot.for_machine(machine_named("q35")))
    assert objects[-1].properties["param_change"] is False


@pytest.mark.parametrize(("options", "shared"), [({}, False), ({"file_backed_mem_root_dir": "/dev/shm"}, True)])
def test_huge_pages_stay_memory_that_others_can_see(options: dict[str, Any], shared: bool) -> None:
    """As in Kata 1.x: huge pages say where the memory lies, and a directory for it that others see it."""
    words = argv("q35", huge_pages=True, **options)
    memory = next(json.loads(word) for word in words if '"dimm1"' in word and word.startswith("{"))
    assert (memory["mem-path"], memory["share"]) == ("/dev/hugepages", shared)
