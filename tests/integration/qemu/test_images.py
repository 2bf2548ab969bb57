# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that boot from an image, through each device that can carry it."""

from __future__ import annotations

import pathlib
import subprocess
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError

INIT = """#!/bin/busybox sh
/bin/busybox --install -s /tmp 2>/dev/null
export PATH=/bin:/tmp
echo "kata-guest: ready from image on $(busybox awk '$2 == "/" {print $1}' /proc/mounts | busybox tail -n 1)"
exec busybox setsid busybox sh -l <>/dev/ttyS0 >&0 2>&0
"""


@pytest.fixture(scope="module")
def image(assets: Any, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """An ext4 image with busybox and a first process, made without mounting anything."""
    work = tmp_path_factory.mktemp("image")
    tree = work / "tree"
    for directory in ("bin", "sbin", "dev", "proc", "sys", "tmp", "mnt"):
        (tree / directory).mkdir(parents=True)
    busybox = next(assets.kernel.parent.glob("tools/busybox-static/**/bin/busybox"))
    (tree / "bin" / "busybox").write_bytes(busybox.read_bytes())
    (tree / "bin" / "sh").symlink_to("busybox")
    (tree / "sbin" / "init").write_text(INIT)
    for program in ("bin/busybox", "sbin/init"):
        (tree / program).chmod(0o755)
    path = work / "root.ext4"
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-O", "^has_journal", "-d", str(tree), str(path), "32M"], check=True)
    return path


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
def test_boots_from_an_image_that_stays_as_it_is(host: Any, image: pathlib.Path, driver: str, machine: str, device: str) -> None:
    before = image.read_bytes()
    host.start(
        image_path=str(image),
        initramfs_path=str(host.assets.initrd),
        image_driver=driver,
        machine_type=machine,
        kernel_params=[],
        wait_for={"console": f"ready from image on /dev/{device}", "timeout": 120},
    )
    assert host.converge(state="started")["changed"] is False
    host.converge(state="absent", stop_timeout=0)
    assert image.read_bytes() == before


@pytest.mark.parametrize(("options", "words"), [({"image_format": "qcow2"}, "must be raw"), ({"machine_type": "microvm"}, "no room")])
def test_what_an_image_in_memory_cannot_be(host: Any, image: pathlib.Path, options: dict[str, str], words: str) -> None:
    with pytest.raises(HypervisorError, match=words):
        host.start(image_path=str(image), initramfs_path=str(host.assets.initrd), image_driver="nvdimm", **options)
