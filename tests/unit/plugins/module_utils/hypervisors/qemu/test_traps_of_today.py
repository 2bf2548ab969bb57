# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The traps of Kata 1.x, by their numbers (docs/kata-differences.md): those that need no QEMU to show that this driver does not have them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import (
    ConfigError,
    DeadlineExceeded,
    HostError,
    HypervisorError,
    Unsupported,
    VmmError,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import (
    bridges,
    migration,
    preparation,
    resize,
    vmm,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.arguments import MODERN
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.command_line import VmPlan, command_line
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.devices import hotplug
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.devices.kinds import device_for
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.driver import QemuHypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.machines import machine_named
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.qmp import QmpClient
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.state import QemuState
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.block import BlockDrive
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.fs import Volume
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vfio import VfioDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.kernel_params import Param

MIB = 1 << 20
NAMES = st.text(min_size=1, max_size=20)
JSON = st.recursive(st.none() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v))


class Answers:
    """A monitor that answers each command as it is told, and writes down what it was asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {name.replace("_", "-"): answer for name, answer in answers.items()}
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def execute(self, command: str, arguments: dict[str, Any] | None = None, **_more: Any) -> Any:
        self.asked.append((command, arguments or {}))
        return self.answers.get(command.replace("_", "-"), {})


@pytest.fixture
def files(tmp_path: pathlib.Path) -> dict[str, str]:
    """What a sandbox is made from: files that are there."""
    made = {}
    for name in ("kernel", "initrd", "image", "other"):
        (tmp_path / name).write_bytes(b"\x7f" * 4096)
        made[name] = str(tmp_path / name)
    qemu = tmp_path / "qemu"
    qemu.write_text("#!/bin/sh\necho QEMU emulator version 7.2.0\n")
    qemu.chmod(0o755)
    return {**made, "qemu": str(qemu)}


def prepared(files: dict[str, str], root: pathlib.Path, **options: Any) -> HypervisorConfig:
    """A configuration as the driver completes it."""
    boot = {} if "image_path" in options else {"initrd_path": files["initrd"]}
    config = HypervisorConfig(
        **{
            "kernel_path": files["kernel"],
            "hypervisor_path": files["qemu"],
            "hypervisor_machine_type": "q35",
            "memory_size": 256,
            **boot,
            **options,
        }
    )
    return preparation.prepare(config, Context("web", str(root / "run/web"), str(root / "state/web")))[0]


def argv(config: HypervisorConfig, **plan: Any) -> list[str]:
    kind = machine_named(config.hypervisor_machine_type or "q35")
    return command_line(VmPlan("web", "uuid", config, kind, "tcg", "/run/pid", "/run/console.log", [], **plan), MODERN)


def value(words: list[str], name: str) -> str:
    return words[words.index(f"-{name}") + 1]


def test_t1_the_clock_is_set(files: dict[str, str], tmp_path: pathlib.Path) -> None:
    assert value(argv(prepared(files, tmp_path)), "rtc") == "base=utc"


def test_t2_the_users_kernel_parameters_come_last(files: dict[str, str], tmp_path: pathlib.Path) -> None:
    config = prepared(files, tmp_path, kernel_params=[Param("panic", "60"), Param("mine")])
    words = value(argv(config), "append").split()
    assert words[-2:] == ["panic=60", "mine"] and words.index("panic=0") < words.index("panic=60")


def test_t7_a_vcpus_place_is_told_in_numbers_and_only_what_qemu_asks_for() -> None:
    place = {"socket-id": 1, "core-id": 0, "thread-id": 0}
    qmp = Answers(query_hotpluggable_cpus=[{"type": "max-x86_64-cpu", "props": place}], query_cpus_fast=[{}, {}])
    assert resize.plug_vcpus(cast(QmpClient, qmp), 1) == 2
    (plugged,) = [arguments for command, arguments in qmp.asked if command == "device_add"]
    assert plugged == {"driver": "max-x86_64-cpu", "id": "cpu-1", **place}


def test_t8_more_vcpus_than_the_maximum_are_refused_at_once_and_in_words(
    files: dict[str, str], tmp_path: pathlib.Path
) -> None:
    with pytest.raises(ConfigError, match="more vCPUs than the maximum of 2"):
        prepared(files, tmp_path, num_vcpus=3, default_max_vcpus=2)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_t10_a_failed_migration_is_an_error_at_once(status: str) -> None:
    qmp = Answers(query_migrate={"status": status, "error-desc": "no space left"})
    with pytest.raises(VmmError, match=status) as failed:
        migration.wait_migrated(cast(QmpClient, qmp), 60)
    assert failed.value.answer == "no space left" and len(qmp.asked) == 1


def test_t11_slots_and_offset_count_as_they_are_given(files: dict[str, str], tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match="at most 255"):
        prepared(files, tmp_path, mem_slots=256)
    config = prepared(files, tmp_path, mem_slots=20, mem_offset=4096, max_memory_mb=512)
    assert value(argv(config), "m") == "256M,slots=20,maxmem=5632M"
    for machine in ("virt", "pseries"):
        elsewhere = prepared(
            files, tmp_path, hypervisor_machine_type=machine, mem_slots=20, mem_offset=4096, max_memory_mb=512
        )
        assert value(argv(elsewhere), "m") == "256M,slots=20,maxmem=5632M"


def test_a_size_that_virtio_mem_cannot_reach_is_refused_before_the_start(
    files: dict[str, str], tmp_path: pathlib.Path
) -> None:
    with pytest.raises(ConfigError, match="blocks of 2 MiB"):
        prepared(files, tmp_path, memory_size=127, max_memory_mb=1152)
    assert (prepared(files, tmp_path, memory_size=127).max_memory_mb - 127) % 2 == 0


@pytest.mark.parametrize(("shared", "prealloc"), [(False, False), (True, False), (False, True)])
def test_t12_huge_pages_are_shared_and_reserved_where_that_is_wanted(shared: bool, prealloc: bool) -> None:
    config = HypervisorConfig(
        kernel_path="/k", initrd_path="/i", num_vcpus=1, memory_size=256, huge_pages=True, mem_prealloc=prealloc
    )
    words = argv(config, shared_memory=shared)
    (memory,) = [json.loads(word) for word in words if '"id":"dimm1"' in word]
    assert (memory["mem-path"], memory["share"], memory.get("prealloc", False)) == ("/dev/hugepages", shared, prealloc)


def test_t13_the_root_parameters_follow_what_is_booted(files: dict[str, str], tmp_path: pathlib.Path) -> None:
    """There is one option for the image and one for the initrd, and what is booted and what the kernel is told come from them."""
    image = argv(prepared(files, tmp_path, image_path=files["other"]))
    assert "root=/dev/vda" in value(image, "append") and any(files["other"] in word for word in image)
    initrd = argv(prepared(files, tmp_path, initrd_path=files["other"]))
    assert "root=" not in value(initrd, "append") and value(initrd, "initrd") == files["other"]
    with pytest.raises(ConfigError, match="not both"):
        prepared(files, tmp_path, image_path=files["image"], initrd_path=files["initrd"])


def test_t16_loading_twice_replaces() -> None:
    driver = QemuHypervisor(Context("web", "/nowhere/run/web", "/nowhere/state/web"))
    driver.vmm.state = QemuState(uuid="u", boot_vcpus=2, sockets={"p": "/p"}, bridges=[])
    saved = driver.save()
    other = HypervisorConfig(hotplug_vfio_on_root_bus=True)
    for _time in range(2):
        driver.load(saved, other)
    assert driver.save() == saved
    # What the configuration says counts, and not what an older one did.
    assert driver.config.hotplug_vfio_on_root_bus is True


def test_t21_what_cannot_be_taken_away_is_an_error_for_memory_as_for_vcpus() -> None:
    state = QemuState(boot_memory_mb=256, max_memory_mb=1024, accelerator="kvm", boot_vcpus=2, memory_hotplug="pc-dimm")
    qmp = Answers(
        query_memory_size_summary={"base-memory": 256 * MIB, "plugged-memory": 0},
        query_memory_devices=[],
        query_hotpluggable_cpus=[],
    )
    for refuse in (
        lambda: resize.check_memory(state, 128, 128),
        lambda: resize.check_memory(dataclasses.replace(state, memory_hotplug="virtio-mem"), 128, 128),
        lambda: resize.resize_dimms(cast(QmpClient, qmp), state, 128),
        lambda: resize.unplug_vcpus(cast(QmpClient, qmp), 1),
    ):
        with pytest.raises((Unsupported, ConfigError)) as refused:
            refuse()
        assert isinstance(refused.value, HypervisorError) and "restart" in str(refused.value)
    assert not [command for command, _arguments in qmp.asked if command in ("device_del", "qom-set")]


@pytest.mark.parametrize(
    ("way", "wanted", "words"),
    [
        ("virtio-mem", 257, "steps of 2 MiB.*Give 256 or 258"),
        ("pc-dimm", 448, "steps of 128 MiB.*Give 384 or 512"),
        ("pc-dimm", 1152, "grow to 1024 MiB"),
        ("balloon", 1025, "grow to 1024 MiB"),
    ],
)
def test_a_size_that_cannot_be_is_refused_before_anything_is_asked(way: str, wanted: int, words: str) -> None:
    state = QemuState(boot_memory_mb=256, max_memory_mb=1024, memory_hotplug=way)
    with pytest.raises(ConfigError, match=words):
        resize.check_memory(state, wanted, 128)
    resize.check_memory(state, 512, 128)


@pytest.mark.parametrize("refused", [False, True])
def test_t4_a_slot_is_given_back_when_qemu_refuses_the_device(refused: bool) -> None:
    """What `hotplug.attach` does around QEMU's answer; recorded answers (`qmp_sequences`) show it for disks, interfaces and host devices."""
    machine = vmm.Vmm(Context("web", "/nonexistent/run", "/nonexistent/state"))
    machine.state.bridges = bridges.make_bridges(1, "pci")
    config = HypervisorConfig(hypervisor_machine_type="pc", block_device_driver="virtio-blk")
    hotplug.slot_of(machine, device_for(BlockDrive("/disk", id="d0"), config), hot=True)
    assert machine.state.bridges[0].slots == {1: "d0"}
    if refused:
        hotplug.give_back(machine, "d0")
    assert machine.state.bridges[0].slots == ({} if refused else {1: "d0"})


