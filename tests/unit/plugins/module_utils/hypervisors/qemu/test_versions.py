# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told to one QEMU and not to another. That they take it is shown with real ones: `make releases`."""

from __future__ import annotations

import json
import pathlib
from typing import Any, cast

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import StateError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import (
    migration,
    preparation,
    resize,
    start,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.arguments import (
    MODERN,
    TRANSITIONAL,
    dialect_for,
    render,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.devices.kinds import device_for
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.devices.objects import Slot
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.driver import QemuHypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.qmp import QmpClient, QmpError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.state import QemuState
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.vmm import Vmm
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.base import RateLimit
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.block import BlockDrive


@pytest.mark.parametrize(
    ("version", "dialect"),
    [
        ((5, 2, 0), TRANSITIONAL),
        ((6, 1, 1), TRANSITIONAL),
        ((6, 2, 0), MODERN),
        ((10, 0, 13), MODERN),
        ((11, 1), MODERN),
    ],
)
def test_each_version_has_its_dialect(version: tuple[int, ...], dialect: Any) -> None:
    assert dialect_for(version) is dialect


def test_limits_of_a_disk_that_is_there_from_the_start() -> None:
    drive = BlockDrive("/disk", id="data0", rate_limit=RateLimit(ops=10, ops_burst=5))
    made = device_for(drive, HypervisorConfig(block_device_driver="virtio-blk")).objects(Slot("pci"))
    [group] = [one.argument() for one in made if one.type == "throttle-group"]
    words = render([group], TRANSITIONAL)[1].split(",")
    assert {"throttle-group", "id=limits-data0", "x-iops-total=10", "x-iops-total-max=15"} <= set(words)
    assert not [word for word in words if word.startswith("limits")]
    assert json.loads(render([group], MODERN)[1])["limits"]["iops-total"] == 10


@pytest.mark.parametrize(
    ("version", "private"), [((7, 2, 0), False), ((8, 1, 5), False), ((8, 2, 0), True), ((10, 0, 13), True)]
)
def test_files_that_guests_write_copies_of_are_opened_for_reading(
    version: tuple[int, ...], private: bool, tmp_path: pathlib.Path
) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(2 << 20))
    vm = Vmm(Context("web", str(tmp_path / "run"), str(tmp_path / "state")))
    vm.state.qemu_version = list(version)
    boot = {"kernel_path": "/k", "memory_size": 128, "num_vcpus": 1, "hypervisor_machine_type": "q35"}
    clone = HypervisorConfig(**boot, initrd_path="/i", boot_from_template=True, memory_path="/m")
    mapped = HypervisorConfig(**boot, image_path=str(image), image_driver="virtio-pmem")
    template = HypervisorConfig(**boot, initrd_path="/i", boot_to_be_template=True, memory_path="/m")
    for config, file, wanted in ((clone, "/m", private), (mapped, str(image), private), (template, "/m", False)):
        words = start.command_line(vm, config)
        [backend] = [
            json.loads(word) for word in words if "memory-backend-file" in word and json.loads(word)["mem-path"] == file
        ]
        assert (backend.get("readonly"), backend.get("rom")) == ((True, "off") if wanted else (None, None))


class Pc:
    """A monitor of a VM with free vCPU sockets, which knows its registers' layout, or has no such switch (no PC, QEMU 10.2 and later)."""

    def __init__(self, legacy: bool | None) -> None:
        self.legacy = legacy
        self.plugged: list[bool | None] = []

    def execute(self, command: str, arguments: dict[str, Any] | None = None, **_more: Any) -> Any:
        if command in ("qom-get", "qom-set"):
            assert arguments is not None and arguments["property"] == "cpu-hotplug-legacy"
            if self.legacy is None:
                raise QmpError(command, "GenericError", "Property 'fallback.cpu-hotplug-legacy' not found")
            self.legacy = arguments.get("value", self.legacy)
            return self.legacy
        if command == "device_add":
            self.plugged.append(self.legacy)
        return [{"type": "cpu", "props": {"socket-id": number}} for number in range(2)]


@pytest.mark.parametrize(("before", "then"), [(True, False), (False, False), (None, None)])
def test_a_guest_whose_switch_was_dropped_sees_its_vcpus(before: bool | None, then: bool | None) -> None:
    monitor = Pc(before)
    resize.plug_vcpus(cast(QmpClient, monitor), 1)
    assert monitor.plugged == [then]


class Receiver:
    """A monitor of one version, which gives each descriptor that it is handed a set."""

    def __init__(self, *version: int) -> None:
        self.version = version
        self.sets: list[int] = []
        self.named: list[str] = []

    def execute(self, command: str, arguments: dict[str, Any] | None = None, fds: list[int] | None = None) -> Any:
        if command == "add-fd":
            assert fds
            self.sets.append(7)
            return {"fdset-id": 7, "fd": 12}
        if command == "remove-fd":
            assert arguments
            return self.sets.remove(arguments["fdset-id"])
        assert command == "getfd" and arguments and fds
        return self.named.append(arguments["fdname"])


@pytest.mark.parametrize(
    ("version", "uri"),
    [
        ((7, 2, 22), "fd:state"),
        ((9, 0, 2), "fd:state"),
        ((9, 1, 0), "file:/dev/fdset/7"),
        ((11, 1, 3), "file:/dev/fdset/7"),
    ],
)
def test_a_saved_states_file_is_handed_over_as_that_qemu_takes_files(version: tuple[int, ...], uri: str) -> None:
    monitor = Receiver(*version)
    with pytest.raises(ZeroDivisionError), migration.handed_over(cast(QmpClient, monitor), 3) as name:
        assert name == uri
        assert monitor.sets == ([7] if "fdset" in uri else []) and monitor.named == (
            [] if "fdset" in uri else ["state"]
        )
        raise ZeroDivisionError  # What was handed over is taken back then too.
    assert monitor.sets == []


@pytest.mark.parametrize(
    ("now", "taken"), [("7.2.0", True), ("7.2.22", True), ("7.1.0", False), ("8.2.0", False), ("10.0.13", False)]
)
def test_what_the_binary_is_now_decides_whether_it_takes_a_saved_state(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, now: str, taken: bool
) -> None:
    """The record says what the binary was when the VM was made; an upgrade of the host's packages replaces it under the same path."""
    qemu = tmp_path / "qemu"
    qemu.write_text(f"#!/bin/sh\necho QEMU emulator version {now}\n")
    qemu.chmod(0o755)
    saved = tmp_path / "saved"
    saved.mkdir()
    (saved / migration.STATE_FILE).write_bytes(b"state")
    record = QemuState(uuid="u", qemu_version=[7, 2, 0])
    (saved / migration.DESCRIPTION_FILE).write_text(json.dumps({"qemu_version": [7, 2, 0], "state": record.as_dict()}))
    driver = QemuHypervisor(Context("web", str(tmp_path / "run/web"), str(tmp_path / "state/web")))
    driver.load(record.as_dict(), HypervisorConfig(hypervisor_path=str(qemu)))
    started: list[list[int]] = []
    monkeypatch.setattr(start, "start", lambda machine, *_: started.append(machine.state.qemu_version))
    monkeypatch.setattr(migration, "read_state", lambda *_: None)
    monkeypatch.setattr(Vmm, "qmp", lambda _vm: None)
    if taken:
        driver.restore_sandbox(str(saved), 1)
        assert started == [[int(number) for number in now.split(".")]]
    else:
        with pytest.raises(StateError, match=rf"saved by QEMU 7\.2\.0, and this is QEMU {now}.*QEMU 7\.2 there again"):
            driver.restore_sandbox(str(saved), 1)
        assert started == [] and (saved / migration.STATE_FILE).read_bytes() == b"state"


@pytest.mark.parametrize(
    ("version", "machine", "said", "ports"),
    [
        ("5.2.0", "q35", 0, 8),
        ("6.0.1", "q35", 2, 2),
        ("6.1.0", "q35", 0, 0),
        ("5.2.0", "pc", 0, 0),
        ("5.2.0", "microvm", 0, 0),
        ("10.0.13", "q35", 0, 0),
    ],
)
def test_where_bridges_do_not_tell_guests_there_are_ports(
    tmp_path: pathlib.Path, version: str, machine: str, said: int, ports: int
) -> None:
    qemu, file = tmp_path / "qemu", tmp_path / "file"
    qemu.write_text(f"#!/bin/sh\necho QEMU emulator version {version}\n")
    qemu.chmod(0o755)
    file.write_bytes(b"\x7f" * 4096)
    config = HypervisorConfig(
        kernel_path=str(file),
        initrd_path=str(file),
        hypervisor_path=str(qemu),
        hypervisor_machine_type=machine,
        memory_size=256,
        root_ports=said,
    )
    prepared, _version = preparation.prepare(
        config, Context("web", str(tmp_path / "run/web"), str(tmp_path / "state/web"))
    )
    assert prepared.root_ports == ports


@pytest.mark.parametrize(
    ("version", "can"), [([5, 2, 0], False), ([6, 1, 1], False), ([6, 2, 0], True), ([11, 1, 3], True), ([], True)]
)
def test_a_limit_that_comes_to_a_plugged_disk_takes_its_qemu(version: list[int], can: bool) -> None:
    driver = QemuHypervisor(Context("web", "/run/web", "/state/web"))
    driver.load(QemuState(uuid="u", qemu_version=version).as_dict(), HypervisorConfig())
    assert driver.capabilities().disk_limit_update is can
