# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that boot from an image, through each device that can carry it."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError


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
def test_boots_from_an_image_that_stays_as_it_is(host: Any, root_image: pathlib.Path, driver: str, machine: str, device: str) -> None:
    before = root_image.read_bytes()
    host.start(
        image_path=str(root_image),
        initramfs_path=str(host.assets.initrd),
        image_driver=driver,
        machine_type=machine,
        kernel_params=[],
        wait_for={"console": f"ready from image on /dev/{device}", "timeout": 120},
    )
    again = host.converge(state="started")
    assert again["changed"] is False and again["sandbox"]["memory_mb"] == 192
    host.converge(state="absent", stop_timeout=0)
    assert root_image.read_bytes() == before


@pytest.mark.parametrize(("options", "words"), [({"image_format": "qcow2"}, "must be raw"), ({"machine_type": "microvm"}, "no room")])
def test_what_an_image_in_memory_cannot_be(host: Any, root_image: pathlib.Path, options: dict[str, str], words: str) -> None:
    with pytest.raises(HypervisorError, match=words):
        host.start(image_path=str(root_image), initramfs_path=str(host.assets.initrd), image_driver="nvdimm", **options)