def test_t5_a_guest_that_keeps_a_device_is_not_waited_for_without_end() -> None:
    class Silent(Answers):
        def wait_event(self, *_given: Any) -> None:
            return None

        def events(self) -> list[Any]:
            return []

    with pytest.raises(DeadlineExceeded, match="dev-d0"):
        resize.remove_device(cast(QmpClient, Silent()), "dev-d0", 0.05)


def test_one_machine_does_not_change_the_table_for_the_next(files: dict[str, str], tmp_path: pathlib.Path) -> None:
    own = argv(prepared(files, tmp_path, machine_accelerators="usb=off"))
    usual = argv(prepared(files, tmp_path))
    assert "usb=off" in value(own, "machine") and "usb=off" not in value(usual, "machine")


def test_t16_bridges_are_loaded_once() -> None:
    driver = QemuHypervisor(Context("web", "/nonexistent/run", "/nonexistent/state"))
    driver.vmm.state.bridges = bridges.make_bridges(2, "pci")
    driver.vmm.state.bridges[0].slots = {1: "d0"}
    config, state = HypervisorConfig(hotplug_vfio_on_root_bus=True), driver.save()
    driver.load(state, config)
    driver.load(state, config)
    assert driver.save() == state and driver.hypervisor_config().hotplug_vfio_on_root_bus


