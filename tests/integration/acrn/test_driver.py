# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ACRN through the engine, on stand-ins for acrn-dm and acrnctl; the argument tests also on the real acrn-dm that KATA_TEST_ACRN_DM names."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import time
from typing import Any, Callable, Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import (
    AssetError,
    ConfigError,
    DeadlineExceeded,
    DisruptionError,
    HostError,
    LaunchError,
    StateError,
    Unsupported,
    VmmError,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.acrn import command_line, start, vmm
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.acrn.devices.kinds import device_for
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.block import BlockDrive
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.net import NetworkDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.serial import SerialPort
from ansible_collections.kata.hypervisor.plugins.module_utils.options.kernel_params import Param
from tests.support.acrn_lab import AcrnLab
from tests.support.lab import removed_afterwards
from tests.support.stand_ins import DOUBLES
from tests.support.waiting import PATIENCE

#: Runs an acrn-dm with arguments; returns its exit code and what it printed.
RunDm = Callable[["list[str]"], "tuple[int, str]"]

REAL_DM = os.environ.get("KATA_TEST_ACRN_DM", "")


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[AcrnLab]:
    """A host that runs on ACRN, as far as a device's name shows it."""
    monkeypatch.setattr(start, "HSM_DEVICES", ("/dev/null",))
    monkeypatch.setenv("ACRN_DOUBLE_MANAGER", "")
    with removed_afterwards(AcrnLab()) as made:
        yield made
        monkeypatch.delenv("ACRN_DOUBLE_FAULTS", raising=False)


@pytest.fixture
def misbehave(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the stand-in fail in a way that its source names."""
    return lambda *faults: monkeypatch.setenv("ACRN_DOUBLE_FAULTS", ",".join(faults))


def test_a_host_without_acrn_is_refused(lab: AcrnLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kata 1.x calls every part of its host check optional."""
    monkeypatch.setattr(start, "HSM_DEVICES", ("/dev/acrn_hsm_none", "/dev/acrn_vhm_none"))
    with pytest.raises(HostError, match="does not run on ACRN"):
        lab.start()
    assert lab.facts()["state"] == "absent"


def test_start_ends_when_the_vm_is_up(lab: AcrnLab, misbehave: Callable[..., None]) -> None:
    """Trap T15: Kata 1.x sleeps its whole limit of time."""
    misbehave("slow")
    begun = time.monotonic()
    assert lab.start(start_timeout=3 * PATIENCE)["sandbox"]["state"] == "started"
    assert 0.9 < time.monotonic() - begun < PATIENCE


def test_start_ends_when_the_process_is_dead(lab: AcrnLab, misbehave: Callable[..., None]) -> None:
    misbehave("no_hsm")
    begun = time.monotonic()
    with pytest.raises(LaunchError, match="exit code 1") as caught:
        lab.start(start_timeout=3 * PATIENCE)
    assert time.monotonic() - begun < PATIENCE and "Could not open /dev/acrn_vhm" in caught.value.answer
    assert lab.processes() == [] and lab.facts()["state"] == "absent"


def test_a_vm_that_never_comes_up_is_ended(lab: AcrnLab, misbehave: Callable[..., None]) -> None:
    """acrnctl answers 0 and "There are no VMs" then; that is no success."""
    misbehave("never_up")
    with pytest.raises(DeadlineExceeded, match="acrnctl does not know its VM"):
        lab.start(start_timeout=1)
    assert lab.processes() == [] and lab.facts()["state"] == "absent"


def test_a_missing_program_is_an_error_and_no_crash(lab: AcrnLab) -> None:
    """Trap T15 again."""
    for option in ("hypervisor_path", "hypervisor_ctl_path"):
        with pytest.raises(AssetError):
            lab.start(**{option: "/nowhere"})


@pytest.mark.parametrize("state", ["absent", "stopped"])
@pytest.mark.parametrize(
    "script",
    [
        *("exec yes 'sandbox-web started'", "printf '\\000\\377\\033[2J\\n'", "exec sleep 600"),
        *("trap '' TERM; sleep 600", "echo sandbox-web exploded", "kill -9 $$"),
    ],
    ids=["endless", "binary", "silent", "deaf", "another state", "killed"],
)
def test_a_sandbox_ends_whatever_acrnctl_does(
    lab: AcrnLab, monkeypatch: pytest.MonkeyPatch, script: str, state: str
) -> None:
    control = pathlib.Path(lab.file("acrnctl", mode=0o755))
    control.write_text(f'#!/bin/sh\n[ -e {lab.root}/odd ] || exec {DOUBLES}/acrnctl "$@"\n{script}\n')
    lab.start(hypervisor_ctl_path=str(control))
    monkeypatch.setattr(vmm, "CTL_SECONDS", 0.5)
    lab.file("odd")
    assert lab.facts()["state"] in ("unresponsive", "failed")
    assert lab.run(state=state)["changed"] and lab.processes() == []
    assert lab.facts()["state"] == state


def test_disks_take_the_place_of_placeholders(lab: AcrnLab) -> None:
    lab.start()
    disks = [{"id": f"d{number}", "type": "block", "file": lab.file(f"disk{number}")} for number in range(9)]
    assert lab.run(devices=disks[:8])["changed"] and not lab.run(devices=disks[:8])["changed"]
    with pytest.raises(StateError, match="all 8 placeholder drives are taken"):
        lab.run(devices=disks)
    with pytest.raises(DisruptionError, match="needs a restart"):
        lab.run(devices=disks[:7])


def test_slots_belong_to_a_sandbox(lab: AcrnLab) -> None:
    """Trap T15: Kata 1.x's table of slots belongs to the process, and a second VM overwrites it."""
    lab.start("one", devices=[{"id": "first", "type": "block", "file": lab.file("first")}])
    lab.start("two")
    lab.run("two", devices=[{"id": "hot", "type": "block", "file": lab.file("hot")}])
    lab.run(
        "one",
        devices=[
            {"id": "first", "type": "block", "file": lab.file("first")},
            {"id": "hot", "type": "block", "file": lab.file("hot1")},
        ],
    )
    for sandbox in ("one", "two"):
        state = lab.driver(sandbox).save()
        assert state["slots"] == [5, 6, 7, 8, 9, 10, 11, 12] and state["placeholders"][0] == "hot"


def test_what_acrnctl_refuses_is_no_success(lab: AcrnLab) -> None:
    """Trap T15: Kata 1.x logs the failure and says success."""
    lab.start()
    (lab.root / "mngr/sandbox-web.json").write_text(json.dumps({"pid": lab.driver().pid(), "disks": {}}))
    with pytest.raises(VmmError, match=r"failed \(exit code 0\)") as caught:
        lab.run(devices=[{"id": "d", "type": "block", "file": lab.file("d")}])
    assert "Unable to rescan" in caught.value.answer
    (lab.root / "mngr/sandbox-web.json").rename(lab.root / "mngr/another.json")
    with pytest.raises(VmmError, match=r"failed \(exit code 255\)"):
        lab.driver().hotplug_add_device(BlockDrive(lab.file("e"), id="e"))
    (lab.root / "mngr/another.json").rename(lab.root / "mngr/sandbox-web.json")
    assert lab.driver().save()["placeholders"] == [""] * 8 and lab.facts()["devices"] == []


def test_stop_by_sigint_then_sigkill(
    lab: AcrnLab, misbehave: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.start()
    begun = time.monotonic()
    lab.run(state="stopped", stop_timeout=3 * PATIENCE)
    assert time.monotonic() - begun < PATIENCE
    misbehave("ignores_sigint")
    lab.run(state="started")
    lab.run(state="stopped", stop_timeout=1)
    assert lab.processes() == []


def test_nobody_is_signalled_for_a_vm_that_never_ran(lab: AcrnLab) -> None:
    """Trap T3: Kata 1.x sends SIGINT to pid 0, its caller's process group."""
    caught: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda *_: caught.append(1))
    try:
        lab.run(state="present", **lab.options)
        lab.driver().stop_sandbox(1)
        with pytest.raises(StateError):
            lab.driver().check()
    finally:
        signal.signal(signal.SIGINT, previous)
    assert caught == [] and lab.driver().pid() == 0


@pytest.mark.parametrize("wish", [{"state": "paused"}, {"state": "saved"}])
def test_what_acrn_lacks_names_the_version(lab: AcrnLab, wish: dict[str, Any]) -> None:
    lab.start()
    with pytest.raises(Unsupported, match=r"ACRN 3\.4"):
        lab.run(**wish)
    for call in (
        lab.driver().resume_sandbox,
        lambda: lab.driver().resize_memory(256),
        lambda: lab.driver().resize_vcpus(2),
    ):
        with pytest.raises(Unsupported, match=r"ACRN 3\.4"):
            call()


# --- dialects ----------------------------------------------------------------------------------------------------------


def test_the_dialect_follows_the_version(lab: AcrnLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACRN_DOUBLE_VERSION", "2.5")
    assert lab.start("by-uuid", vm_uuid="495ae2e5-2603-4d64-af76-d4bc5a8ec0e5")["sandbox"]["state"] == "started"
    assert "-U 495ae2e5" in " ".join(lab.processes())
    monkeypatch.setenv("ACRN_DOUBLE_VERSION", "2.7")
    assert lab.start("by-name", vcpus=2, cpu_affinity=["0", "1"], vm_name="VM1")["sandbox"]["state"] == "started"
    (line,) = [line for line in lab.processes() if line.rstrip().endswith("VM1")]
    assert "--cpu_affinity 0,1" in line and " -A " not in line and " -c " not in line


@pytest.mark.parametrize(
    ("version", "options", "kind", "words"),
    [
        ("3.4", {"vm_uuid": "495ae2e5-2603-4d64-af76-d4bc5a8ec0e5"}, Unsupported, "by their name"),
        ("2.5", {"vm_name": "VM1"}, Unsupported, "by their UUID"),
        ("2.5", {"vm_uuid": "bogus"}, ConfigError, "must be a UUID"),
        ("3.4", {"vm_name": "x" * 16}, ConfigError, "up to 15 bytes"),
        ("3.4", {"vcpus": 2}, ConfigError, "physical CPUs"),
        ("3.4", {"vcpus": 2, "cpu_affinity": ["0", "0"]}, ConfigError, "local APIC"),
    ],
)
def test_identities_of_the_other_dialect_are_refused(
    lab: AcrnLab,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    options: dict[str, Any],
    kind: type[Exception],
    words: str,
) -> None:
    monkeypatch.setenv("ACRN_DOUBLE_VERSION", version)
    with pytest.raises(kind, match=words):
        lab.start(**options)
    assert lab.facts()["state"] == "absent"


# --- arguments, on a real acrn-dm too -------------------------------------------------------------------------------------


@pytest.fixture(params=["double", "real"])
def run_dm(request: pytest.FixtureRequest, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> RunDm:
    """Run an acrn-dm that cannot start a VM, and return its exit code and words."""
    if request.param == "real" and not REAL_DM:
        pytest.skip("KATA_TEST_ACRN_DM names no real acrn-dm")
    monkeypatch.setenv("ACRN_DOUBLE_FAULTS", "no_hsm")
    monkeypatch.setenv("ACRN_DOUBLE_MANAGER", str(tmp_path / "mngr"))
    program = REAL_DM if request.param == "real" else str(DOUBLES / "acrn-dm")

    def run(words: list[str]) -> tuple[int, str]:
        done = subprocess.run(
            [program, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        return done.returncode, done.stdout + done.stderr

    return run


def line(tmp_path: pathlib.Path, dialect: command_line.Dialect) -> list[str]:
    for name in ("kernel", "image"):
        (tmp_path / name).write_bytes(b"\x7fELF")
    config = HypervisorConfig(
        kernel_path=str(tmp_path / "kernel"), image_path=str(tmp_path / "image"), memory_size=256, num_vcpus=1
    )
    return command_line.command_line(config, "VM1", str(tmp_path / "c.sock"), dialect=dialect).words


def test_todays_line_gets_as_far_as_the_hypervisor(run_dm: RunDm, tmp_path: pathlib.Path) -> None:
    code, words = run_dm(line(tmp_path, command_line.NAME))
    assert code != 0 and "acrn_vhm" in words and "usage" not in words.lower()


def test_a_line_with_every_device_gets_as_far(run_dm: RunDm, tmp_path: pathlib.Path) -> None:
    config = HypervisorConfig(
        kernel_path=str(tmp_path / "kernel"),
        image_path=str(tmp_path / "image"),
        memory_size=256,
        num_vcpus=2,
        cpu_affinity=[Param("0"), Param("2")],
    )
    devices = [
        BlockDrive(str(tmp_path / "image"), id="data", index=9, read_only=True),
        SerialPort("port", "char", str(tmp_path / "port.sock"), "port"),
        NetworkDevice("tap", tap_name="tap0", mac="02:00:00:00:00:01"),
        NetworkDevice("macvtap", tap_name="mac0"),
    ]
    line(tmp_path, command_line.NAME)
    words = command_line.command_line(
        config, "VM1", str(tmp_path / "c.sock"), map(device_for, devices), command_line.NAME
    ).words
    code, answer = run_dm(words)
    assert code != 0 and "acrn_vhm" in answer and "usage" not in answer.lower()


def test_the_version_that_it_reports_is_understood(run_dm: RunDm) -> None:
    """From 3.2 on in other words than before."""
    assert command_line.parse_version(run_dm(["-v"])[1]) == (3, 4)


@pytest.mark.parametrize(
    ("words", "version"),
    [
        ("DM version is: 2.5-unstable-4de5ee0 (daily tag:acrn-2021w22), build by me@2021-06-01 10:00:00", (2, 5)),
        ("DM: 3.3-stable-2024-11-19-05:31:12-8d0ed08(tag: v3.3) build by me@2025-01-01 10:00:00", (3, 3)),
        ("acrnctl 3.3", ()),
    ],
)
def test_versions(words: str, version: tuple[int, ...]) -> None:
    assert command_line.parse_version(words) == version


@pytest.mark.parametrize(
    "program", [str(DOUBLES / "acrnctl"), os.environ.get("KATA_TEST_ACRNCTL", "")], ids=["double", "real"]
)
def test_acrnctls_words_and_codes(program: str, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """What the driver relies on: no VMs and no manager are told alike, with code 0; an unknown VM is code 255."""
    if not program:
        pytest.skip("KATA_TEST_ACRNCTL names no real acrnctl")
    monkeypatch.setenv("ACRN_DOUBLE_MANAGER", str(tmp_path))

    def run(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            [program, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        return done.returncode, done.stdout + done.stderr

    code, words = run("list")
    assert code == 0 and "There are no VMs" in words and "VM1" not in command_line.vm_states(words)
    code, words = run(*command_line.rescan("VM1", 5, "/tmp/disk"))
    assert code == 255 and "can't find VM1" in words
    assert run("pause", "VM1")[0] == 255  # Gone since 2.0.


def test_the_originals_line_is_not_taken_any_more(run_dm: RunDm, tmp_path: pathlib.Path) -> None:
    words = line(tmp_path, command_line.UUID)
    code, answer = run_dm([*words[:1], "-U", "495ae2e5-2603-4d64-af76-d4bc5a8ec0e5", *words[1:]])
    assert code == 1 and "usage" in answer.lower()


def test_exit_codes_of_bad_arguments(run_dm: RunDm, tmp_path: pathlib.Path) -> None:
    good = line(tmp_path, command_line.NAME)
    size = good.index("256M")
    assert run_dm([*good[:size], "lots", *good[size + 1 :]])[0] == 64
    assert run_dm(["-s", "99,nothing", *good])[0] == 1


# --- pure --------------------------------------------------------------------------------------------------------------


def test_values_with_commas_cannot_smuggle_options() -> None:
    config = HypervisorConfig(kernel_path="/k", image_path="/i,ro", num_vcpus=1, memory_size=1)
    with pytest.raises(ConfigError, match="no commas"):
        command_line.command_line(config, "n", "/c")


def test_a_list_without_vms_is_empty() -> None:
    assert command_line.vm_states("There are no VMs\n") == {}
    assert command_line.vm_states("a\t\tstarted\nb\t\tuntracked\n") == {"a": "started", "b": "untracked"}
