# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The traps of Kata 1.x (T-numbers of docs/kata-differences.md) that show only with a real QEMU: this driver does not have them."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
from typing import Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import DeadlineExceeded, HypervisorError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import vmm
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.devices import hotplug
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.qmp import QmpClient
from tests.support.qemu_lab import QemuLab
from tests.support.waiting import wait_until


def taken_slots(lab: QemuLab) -> list[str]:
    """Devices that hold a slot, by the record."""
    record = json.loads((lab.root / "state" / "sandboxes" / "web" / "record.json").read_text())
    return [device for bridge in record["driver"]["bridges"] for device in bridge["Address"].values()]


def a_disk(lab: QemuLab, name: str = "disk.raw") -> dict[str, str]:
    path = lab.root / name
    path.write_bytes(b"from the host".ljust(1 << 20, b"\0"))
    return {"id": path.stem, "type": "block", "file": str(path), "driver": "virtio-blk"}


def test_t4_a_failed_plug_gives_its_slot_back(lab: QemuLab) -> None:
    lab.start(wait_for="running")
    disk = a_disk(lab)
    path = pathlib.Path(disk["file"])
    raw = path.read_bytes()
    # What only QEMU finds out: it needs a feature that QEMU does not know.
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "1M"], check=True)
    with open(path, "r+b") as stream:
        stream.seek(72)
        stream.write(b"\x80")
    with pytest.raises(HypervisorError, match="Unsupported qcow2 feature"):
        lab.run(devices=[{**disk, "format": "qcow2"}])
    assert taken_slots(lab) == []
    path.write_bytes(raw)
    lab.run(devices=[disk])
    assert taken_slots(lab) == ["disk"]


def test_t5_a_guest_that_does_not_release_a_device_is_waited_for_with_a_limit(
    lab: QemuLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hotplug, "RELEASE_SECONDS", 1.0)
    lab.start()
    disk = a_disk(lab)
    lab.run(devices=[disk])
    guest = lab.shell()
    guest.eventually("ls /sys/block", "vda")
    with pytest.raises(DeadlineExceeded) as refused:
        _unplug_of_a_frozen_guest(lab, disk)
    assert "did not release" in str(refused.value)
    assert taken_slots(lab) == ["disk"], "a device that is still there keeps its place"
    guest.eventually("ls /sys/block/vda", "No such file")
    wait_until(lambda: not lab.facts()["devices"][0]["plugged"], "the release of the disk")
    assert lab.run(devices=[])["actions"] == ["forget block disk"]
    assert taken_slots(lab) == [], "it was released after the limit, and what it had taken is given back"
    with QmpClient(str(lab.run_path("monitor.sock"))) as qmp:
        assert "node-disk" not in [node.get("node-name") for node in qmp.execute("query-named-block-nodes")]


def _unplug_of_a_frozen_guest(lab: QemuLab, disk: dict[str, str]) -> None:
    """Freeze the vCPUs behind our back, so that the planner still sees a guest that could answer."""
    from ansible_collections.kata.hypervisor.plugins.module_utils.engine.sandbox import Sandbox
    from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_options import (
        check_devices,
        make_device,
    )

    sandbox = Sandbox(lab.spec())
    sandbox.load()
    driver = sandbox.driver
    assert driver is not None
    driver.pause_sandbox()
    try:
        driver.hotplug_remove_device(make_device({**check_devices([disk])[0], "index": 0}))
    finally:
        driver.resume_sandbox()
        driver.disconnect()


@pytest.fixture
def vhost_user_disk(lab: QemuLab) -> Iterator[pathlib.Path]:
    """A disk that another process serves."""
    image, socket = lab.root / "served.raw", lab.root / "served.sock"
    image.write_bytes(b"served by another process".ljust(8 << 20, b"\0"))
    daemon = subprocess.Popen(
        [
            "qemu-storage-daemon",
            "--blockdev",
            f"driver=file,node-name=disk,filename={image}",
            "--export",
            f"type=vhost-user-blk,id=export,node-name=disk,addr.type=unix,addr.path={socket},writable=on",
        ]
    )
    try:
        wait_until(lambda: socket.exists() or daemon.poll() is not None, "the socket of the disk's process")
        assert daemon.poll() is None
        yield socket
    finally:
        daemon.kill()
        daemon.wait()


@pytest.mark.parametrize("when", ["from the start", "plugged in"])
def test_t6_a_vhost_user_device_does_not_vanish(lab: QemuLab, vhost_user_disk: pathlib.Path, when: str) -> None:
    device = {"id": "served0", "type": "vhost_user", "path": str(vhost_user_disk), "model": "vhost-user-blk-pci"}
    if when == "from the start":
        lab.start(devices=[device])
    else:
        lab.start(shared_fs="virtio-fs")
        lab.run(devices=[device])
    assert lab.shell().eventually("head -c 25 /dev/vda", "served") == "served by another process"
    assert lab.run(devices=[device])["changed"] is False
    lab.run(devices=[])


def test_t6_without_shared_memory_it_is_refused(lab: QemuLab, vhost_user_disk: pathlib.Path) -> None:
    lab.start(wait_for="running")
    with pytest.raises(HypervisorError, match="memory is not shared"):
        lab.run(
            devices=[
                {"id": "served0", "type": "vhost_user", "path": str(vhost_user_disk), "model": "vhost-user-blk-pci"}
            ]
        )


def test_t14_a_wrong_memory_directory_is_an_error(lab: QemuLab) -> None:
    with pytest.raises(HypervisorError, match="memory does not exist") as refused:
        lab.start(file_mem_backend="/nowhere/memory")
    assert refused.value.option == "file_mem_backend"
    assert lab.processes() == []


def test_t20_a_vmm_that_hangs_is_not_orphaned(lab: QemuLab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.start(wait_for="running")
    monkeypatch.setattr(vmm, "QMP_SECONDS", 5.0)
    pid = lab.facts()["pid"]
    os.kill(pid, signal.SIGSTOP)
    lab.run(state="absent", stop_timeout=0)
    assert lab.processes() == []
