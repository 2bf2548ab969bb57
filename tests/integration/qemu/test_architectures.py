# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests of other architectures on this host: the machine type says which, and the guest tells what it is and what it has."""

from __future__ import annotations

import os
import platform
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, HypervisorError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.accelerator import run_kernel
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.machines import MACHINES
from tests.support.foreign_guest import ForeignGuest, NoGuest
from tests.support.guest_shell import GuestShell
from tests.support.qemu_lab import QemuLab

#: The console of each, the memory in MiB that it boots with, and the end of a disk's device.
GUESTS = {"virt": ("ttyAMA0", 256), "pseries": ("hvc0", 512), "s390-ccw-virtio": ("ttysclp0", 256)}


def foreign(machine: str) -> ForeignGuest:
    """The guest for a machine type, or a skip that says why there is none."""
    architecture = MACHINES[machine].architecture
    if architecture.name == platform.machine():
        pytest.skip(f"{architecture.name} is this host's own architecture")
    if not any(os.access(path, os.X_OK) for path in architecture.binaries):
        pytest.skip(f"this host has no QEMU for {architecture.name}")
    try:
        return ForeignGuest(architecture.name)
    except NoGuest as reason:
        pytest.skip(str(reason))


def start(lab: QemuLab, machine: str, **options: Any) -> dict[str, Any]:
    """A sandbox of that machine type, booted to its shell."""
    guest = foreign(machine)
    console, memory = GUESTS[machine]
    options.setdefault("memory_mb", memory)
    options.setdefault("accelerator", "auto")
    found: dict[str, Any] = lab.start(
        kernel_path=str(guest.kernel),
        initrd_path=str(guest.initrd),
        machine_type=machine,
        kernel_params=[f"kata.shell={console}"],
        **options,
    )
    return found


def disk(lab: QemuLab) -> dict[str, Any]:
    path = lab.root / "disk.raw"
    path.write_bytes(b"from the host".ljust(1 << 20, b"\0"))
    return {"id": "data0", "type": "block", "file": str(path)}


def change_virt(lab: QemuLab, guest: GuestShell, hot: dict[str, Any], data: dict[str, Any]) -> None:
    """A disk in a root port, memory by virtio-mem; its vCPUs are those it starts with."""
    copy = lab.root / "hot.raw"
    copy.write_bytes(b"\0" * (1 << 20))
    assert lab.run(devices=[data, {**hot, "file": str(copy)}])["actions"] == ["plug block hot0"]
    guest.eventually("cat /sys/block/vda/serial", "HOT")
    assert lab.run(memory_mb=384)["sandbox"]["memory_mb"] == 384
    guest.eventually("awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo", "^3[2-8][0-9]$")
    assert lab.run(devices=[data])["actions"] == ["unplug block hot0"]
    guest.eventually("ls /sys/block", r"^(?!.*vda)")
    with pytest.raises(HypervisorError, match="vcpu_hotplug"):
        lab.run(vcpus=2)


def change_pseries(lab: QemuLab, guest: GuestShell, hot: dict[str, Any], data: dict[str, Any]) -> None:
    """vCPUs, and memory modules of 256 MiB."""
    assert lab.run(vcpus=2)["sandbox"]["vcpus"] == 2
    guest.eventually("nproc", "^2$")
    with pytest.raises(HypervisorError, match="steps of 256 MiB"):
        lab.run(memory_mb=640)
    assert lab.run(memory_mb=768)["sandbox"]["memory_mb"] == 768
    guest.eventually("awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo", "^7[0-9]{2}$")


def change_s390(lab: QemuLab, guest: GuestShell, hot: dict[str, Any], data: dict[str, Any]) -> None:
    """vCPUs, a disk on a channel, and memory that a balloon gives and takes."""
    assert lab.run(vcpus=2)["sandbox"]["vcpus"] == 2
    guest.eventually("nproc", "^2$")
    copy = lab.root / "hot.raw"
    copy.write_bytes(b"\0" * (1 << 20))
    assert lab.run(devices=[data, {**hot, "file": str(copy)}])["actions"] == ["plug block hot0"]
    guest.eventually("cat /sys/block/vda/serial", "HOT")
    assert lab.run(devices=[data])["actions"] == ["unplug block hot0"]
    assert lab.run(memory_mb=320)["sandbox"]["memory_mb"] == 320
    assert lab.run(memory_mb=256)["sandbox"]["memory_mb"] == 256


OPTIONS: dict[str, dict[str, Any]] = {
    "virt": {},
    "pseries": {},
    "s390-ccw-virtio": {"memory_hotplug": "balloon", "max_memory_mb": 384},
}
CHANGES = {"virt": change_virt, "pseries": change_pseries, "s390-ccw-virtio": change_s390}


@pytest.mark.parametrize("machine", sorted(GUESTS))
def test_a_guest_of_another_architecture_lives(lab: QemuLab, machine: str) -> None:
    architecture = MACHINES[machine].architecture.name
    data = disk(lab)
    facts = start(lab, machine, devices=[data], **{"max_vcpus": 2, "max_memory_mb": 1024, **OPTIONS[machine]})[
        "sandbox"
    ]
    assert facts["accelerator"] == "tcg" and architecture in facts["accelerator_reason"]
    assert os.path.basename(os.readlink(f"/proc/{facts['pid']}/exe")).startswith("qemu-system-")
    assert lab.run(state="started")["changed"] is False
    guest = lab.shell()
    assert guest.run("uname -m") == architecture
    assert guest.run("nproc") == "1"
    assert guest.run("head -c 13 /dev/sda") == "from the host"
    total = int(guest.run("awk '/MemTotal/ {print $2}' /proc/meminfo")) // 1024
    assert facts["options"]["memory_mb"] - 64 < total <= facts["memory_mb"]

    hot = {**data, "id": "hot0", "driver": "virtio-blk", "serial": "HOT"}
    CHANGES[machine](lab, guest, hot, data)
    assert lab.run(state="paused")["actions"] == ["pause"]
    assert lab.run(state="started")["actions"] == ["resume"]
    assert guest.run("echo still here") == "still here"
    guest.close()
    assert lab.run(state="saved")["sandbox"]["state"] == "saved"
    assert "restore" in " ".join(lab.run(state="started")["actions"])
    assert lab.shell().run("uname -m") == architecture
    assert lab.run(state="stopped", stop_timeout=0)["sandbox"]["state"] == "stopped"


@pytest.mark.parametrize("machine", sorted(GUESTS))
def test_the_kernel_that_decides_about_kvm_runs_our_program(machine: str) -> None:
    """On a host of that architecture, under KVM; here the program itself is shown to work, under TCG."""
    guest, architecture = foreign(machine), MACHINES[machine].architecture
    qemu = next(path for path in architecture.binaries if os.access(path, os.X_OK))
    assert run_kernel(qemu, "tcg", str(guest.kernel), 60, architecture) == "ran"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"machine_type": "virt", "accelerator": "kvm"}, "KVM runs guests of the host's own architecture"),
        ({"machine_type": "pseries", "memory_mb": 300, "accelerator": "tcg"}, "blocks of 256 MiB"),
        ({"machine_type": "s390-ccw-virtio", "root_ports": 2}, "no PCI Express root"),
        ({"machine_type": "s390-ccw-virtio", "memory_hotplug": "virtio-mem"}, "cannot change its memory this way"),
        ({"machine_type": "toaster"}, "there is no machine type 'toaster'"),
    ],
)
def test_what_a_machine_type_does_not_have_is_refused_before_anything_starts(
    lab: QemuLab, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        lab.start(**options)
    assert lab.processes() == [] and not list(lab.root.glob("run/*"))
