# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of a host's devices can be given away, by what its sysfs says. With real devices: tests/integration/hardware."""

from __future__ import annotations

import os
import pathlib

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HostError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.devices import vfio
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vfio import VfioDevice

ADDRESS, NEIGHBOUR = "0000:01:00.0", "0000:01:00.1"
DEVICE = VfioDevice("gpu0", bdf=ADDRESS)


class Sysfs:
    """A sysfs with PCI devices, as Linux lays them out; the node of a group is always there."""

    def __init__(self, root: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.devices = root / "bus/pci/devices"
        self.devices.mkdir(parents=True)
        exists = os.path.exists
        monkeypatch.setattr(os.path, "exists", lambda path: str(path).startswith("/dev/vfio/") or exists(path))

    def add(self, address: str, driver: str, group: str = "7", kind: str = "0x020000") -> None:
        device, members = self.devices / address, self.root / "kernel/iommu_groups" / group / "devices"
        device.mkdir()
        members.mkdir(parents=True, exist_ok=True)
        (device / "class").write_text(f"{kind}\n")
        (device / "iommu_group").symlink_to(members.parent)
        (members / address).symlink_to(device)
        if driver:
            (self.root / "bus/pci/drivers" / driver).mkdir(parents=True, exist_ok=True)
            (device / "driver").symlink_to(self.root / "bus/pci/drivers" / driver)

    def check(self) -> None:
        vfio.check(DEVICE, str(self.devices))


@pytest.fixture
def sysfs(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Sysfs:
    return Sysfs(tmp_path / "sys", monkeypatch)


@pytest.mark.parametrize(
    ("driver", "kind"),
    [
        ("", "0x040300"),
        ("vfio-pci", "0x040300"),
        ("mlx5_vfio_pci", "0x020000"),
        ("pci-stub", "0x040300"),
        ("pcieport", "0x060400"),
        ("shpchp", "0x060400"),
    ],
)
def test_a_group_is_given_away_when_the_host_uses_nothing_of_it(sysfs: Sysfs, driver: str, kind: str) -> None:
    sysfs.add(ADDRESS, "vfio-pci")
    sysfs.add(NEIGHBOUR, driver, kind=kind)
    sysfs.check()
    assert vfio.node_of(DEVICE, str(sysfs.devices)) == "/dev/vfio/7"


def test_a_device_whose_neighbour_the_host_uses_stays(sysfs: Sysfs) -> None:
    sysfs.add(ADDRESS, "vfio-pci")
    sysfs.add(NEIGHBOUR, "snd_hda_intel", kind="0x040300")
    sysfs.add("0000:02:00.0", "nvme", group="8")
    with pytest.raises(
        HostError,
        match=rf"other devices of its IOMMU group: {NEIGHBOUR} \(snd_hda_intel\)\. Option devices was '{ADDRESS}'",
    ):
        sysfs.check()


@pytest.mark.parametrize(("driver", "words"), [("e1000e", "bound to e1000e"), ("", "bound to no driver")])
def test_a_device_that_is_not_bound_to_vfio_stays(sysfs: Sysfs, driver: str, words: str) -> None:
    sysfs.add(ADDRESS, driver)
    with pytest.raises(HostError, match=f"{words}, not to vfio-pci"):
        sysfs.check()


def test_a_device_that_is_not_there_is_named_as_lspci_would(sysfs: Sysfs) -> None:
    with pytest.raises(HostError, match=r"no such device.*lspci -D"):
        sysfs.check()
