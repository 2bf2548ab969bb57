# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that boot from an image, through each device that can carry it."""

from __future__ import annotations

import os
import pathlib
import re

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.dax import with_header
from tests.support.qemu_lab import QemuLab


@pytest.mark.parametrize(
    ("driver", "machine", "device"),
    [
        ("virtio-blk", "q35", "vda"),
        ("virtio-blk", "pc", "vda"),
        ("virtio-blk", "microvm", "vda"),
        ("virtio-scsi", "q35", "sda"),
        ("virtio-pmem", "q35", "pmem0"),
        ("nvdimm", "q35", "pmem0"),
        ("nvdimm", "pc", "pmem0"),
    ],
)
def test_boots_from_an_image_that_stays_as_it_is(
    lab: QemuLab, root_image: pathlib.Path, driver: str, machine: str, device: str
) -> None:
    before = root_image.read_bytes()
    lab.start(
        image_path=str(root_image),
        initramfs_path=str(lab.assets.initrd),
        image_driver=driver,
        machine_type=machine,
        kernel_params=[],
        wait_for={"console": f"ready from image on /dev/{device}", "timeout": 120},
    )
    again = lab.run(state="started")
    assert again["changed"] is False and again["sandbox"]["memory_mb"] == 192
    lab.run(state="absent", stop_timeout=0)
    assert root_image.read_bytes() == before


@pytest.mark.parametrize(
    ("driver", "device"), [("virtio-blk", "vda"), ("virtio-scsi", "sda"), ("virtio-pmem", "pmem0"), ("nvdimm", "pmem0")]
)
def test_no_guest_writes_to_the_image(lab: QemuLab, root_image: pathlib.Path, driver: str, device: str) -> None:
    """Whatever its root does: the image is other sandboxes' too (CVE-2020-2025, CVE-2026-24834)."""
    before = root_image.read_bytes()
    made = lab.start(
        image_path=str(root_image),
        initramfs_path=str(lab.assets.initrd),
        image_driver=driver,
        kernel_params=[],
        wait_for={"console": f"ready from image on /dev/{device}", "timeout": 120},
    )
    guest = lab.shell()
    guest.run(f"blockdev --setrw /dev/{device}; mount -o remount,rw /; true")
    guest.run(f"echo poisoned | dd of=/dev/{device} bs=4096 seek=300 conv=fsync; sync; true")
    guest.run("echo poisoned > /sbin/init; sync; true")
    assert root_image.read_bytes() == before
    opened = pathlib.Path(f"/proc/{made['sandbox']['pid']}/fd")
    mine = [path.name for path in opened.iterdir() if os.path.realpath(path) == str(root_image)]
    modes = {
        int(re.findall(r"flags:\s+(\d+)", (opened.parent / "fdinfo" / number).read_text())[0], 8) & os.O_ACCMODE
        for number in mine
    }
    # QEMU before 8.2 opens the file of a pmem for writing, though it writes to copies.
    assert modes == ({os.O_RDWR} if driver == "virtio-pmem" and lab.lacks(made, 8, 2) else {os.O_RDONLY})
    lab.run(state="absent", stop_timeout=0)
    assert root_image.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "words"), [({"image_format": "qcow2"}, "must be raw"), ({"machine_type": "microvm"}, "no room")]
)
def test_what_an_image_in_memory_cannot_be(
    lab: QemuLab, root_image: pathlib.Path, options: dict[str, str], words: str
) -> None:
    with pytest.raises(HypervisorError, match=words):
        lab.start(image_path=str(root_image), initramfs_path=str(lab.assets.initrd), image_driver="nvdimm", **options)


def test_an_image_that_the_guest_maps(lab: QemuLab, root_image: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Two guests at once; each has the image's file system without a page cache of its own."""
    mapped = pathlib.Path(with_header(str(root_image), str(tmp_path)))
    before = mapped.read_bytes()
    assert before[2 << 20 :] == root_image.read_bytes()
    boot = {"image_path": str(mapped), "initramfs_path": str(lab.assets.initrd), "kernel_params": [], "memory_mb": 256}
    for name in ("one", "two"):
        # That it is an NVDIMM follows from the image.
        lab.start(name, wait_for={"console": "ready from image on /dev/pmem0", "timeout": 120}, **boot)
    for name in ("one", "two"):
        guest = lab.shell(name)
        assert guest.run("cat /sys/block/pmem0/queue/dax; cat /sys/block/pmem0/ro") == "1\n1"
        assert "dax=always" in guest.run("busybox grep ' / ' /proc/mounts")
    with pytest.raises(HypervisorError, match="only as an NVDIMM"):
        lab.start("three", image_driver="virtio-blk", **boot)
    assert mapped.read_bytes() == before
