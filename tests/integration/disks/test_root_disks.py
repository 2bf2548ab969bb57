# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that write to root disks of their own: what is written stays, what it is based on does not change."""

from __future__ import annotations

import hashlib
import os
import pathlib
import subprocess

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, HypervisorError, StateError
from ansible_collections.kata.hypervisor.plugins.module_utils.resources import root_disk
from tests.integration.disks.conftest import READY
from tests.support.disk_lab import DiskLab


def digest(path: str | os.PathLike[str]) -> str:
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


@pytest.fixture
def base(root_image: pathlib.Path, tmp_path: pathlib.Path, request: pytest.FixtureRequest) -> str:
    """The image, in the format that the test names."""
    kind = getattr(request, "param", "raw")
    path = str(tmp_path / f"base.{kind}")
    subprocess.run(["qemu-img", "convert", "-O", kind, str(root_image), path], check=True)
    return path


@pytest.mark.parametrize(
    ("base", "driver", "device", "disk_format"),
    [
        ("raw", "virtio-blk", "vda", "qcow2"),
        ("qcow2", "virtio-blk", "vda", "qcow2"),
        ("raw", "virtio-scsi", "sda", "qcow2"),
        ("raw", "virtio-blk", "vda", "raw"),
    ],
    indirect=["base"],
)
def test_what_a_guest_writes_stays_and_the_image_does_not_change(
    disks: DiskLab, base: str, driver: str, device: str, disk_format: str
) -> None:
    before = digest(base)
    kind = base.rpartition(".")[2]
    vm = disks.vm(image_path=base, image_format=kind, image_driver=driver)
    disk = vm.make_disk(base, 64, kind, disk_format)
    vm.start(READY + device)
    guest = vm.shell()
    assert guest.run(f"cat /sys/block/{device}/size /sys/block/{device}/ro") == f"{64 * 2048}\n0"
    assert " rw" in guest.run("busybox grep ' / ' /proc/mounts")
    # The file system is the image's, read through the overlay.
    assert guest.run("busybox sha256sum /bin/busybox").split()[0]
    guest.run("echo mine > /mnt/note; sync")
    # Beyond the image's end there are zeros, not what another disk had there.
    end = f"busybox dd if=/dev/{device} bs=1M skip=40 2>/dev/null"
    assert guest.run(f"{end} | busybox tr -d '\\0' | busybox wc -c") == "0"
    vm.stop()
    assert digest(base) == before
    vm.start(READY + device)
    assert vm.shell().run("cat /mnt/note") == "mine"
    vm.kill()
    vm.stop()
    vm.start(READY + device)
    assert vm.shell().run("cat /mnt/note") == "mine"
    vm.stop()
    assert digest(base) == before
    if disk_format == "qcow2":
        subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", disk.path], check=True)
        # As docs/disks-and-volumes.md reads it without a sandbox.
        copy = f"{disk.path}.copy"
        both = f"driver=qcow2,file.filename={disk.path},backing.driver={kind},backing.file.filename={base}"
        subprocess.run(["qemu-img", "convert", "-O", "raw", "--image-opts", both, copy], check=True)
        found = subprocess.run(["debugfs", "-R", "cat /mnt/note", copy], check=True, capture_output=True, text=True)
        assert found.stdout == "mine\n"
        os.unlink(copy)
    assert root_disk.remove_root_disk(vm.layout)


@pytest.mark.parametrize(("driver", "device"), [("virtio-blk", "vda"), ("virtio-scsi", "sda")])
@pytest.mark.parametrize("disk_format", ["qcow2", "raw"])
def test_a_disk_grows_while_the_guest_uses_it(
    disks: DiskLab, base: str, driver: str, device: str, disk_format: str
) -> None:
    vm = disks.vm(image_path=base, image_driver=driver)
    disk = vm.make_disk(base, 40, disk_format=disk_format)
    vm.start(READY + device)
    guest = vm.shell()
    guest.run("echo mine > /mnt/note; sync")
    grown = vm.driver.resize_disk("root", 96)
    assert (grown.old_mb, grown.new_mb) == (40, 96)
    guest.eventually(f"cat /sys/block/{device}/size", f"^{96 * 2048}$")
    assert vm.driver.resize_disk("root", 96).old_mb == 96
    for act in (vm.driver.resize_disk, vm.driver.check_resize_disk):
        with pytest.raises(ConfigError, match="never made smaller"):
            act("root", 95)
    found = root_disk.find_root_disk(vm.layout)
    assert found is not None and found.size_mb == 96
    vm.stop()
    root_disk.grow_root_disk(disk, 128)
    vm.start(READY + device)
    guest = vm.shell()
    assert guest.run(f"cat /sys/block/{device}/size /mnt/note") == f"{128 * 2048}\nmine"


