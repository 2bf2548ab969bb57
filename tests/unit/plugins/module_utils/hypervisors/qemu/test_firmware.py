# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that its disk's boot loader starts: what QEMU is told, and what is refused before it is."""

from __future__ import annotations

import json
import os
import pathlib
import stat
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError, ConfigError, HypervisorError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import firmware, preparation
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.arguments import MODERN
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.command_line import VmPlan, command_line
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.machines import machine_named
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig
from tests.support.killing import KILLED, run_killed


@pytest.fixture
def context(tmp_path: pathlib.Path) -> Context:
    (tmp_path / "state").mkdir(mode=0o700)
    return Context("web", str(tmp_path / "run/web"), str(tmp_path / "state"))


@pytest.fixture
def fields(tmp_path: pathlib.Path) -> dict[str, Any]:
    """A disk and a UEFI firmware."""
    sizes = {"disk": 1 << 20, "code": 3 << 20, "vars": 64 << 10}
    for number, (name, size) in enumerate(sizes.items(), 1):
        (tmp_path / name).write_bytes(bytes([number]) * 510 + b"\x55\xaa" + bytes(size - 512))
    qemu = tmp_path / "qemu"
    qemu.write_text("#!/bin/sh\necho QEMU emulator version 7.2.0\n")
    qemu.chmod(0o755)
    return {
        "image_path": str(tmp_path / "disk"),
        "firmware_path": str(tmp_path / "code"),
        "firmware_vars_path": str(tmp_path / "vars"),
        "hypervisor_path": str(qemu),
        "memory_size": 256,
    }


def prepared(fields: dict[str, Any], context: Context) -> HypervisorConfig:
    return preparation.prepare(HypervisorConfig(**fields), context)[0]


def options(config: HypervisorConfig, **plan: Any) -> list[tuple[str, Any]]:
    """The options of a command line with their values; JSON is parsed."""
    machine = machine_named(config.hypervisor_machine_type)
    words = command_line(VmPlan("web", "uuid", config, machine, "tcg", "/run/pid", "/run/log", [], **plan), MODERN)
    pairs = [(word, words[place + 1]) for place, word in enumerate(words[:-1]) if word.startswith("-")]
    return [(name, json.loads(value) if value.startswith("{") else value) for name, value in pairs]


@pytest.mark.parametrize("machine", ["pc", "q35"])
@pytest.mark.parametrize("driver", ["virtio-blk", "virtio-scsi"])
def test_the_machine_s_own_firmware_starts_the_disk(fields, context, machine, driver) -> None:
    for name in ("firmware_path", "firmware_vars_path"):
        del fields[name]
    config = prepared({**fields, "hypervisor_machine_type": machine, "image_driver": driver}, context)
    found = options(config)
    assert not {"-kernel", "-initrd", "-append", "-bios"} & {name for name, _value in found}
    disk = next(value for name, value in found if name == "-device" and value.get("drive") == "image")
    assert disk["bootindex"] == 0


def test_a_rom_is_given_as_it_is_and_a_kernel_s_disk_has_no_place_in_the_order(fields, context, tmp_path) -> None:
    del fields["firmware_vars_path"]
    assert ("-bios", fields["firmware_path"]) in options(prepared(fields, context))
    kernel = {**fields, "kernel_path": str(tmp_path / "disk")}
    found = options(prepared(kernel, context))
    assert ("-kernel", kernel["kernel_path"]) in found
    assert not any("bootindex" in value for name, value in found if name == "-device")


def test_code_is_shared_and_read_only_and_variables_are_the_sandbox_s(fields, context) -> None:
    config = prepared({**fields, "hypervisor_machine_type": "q35"}, context)
    found = options(config, firmware_fds=(11, 12), firmware_vars="/state/firmware-vars.fd")
    nodes = {value["node-name"]: value for name, value in found if name == "-blockdev"}
    assert nodes["firmware-code"]["read-only"] is nodes["firmware-code"]["file"]["read-only"] is True
    assert nodes["firmware-vars"]["read-only"] is nodes["firmware-vars"]["file"]["read-only"] is False
    assert [nodes[name]["file"]["filename"] for name in ("firmware-code", "firmware-vars")] == [
        "/dev/fdset/11",
        "/dev/fdset/12",
    ]
    machine = next(value for name, value in found if name == "-machine")
    assert "pflash0=firmware-code,pflash1=firmware-vars" in machine
    assert "-bios" not in {name for name, _value in found}


