# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The original's traps, by their numbers, in today's dialect: those that need no QEMU to show that this driver does not have them."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any, cast

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import (
    ConfigError,
    HypervisorError,
    Unsupported,
    VmmError,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import migration, preparation, resize
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.arguments import MODERN
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.command_line import VmPlan, command_line
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.driver import QemuHypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.machines import machine_named
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.qmp import QmpClient
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.state import QemuState
from ansible_collections.kata.hypervisor.plugins.module_utils.options.assets import Asset
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.options.kernel_params import Param

MIB = 1 << 20


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
    assert words[-2:] == ["panic=60", "mine"] and words.index("panic=1") < words.index("panic=60")


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


def test_t13_what_takes_an_assets_place_does_so_in_the_root_parameters_too(
    files: dict[str, str], tmp_path: pathlib.Path
) -> None:
    def with_asset(kind: str, **options: Any) -> HypervisorConfig:
        config = HypervisorConfig(
            kernel_path=files["kernel"],
            hypervisor_path=files["qemu"],
            hypervisor_machine_type="q35",
            memory_size=256,
            **options,
        )
        config.add_custom_asset(Asset(files["other"], kind))
        return preparation.prepare(config, Context("web", str(tmp_path / "run/web"), str(tmp_path / "state/web")))[0]

    image = argv(with_asset("image"))
    assert "root=/dev/vda" in value(image, "append") and any(files["other"] in word for word in image)
    initrd = argv(with_asset("initrd"))
    assert "root=" not in value(initrd, "append") and value(initrd, "initrd") == files["other"]
    with pytest.raises(ConfigError, match="not both"):
        with_asset("image", initrd_path=files["initrd"])


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
