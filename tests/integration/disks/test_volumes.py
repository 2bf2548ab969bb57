# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that mount volumes: by label and serial number, written, grown while they are mounted, moved to another guest."""

from __future__ import annotations

import concurrent.futures
import os
import subprocess

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError, StateError, Unsupported
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_options import make_device
from ansible_collections.kata.hypervisor.plugins.module_utils.resources import volumes
from tests.support.disk_lab import DiskLab, DiskVm


def initrd_vm(disks: DiskLab, name: str = "web", **options: object) -> DiskVm:
    """A VM whose guest is our initrd, with a shell."""
    made = {**disks.options, "initrd_path": disks.options["initramfs_path"], "kernel_params": ["kata.shell=ttyS0"]}
    del made["initramfs_path"]
    disks.options = made
    return disks.vm(name, **options)


@pytest.mark.parametrize(("driver", "device"), [("virtio-blk", "vda"), ("virtio-scsi", "sda")])
def test_a_volume_is_written_grown_and_moved_to_another_guest(disks: DiskLab, driver: str, device: str) -> None:
    volume = disks.volume("data", 64)
    one = initrd_vm(disks, "one", block_device_driver=driver)
    attached = one.attach(volume)
    one.start()
    guest = one.shell()
    assert guest.run(f"cat /sys/block/{device}/size") == str(64 * 2048)
    if driver == "virtio-blk":
        assert guest.run(f"cat /sys/block/{device}/serial") == "data"
    guest.run(f"mkdir -p /data && mount -t ext4 /dev/{device} /data && echo mine > /data/note && sync")
    grown = one.driver.resize_disk(attached["id"], 128)
    assert (grown.old_mb, grown.new_mb) == (64, 128)
    guest.eventually(f"cat /sys/block/{device}/size", f"^{128 * 2048}$")
    guest.run("umount /data")
    one.stop()
    volumes.release_volume(one.layout, "data")
    found = volumes.find_volume(disks.state_root, "data")
    assert found is not None and found.size_mb == 128
    two = disks.vm("two", block_device_driver=driver)
    two.attach(found)
    two.start()
    guest = two.shell()
    guest.run(f"mkdir -p /data && mount -t ext4 /dev/{device} /data")
    assert guest.run("cat /data/note") == "mine"
    guest.run("umount /data")
    two.stop()
    # The file system is healthy, and takes the space that it was given.
    subprocess.run(["e2fsck", "-fp", volume.path], check=True, capture_output=True)
    subprocess.run(["resize2fs", volume.path], check=True, capture_output=True)


def test_a_volume_is_plugged_grown_and_unplugged_while_the_guest_runs(disks: DiskLab) -> None:
    vm = initrd_vm(disks, block_device_driver="virtio-blk", root_ports=2).start()
    volume = disks.volume("data", 16, filesystem="none")
    device = make_device({**vm.attach(volume)})
    vm.driver.check_device(device)
    vm.driver.hotplug_add_device(device)
    guest = vm.shell()
    guest.eventually("cat /sys/block/vda/size", f"^{16 * 2048}$")
    assert vm.driver.resize_disk("vol-data", 32).new_mb == 32
    guest.eventually("cat /sys/block/vda/size", f"^{32 * 2048}$")
    vm.driver.hotplug_remove_device(device)
    guest.eventually("ls /sys/block", "^(?!.*vda)")
    with pytest.raises(StateError, match="does not have this disk"):
        vm.driver.resize_disk("vol-data", 64)


def test_a_disk_with_limits_grows(disks: DiskLab, tmp_path: object) -> None:
    path = os.path.join(str(tmp_path), "disk")
    with open(path, "wb") as stream:
        stream.truncate(8 << 20)
    vm = initrd_vm(disks, block_device_driver="virtio-blk")
    vm.devices = [{"id": "d", "type": "block", "file": path, "index": 0, "rate_limit": {"bandwidth": 1 << 30}}]
    vm.start()
    assert vm.driver.resize_disk("d", 24).new_mb == 24
    vm.shell().eventually("cat /sys/block/vda/size", f"^{24 * 2048}$")


@pytest.mark.parametrize("change", [{"read_only": True}, {"driver": "nvdimm"}])
def test_what_cannot_grow_is_refused(disks: DiskLab, tmp_path: object, change: dict[str, object]) -> None:
    path = os.path.join(str(tmp_path), "disk")
    with open(path, "wb") as stream:
        stream.truncate(8 << 20)
    vm = initrd_vm(disks, block_device_driver="virtio-blk")
    vm.devices = [{"id": "d", "type": "block", "file": path, "index": 0, **change}]
    vm.start("")
    for act in (vm.driver.check_resize_disk, vm.driver.resize_disk):
        with pytest.raises(Unsupported, match="cannot grow while the VM runs"):
            act("d", 24)
    assert os.stat(path).st_size == 8 << 20


def test_of_many_starts_at_once_one_gets_a_file(disks: DiskLab) -> None:
    """Without a claim: what the drivers themselves see to, as of a device that two tasks name."""
    volume = disks.volume("data", 16, filesystem="none")
    vms = [initrd_vm(disks, "vm0"), *(disks.vm(f"vm{number}") for number in (1, 2, 3))]
    for vm in vms:
        vm.devices = [{**volumes.device_of(volume), "index": 0}]

    def start(vm: DiskVm) -> str:
        try:
            vm.start("")
            return "started"
        except HypervisorError as error:
            return str(error)

    with concurrent.futures.ThreadPoolExecutor(len(vms)) as pool:
        results = list(pool.map(start, vms))
    assert results.count("started") == 1, results
    assert all(result == "started" or volume.path in result for result in results)


def test_a_saved_vm_notices_a_changed_volume(disks: DiskLab) -> None:
    volume = disks.volume("data", 16, filesystem="none")
    vm = initrd_vm(disks, block_device_driver="virtio-blk")
    vm.attach(volume)
    vm.start()
    saved = str(disks.root / "saved")
    vm.driver.save_sandbox(saved, 60)
    vm.stop()
    with pytest.raises(StateError, match="sandbox web has volume data"):
        disks.vm("other").attach(volume)
    vm.prepare()
    vm.driver.check_restore(saved)
    os.utime(volume.path, ns=(0, 0))
    with pytest.raises(StateError, match=volume.path):
        vm.driver.check_restore(saved)