def test_variables_are_copied_once(fields, context, tmp_path) -> None:
    config = prepared(fields, context)
    assert os.listdir(context.state_dir) == []
    before = os.umask(0)
    try:
        code, variables = firmware.open_firmware(config, context)
    finally:
        os.umask(before)
    with pytest.raises(OSError):
        os.write(code, b"x")
    os.pwrite(variables, b"mine", 0)
    for descriptor in (code, variables):
        os.close(descriptor)
    copy = tmp_path / "state/firmware-vars.fd"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    for descriptor in firmware.open_firmware(prepared(fields, context), context):
        os.close(descriptor)
    assert copy.read_bytes() == b"mine" + (tmp_path / "vars").read_bytes()[4:]
    assert os.listdir(context.state_dir) == ["firmware-vars.fd"]


def test_a_start_that_is_killed_anywhere_leaves_no_part_of_a_copy(fields, context, tmp_path) -> None:
    config = HypervisorConfig(**fields)
    state = tmp_path / "state"
    for number in range(1, 20):
        killed = run_killed(state, number, lambda: firmware.open_firmware(config, context)) == KILLED
        copy = state / "firmware-vars.fd"
        assert not copy.exists() or copy.read_bytes() == (tmp_path / "vars").read_bytes()
        for descriptor in firmware.open_firmware(config, context):
            os.close(descriptor)
        assert copy.read_bytes() == (tmp_path / "vars").read_bytes()
        assert os.listdir(state) == ["firmware-vars.fd"]
        copy.unlink()
        if not killed:
            break
    assert 2 < number < 19


def test_variables_of_another_firmware_are_refused(fields, context, tmp_path) -> None:
    (tmp_path / "state/firmware-vars.fd").write_bytes(b"x" * 4096)
    with pytest.raises(ConfigError, match="variables of another firmware") as caught:
        prepared(fields, context)
    assert str(tmp_path / "state/firmware-vars.fd") in caught.value.fix


def test_a_link_in_the_place_of_the_copy_is_not_followed(fields, context, tmp_path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"x" * (64 << 10))
    os.symlink(victim, tmp_path / "state/firmware-vars.fd")
    with pytest.raises(AssetError):
        firmware.open_firmware(HypervisorConfig(**fields), context)


@pytest.mark.parametrize(
    ("change", "option", "kind"),
    [
        ({"hypervisor_machine_type": "microvm"}, "machine_type", ConfigError),
        ({"hypervisor_machine_type": "microvm", "kernel_path": "DISK"}, "firmware_vars_path", ConfigError),
        (
            {"hypervisor_machine_type": "pseries", "firmware_path": "", "firmware_vars_path": ""},
            "machine_type",
            ConfigError,
        ),
        (
            {"hypervisor_machine_type": "virt", "firmware_path": "", "firmware_vars_path": ""},
            "firmware_path",
            ConfigError,
        ),
        ({"image_driver": "nvdimm"}, "image_driver", ConfigError),
        ({"image_driver": "virtio-pmem"}, "image_driver", ConfigError),
        ({"firmware_vars_path": "/missing"}, "firmware_vars_path", AssetError),
        ({"boot": "kernel"}, "kernel_path", ConfigError),
    ],
)
def test_what_no_firmware_boots_is_refused_by_name(fields, context, change, option, kind) -> None:
    given = {name: fields["image_path"] if value == "DISK" else value for name, value in {**fields, **change}.items()}
    with pytest.raises(HypervisorError) as caught:
        prepared(given, context)
    assert (caught.value.option, type(caught.value)) == (option, kind)


@pytest.mark.parametrize(
    ("disk", "option", "words"),
    [
        (b"QFI\xfb" + bytes(506) + b"\x55\xaa", "image_format", "is qcow2"),
        (bytes(4096), "image_path", "must have a partition table"),
        (b"\x55\xaa", "image_path", "must have a partition table"),
    ],
)
def test_a_disk_that_would_never_boot_is_refused(fields, context, disk, option, words) -> None:
    pathlib.Path(fields["image_path"]).write_bytes(disk)
    with pytest.raises(HypervisorError, match=words) as caught:
        prepared(fields, context)
    assert caught.value.option == option


@pytest.mark.parametrize(
    ("code", "words"), [(b"QFI\xfb" + bytes(4092), "qcow2"), (b"x" * 100, "multiple"), (b"x" * (9 << 20), "at most")]
)
def test_a_file_that_is_no_flash_memory_is_refused(fields, context, tmp_path, code, words) -> None:
    (tmp_path / "code").write_bytes(code)
    with pytest.raises(HypervisorError, match=words) as caught:
        prepared(fields, context)
    assert caught.value.option == "firmware_path"