@pytest.mark.parametrize("version", [(6, 2, 0), (9, 1, 0)])
def test_t17_no_path_is_a_command_for_a_shell(version: tuple[int, int, int], tmp_path: pathlib.Path) -> None:
    """The state goes through an open file, so that QEMU is told no path at all."""
    qmp = Answers(add_fd={"fdset-id": 7, "fd": 9}, query_migrate={"status": "completed"})
    qmp.version = version  # type: ignore[attr-defined]
    destination = tmp_path / "state; rm -rf x"
    migration.write_state(cast(QmpClient, qmp), str(destination), {}, 5)
    (uri,) = [arguments["uri"] for command, arguments in qmp.asked if command == "migrate"]
    assert uri == ("file:/dev/fdset/7" if version >= (9, 1) else "fd:state")


def test_the_most_memory_is_refused_before_qemu_hears_of_it(files: dict[str, str], tmp_path: pathlib.Path) -> None:
    with pytest.raises(HostError, match="MiB of memory"):
        prepared(files, tmp_path, memory_size=1 << 30)


def test_a_machine_without_memory_hotplug_says_so() -> None:
    driver = QemuHypervisor(Context("web", "/nonexistent/run", "/nonexistent/state"))
    driver.config.hypervisor_machine_type = "s390-ccw-virtio"
    driver.vmm.state.memory_hotplug = "none"
    with pytest.raises(Unsupported, match="memory_hotplug none"):
        driver.resize_memory(512)


