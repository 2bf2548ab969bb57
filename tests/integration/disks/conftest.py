# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Laboratories of VMs with disks: of the real QEMU, and of Firecrackers (real ones where the environment names them, else stand-ins)."""

from __future__ import annotations

import os
from typing import Iterator

import pytest

from tests.support.disk_lab import DiskLab, closed_afterwards
from tests.support.guest_assets import Assets
from tests.support.stand_ins import FIRECRACKER, IS_ROOT, JAILER
from tests.support.stub_kernel import stub_kernel

#: What the guest of `root_image` prints.
READY = "ready from image on /dev/"


@pytest.fixture
def disks(assets: Assets) -> Iterator[DiskLab]:
    """VMs of QEMU that boot through our initrd."""
    options = {
        "kernel_path": str(assets.kernel),
        "initramfs_path": str(assets.initrd),
        "memory_mb": 192,
        "vcpus": 1,
        "accelerator": "tcg",
    }
    with closed_afterwards(DiskLab("qemu", **options)) as made:
        yield made


@pytest.fixture(params=["plain", "jailed"])
def fire(request: pytest.FixtureRequest) -> Iterator[DiskLab]:
    """Firecrackers in a jail, and without one."""
    if request.param == "jailed" and not IS_ROOT:
        pytest.skip("only root can make a jail")
    options = {"hypervisor_path": FIRECRACKER, "vcpus": 1, "memory_mb": 128}
    options.update({"jailer_path": JAILER} if request.param == "jailed" else {"jailer": "none"})
    with closed_afterwards(DiskLab("firecracker", **options)) as made:
        kernel, image = made.root / "vmlinux", made.root / "image.raw"
        kernel.write_bytes(stub_kernel())
        image.write_bytes(os.urandom(1 << 20))
        made.options.update(kernel_path=str(kernel), image_path=str(image))
        yield made
