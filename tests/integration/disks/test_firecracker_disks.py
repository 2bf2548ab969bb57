# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root disks and volumes of Firecrackers, jailed and not: what they have open, and how they get the new size."""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
import stat

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import (
    ConfigError,
    HypervisorError,
    StateError,
    Unsupported,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.host.processes import tail
from ansible_collections.kata.hypervisor.plugins.module_utils.host.units import MIB
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_options import make_device
from ansible_collections.kata.hypervisor.plugins.module_utils.resources import root_disk, volumes
from tests.support.disk_lab import DiskLab, DiskVm
from tests.support.stand_ins import REAL_FIRECRACKER

#: A real Firecracker needs /dev/kvm to start a VM.
NEEDS_VM = pytest.mark.skipif(
    bool(REAL_FIRECRACKER) and not os.path.exists("/dev/kvm"), reason="a real Firecracker starts no VM without /dev/kvm"
)


def open_modes(vm: DiskVm, path: str) -> set[int]:
    """How the VMM has a file open, under any of its names."""
    wanted, found = os.stat(path), set()
    process = pathlib.Path(f"/proc/{vm.driver.pid()}")
    for entry in (process / "fd").iterdir():
        try:
            status = os.stat(entry)
        except OSError:
            continue
        if os.path.samestat(status, wanted):
            flags = re.findall(r"flags:\s+(\d+)", (process / "fdinfo" / entry.name).read_text())
            found.add(int(flags[0], 8) & os.O_ACCMODE)
    return found


@NEEDS_VM
def test_the_root_drive_is_the_sandboxs_own_and_writable(fire: DiskLab) -> None:
    image = str(fire.options["image_path"])
    before = hashlib.sha256(pathlib.Path(image).read_bytes()).hexdigest()
    vm = fire.vm()
    disk = vm.make_disk(image, 16)
    for _round in range(2):
        vm.start("")
        assert open_modes(vm, disk.path) == {os.O_RDWR}
        assert open_modes(vm, image) == set()
        config = vm.driver.vmm.config(vm.driver.vmm.api())  # type: ignore[attr-defined]
        [root] = [drive for drive in config["drives"] if drive["drive_id"] == "rootfs"]
        assert root["is_read_only"] is False
        arguments = config["boot-source"]["boot_args"].split()
        assert "root=/dev/vda" in arguments and "rw" in arguments and "ro" not in arguments
        assert stat.S_IMODE(os.stat(disk.path).st_mode) == 0o600
        vm.stop()
    # It starts without the image, too: the disk is a copy.
    os.unlink(image)
    vm.start("")
    assert before == hashlib.sha256(pathlib.Path(disk.path).read_bytes()[: 1 << 20]).hexdigest()


@NEEDS_VM
@pytest.mark.parametrize("paused", [False, True])
def test_a_disk_grows_and_the_guest_is_told(fire: DiskLab, paused: bool) -> None:
    vm = fire.vm()
    disk = vm.make_disk(str(fire.options["image_path"]), 16)
    device = vm.attach(fire.volume("data", 8, filesystem="none"))
    vm.start("")
    if paused:
        vm.driver.pause_sandbox()
    for identity, path, old in (("root", disk.path, 16), (device["id"], device["file"], 8)):
        vm.driver.check_resize_disk(identity, 40)
        assert os.stat(path).st_size == old * MIB
        grown = vm.driver.resize_disk(identity, 40)
        assert (grown.old_mb, grown.new_mb) == (old, 40)
        assert os.stat(path).st_size == 40 * MIB
        assert open_modes(vm, path) == {os.O_RDWR}
        if not REAL_FIRECRACKER:
            letter = "a" if identity == "root" else "b"
            assert f"[vd{letter}] new size: {40 * 2048} " in tail(vm.driver.console_log(), 50)
        for act in (vm.driver.resize_disk, vm.driver.check_resize_disk):
            with pytest.raises(ConfigError, match="never made smaller"):
                act(identity, 39)
    with pytest.raises(StateError, match="does not have this disk"):
        vm.driver.resize_disk("nothing", 10)


@NEEDS_VM
def test_a_growth_that_was_killed_before_the_guest_was_told_is_completed(fire: DiskLab) -> None:
    vm = fire.vm()
    disk = vm.make_disk(str(fire.options["image_path"]), 16)
    vm.start("")
    os.truncate(disk.path, 40 * MIB)
    assert vm.driver.resize_disk("root", 40).new_mb == 40
    if not REAL_FIRECRACKER:
        assert f"new size: {40 * 2048} " in tail(vm.driver.console_log(), 50)


@NEEDS_VM
def test_no_second_vm_gets_a_disk_that_one_has(fire: DiskLab) -> None:
    one, two = fire.vm("one"), fire.vm("two")
    one.make_disk(str(fire.options["image_path"]), 16)
    volume = fire.volume("data", 8, filesystem="none")
    one.attach(volume)
    one.start("")
    two.disk = one.disk
    with pytest.raises(StateError, match="in use"):
        two.prepare()
    two.disk = None
    with pytest.raises(StateError, match="sandbox one has volume data"):
        two.attach(volume)
    # Whatever the record says.
    two.devices = [volumes.device_of(volume, hypervisor="firecracker")]
    with pytest.raises(StateError, match="in use"):
        two.prepare()


@NEEDS_VM
def test_many_read_a_volume_without_a_copy(fire: DiskLab) -> None:
    volume = fire.volume("data", 8, filesystem="none")
    for name in ("one", "two"):
        vm = fire.vm(name)
        vm.attach(volume, read_only=True)
        vm.start("")
    for vm in fire.vms.values():
        assert open_modes(vm, volume.path) == {os.O_RDONLY}
        vm.stop()
    # Then one writes, which no other user of this host can read or write any more.
    for vm in fire.vms.values():
        volumes.release_volume(vm.layout, "data")
        vm.devices = []
    writer = fire.vms["one"]
    writer.attach(volume)
    writer.start("")
    assert open_modes(writer, volume.path) == {os.O_RDWR}
    assert stat.S_IMODE(os.stat(volume.path).st_mode) == 0o600


@NEEDS_VM
def test_a_saved_vm_notices_a_changed_root_disk(fire: DiskLab) -> None:
    vm = fire.vm()
    disk = vm.make_disk(str(fire.options["image_path"]), 16)
    vm.start("")
    saved = str(fire.root / "saved")
    vm.driver.save_sandbox(saved, 60)
    vm.stop()
    vm.prepare()
    vm.driver.check_restore(saved)
    with open(disk.path, "r+b") as stream:
        stream.write(b"other")
    os.utime(disk.path, ns=(0, 0))
    for act in (vm.driver.check_restore, lambda source: vm.driver.restore_sandbox(source, 60)):
        with pytest.raises(StateError, match="must be as it was when the sandbox was saved"):
            act(saved)


def test_what_firecracker_cannot_read_is_refused(fire: DiskLab) -> None:
    vm = fire.vm()
    vm.make_disk(str(fire.options["image_path"]), 16, disk_format="qcow2")
    with pytest.raises(Unsupported, match="Firecracker reads raw disks"):
        vm.prepare()


def test_a_missing_disk_is_noticed_before_the_start(fire: DiskLab) -> None:
    vm = fire.vm()
    disk = vm.make_disk(str(fire.options["image_path"]), 16)
    os.unlink(disk.path)
    with pytest.raises(HypervisorError, match="does not exist"):
        vm.prepare()
    assert root_disk.find_root_disk(vm.layout) is None


@NEEDS_VM
@pytest.mark.parametrize("how", ["placeholder", "pci"])
def test_a_volume_that_was_plugged_while_the_vm_runs_grows(fire: DiskLab, how: str) -> None:
    vm = fire.vm(**({"enable_pci": True} if how == "pci" else {"placeholder_drives": 2}))
    vm.make_disk(str(fire.options["image_path"]), 16)
    vm.start("")
    device = make_device(vm.attach(fire.volume("data", 8, filesystem="none")))
    vm.driver.check_device(device)
    vm.driver.hotplug_add_device(device)
    assert device.host_file is not None
    path = device.host_file[0]
    assert vm.driver.resize_disk("vol-data", 24).new_mb == 24
    assert open_modes(vm, path) == {os.O_RDWR}
    assert vm.driver.observe().devices == ["vol-data"]
    vm.driver.hotplug_remove_device(device)
    with pytest.raises(StateError, match="does not have this disk"):
        vm.driver.resize_disk("vol-data", 32)
    assert os.stat(path).st_size == 24 * MIB