@given(st.one_of(st.binary(), JSON.map(json.dumps).map(str.encode)))
def test_any_bytes_are_a_vm_or_an_error(payload: bytes) -> None:
    driver = QemuHypervisor(Context("web", "/nonexistent/run", "/nonexistent/state"))
    with contextlib.suppress(HypervisorError):
        driver.from_grpc(HypervisorConfig(), payload)


@given(st.dictionaries(st.integers(1, 30), NAMES), st.text(max_size=36))
def test_a_state_survives_its_forms(slots: dict[int, str], uuid: str) -> None:
    driver, other = (QemuHypervisor(Context("web", "/nonexistent/run", "/nonexistent/state")) for _each in range(2))
    driver.vmm.state = QemuState(uuid=uuid, bridges=bridges.make_bridges(1, "pci"))
    driver.vmm.state.bridges[0].slots = slots
    other.from_grpc(driver.config, driver.to_grpc())
    assert other.vmm.state == driver.vmm.state == QemuState.from_dict(json.loads(json.dumps(driver.save())))


@pytest.mark.parametrize("device", [Volume("tag", "/d", "share"), VfioDevice("v0", 3, "00:01.0")])
def test_a_device_that_cannot_be_is_refused_in_words(device: Any) -> None:
    config = HypervisorConfig(hypervisor_machine_type="q35", shared_fs="virtio-9p")
    machine = vmm.Vmm(Context("web", "/nonexistent/run", "/nonexistent/state"))
    with pytest.raises(HypervisorError, match=r"while the VM is off|no such type of VFIO"):
        hotplug.detach(machine, config, device)


@pytest.mark.parametrize(("wanted", "block", "plugged"), [(300, 128, 128), (384, 128, 128), (257, 256, 256)])
def test_memory_comes_in_whole_blocks(wanted: int, block: int, plugged: int, monkeypatch: pytest.MonkeyPatch) -> None:
    qmp = Answers(query_memory_size_summary={"base-memory": 256 * MIB, "plugged-memory": 0}, query_memory_devices=[])
    driver = QemuHypervisor(Context("web", "/nonexistent/run", "/nonexistent/state"))
    driver.config.hypervisor_machine_type = "q35"
    driver.vmm.state = QemuState(boot_memory_mb=256, max_memory_mb=1024, memory_hotplug="pc-dimm")
    monkeypatch.setattr(driver.vmm, "qmp", lambda: qmp)
    driver.resize_memory(wanted, block)
    (size,) = [arguments["size"] for command, arguments in qmp.asked if command == "object-add"]
    assert size == plugged * MIB


@pytest.mark.parametrize("role", ["", "boot_to_be_template", "boot_from_template"])
def test_a_guest_goes_on_after_a_restart_unless_it_has_no_kernel_for_it(
    files: dict[str, str], tmp_path: pathlib.Path, role: str
) -> None:
    template = {role: True, "memory_path": "/m", "devices_state_path": "/s"} if role else {}
    config = prepared(files, tmp_path, **template)
    assert config.on_reboot == ("stop" if role else "restart")
    assert ("-no-reboot" in argv(config)) is bool(role)
    stopping = prepared(files, tmp_path, on_reboot="stop", **template)
    assert "-no-reboot" in argv(stopping)
    if role != "boot_from_template":
        assert ("panic=1" in value(argv(config), "append").split()) is bool(role)
        assert "panic=1" in value(argv(stopping), "append").split()
    with pytest.raises(Unsupported, match="no kernel to start again") if role else contextlib.nullcontext():
        assert prepared(files, tmp_path, on_reboot="restart", **template).reboots


def test_ports_for_data_are_as_many_as_the_vm_was_started_with(files: dict[str, str], tmp_path: pathlib.Path) -> None:
    config = prepared(files, tmp_path)
    assert not any("org.kata_hypervisor" in word for word in argv(config)), "as in a VM of an earlier version"
    words = argv(config, channels=("/run/web/channel-0", "/run/web/channel-1"))
    pipes = [words[place + 1] for place, word in enumerate(words) if word == "-chardev" and "pipe" in words[place + 1]]
    assert pipes == [f"pipe,id=channel{number},path=/run/web/channel-{number}" for number in range(2)]
    ports = [json.loads(word) for word in words if "org.kata_hypervisor" in word]
    assert [(port["chardev"], port["name"]) for port in ports] == [
        (f"channel{number}", f"org.kata_hypervisor.channel.{number}") for number in range(2)
    ]