def test_two_vms_from_one_image_do_not_see_each_others_writes(disks: DiskLab, base: str) -> None:
    before = digest(base)
    for name in ("one", "two"):
        vm = disks.vm(name, image_path=base)
        vm.make_disk(base, 64)
        vm.start(READY + "vda")
        vm.shell().run(f"echo {name} > /mnt/note; sync")
    for name, vm in disks.vms.items():
        assert vm.shells[0].run("cat /mnt/note") == name
        vm.stop()
    assert digest(base) == before


def test_no_second_vm_gets_a_root_disk(disks: DiskLab, base: str) -> None:
    one = disks.vm("one", image_path=base)
    one.make_disk(base, 64)
    one.start(READY + "vda")
    two = disks.vm("two", image_path=base)
    two.disk = one.disk
    with pytest.raises(StateError, match=r"sandbox one.* writes to it"):
        two.prepare()
    with pytest.raises(StateError, match="in use"):
        root_disk.remove_root_disk(one.layout)
    assert one.disk is not None
    with pytest.raises(StateError, match="in use"):
        root_disk.grow_root_disk(one.disk, 128)


def test_a_header_that_names_a_file_is_never_followed(disks: DiskLab, base: str) -> None:
    """A VMM that its guest took over can write any header to its disk."""
    vm = disks.vm(image_path=base)
    disk = vm.make_disk(base, 64)
    subprocess.run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw", disk.path], check=True)
    with pytest.raises(HypervisorError, match="must not name other files"):
        vm.prepare()


@pytest.mark.parametrize("driver", ["nvdimm", "virtio-pmem"])
def test_a_root_disk_is_not_in_the_guests_memory(disks: DiskLab, base: str, driver: str) -> None:
    vm = disks.vm(image_path=base, image_driver=driver)
    vm.make_disk(base, 64)
    with pytest.raises(ConfigError, match="Set image_driver to virtio-blk"):
        vm.prepare()


def test_a_saved_vm_goes_on_with_its_disk_and_notices_a_changed_one(disks: DiskLab, base: str) -> None:
    vm = disks.vm(image_path=base)
    disk = vm.make_disk(base, 64)
    vm.start(READY + "vda")
    vm.shell().run("echo mine > /mnt/note; sync")
    saved = str(disks.root / "saved")
    vm.driver.save_sandbox(saved, 60)
    vm.stop()
    kept = disks.root / "kept"
    subprocess.run(["cp", "--preserve=all", disk.path, str(kept)], check=True)
    with open(disk.path, "r+b") as stream:
        stream.seek(0, os.SEEK_END)
        stream.write(b"x")
    vm.prepare()
    for act in (vm.driver.check_restore, lambda source: vm.driver.restore_sandbox(source, 60)):
        with pytest.raises(StateError, match="must be as it was when the sandbox was saved"):
            act(saved)
    # The same inode with what it had.
    with open(disk.path, "r+b") as stream:
        stream.truncate(kept.stat().st_size)
    os.utime(disk.path, ns=(kept.stat().st_atime_ns, kept.stat().st_mtime_ns))
    vm.driver.check_restore(saved)
    vm.driver.restore_sandbox(saved, 60)
    vm.driver.resume_sandbox()
    guest = vm.shell()
    assert guest.run("cat /mnt/note") == "mine"
    guest.run("echo after > /mnt/note; sync")
    vm.stop()
    vm.start(READY + "vda")
    assert vm.shell().run("cat /mnt/note") == "after"
