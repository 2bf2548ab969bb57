# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine on sandboxes of the mock driver: bad input, faults, waiting, and many at a time. The laws are in test_laws.py."""

from __future__ import annotations

import dataclasses
import errno
import os
import pathlib
import subprocess
import threading
import time
from typing import Any, Callable

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.batch import converge_many, observe_many, summary
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.waiting import wait_for
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import (
    ConfigError,
    DeadlineExceeded,
    DisruptionError,
    HostError,
    HypervisorError,
    LaunchError,
    LockTimeout,
    StoreError,
    Unsupported,
    VmmError,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.host.turns import without_turn
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import MemoryResize, Observed
from ansible_collections.kata.hypervisor.plugins.module_utils.records.store import Store
from tests.support.mock_lab import BOOT, LabHypervisor, MockLab
from tests.support.waiting import PATIENCE


@pytest.fixture
def lab(tmp_path: pathlib.Path) -> MockLab:
    return MockLab(tmp_path)


# --- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "error", "option"),
    [
        ({"initrd_path": "/i"}, ConfigError, "kernel_path"),
        ({"kernel_path": "/k"}, ConfigError, "initrd_path"),
        ({**BOOT, "image_path": "/m"}, ConfigError, "image_path"),
        ({**BOOT, "vcpus": 5, "max_vcpus": 4}, ConfigError, "vcpus"),
        ({**BOOT, "kernel_path": "relative"}, ConfigError, "kernel_path"),
        ({**BOOT, "kernel_params": ["a b"]}, ConfigError, "kernel_params"),
        ({**BOOT, "kernel_params": "=x"}, ConfigError, "kernel_params"),
        ({**BOOT, "machine_type": "q35\n"}, ConfigError, "machine_type"),
        ({**BOOT, "devices": [{"id": "d", "type": "block"}]}, ConfigError, "devices"),
        ({**BOOT, "id": "a/b"}, ConfigError, "id"),
        ({**BOOT, "run_dir": "relative"}, ConfigError, "run_dir"),
        ({**BOOT, "wait_for": "console: ("}, ConfigError, "wait_for"),
    ],
)
def test_bad_input_fails_the_same_in_check_mode_and_changes_nothing(
    lab: MockLab, wish: dict[str, Any], error: type[HypervisorError], option: str
) -> None:
    texts = []
    for run in (lab.check, lab.run):
        with pytest.raises(error) as caught:
            run(**wish)
        assert caught.value.option == option
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    assert lab.files() == []


def test_bad_input_to_a_running_sandbox_does_not_stop_it(lab: MockLab) -> None:
    lab.run(**BOOT)
    files = lab.files()
    for wish in ({"kernel_path": ""}, {"initrd_path": ""}, {"vcpus": 500}, {"image_path": "/m"}):
        with pytest.raises(ConfigError, match="sandbox web"):
            lab.run(**wish, disruption="restart")
        assert lab.files() == files


def test_a_driver_that_refuses_leaves_nothing(lab: MockLab) -> None:
    lab.faults = ("create_fails",)
    with pytest.raises(ConfigError, match="sandbox web"):
        lab.run(**BOOT)
    assert lab.files() == []


# --- faults ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("fails_on_start", LaunchError),
        ("fails_on_start_leaving_files", LaunchError),
        ("hangs_on_start", DeadlineExceeded),
    ],
)
def test_a_new_sandbox_that_cannot_start_leaves_nothing(lab: MockLab, fault: str, error: type[HypervisorError]) -> None:
    lab.faults = (fault,)
    with pytest.raises(error, match="sandbox web"):
        lab.run(**BOOT)
    assert lab.remains() == []
    lab.faults = ()
    assert lab.run(**BOOT)["actions"] == ["create", "start"]


def test_an_error_names_no_log_that_is_gone(lab: MockLab, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(driver: LabHypervisor, timeout: float) -> None:
        os.makedirs(driver.context.run_dir)
        pathlib.Path(driver.vmm_log()).write_text("no such machine")
        raise LaunchError("it ended", answer="no such machine", log=driver.vmm_log())

    monkeypatch.setattr(LabHypervisor, "start_sandbox", fail)
    with pytest.raises(LaunchError) as caught:
        lab.run(**BOOT)
    assert (caught.value.log, caught.value.answer) == ("", "no such machine")


@pytest.mark.parametrize("fault", ["fails_on_start", "fails_on_start_leaving_files", "hangs_on_start"])
def test_a_sandbox_that_existed_survives_a_failed_start(lab: MockLab, fault: str) -> None:
    lab.run(**BOOT, state="present", vcpus=3)
    lab.faults = (fault,)
    with pytest.raises(HypervisorError):
        lab.run(state="started")
    lab.faults = ()
    lab.run(state="started")
    assert (lab.facts()["state"], lab.facts()["vcpus"]) == ("started", 3)


@pytest.mark.parametrize(("fault", "word"), [("dies_after_start", "crashed"), ("guest_fails", "failed")])
def test_a_vm_that_dies_after_its_start_is_not_called_started(lab: MockLab, fault: str, word: str) -> None:
    lab.faults = (fault,)
    with pytest.raises(VmmError, match=f"after create, start it is {word} and should be started"):
        lab.run(**BOOT)
    lab.faults = ()
    assert lab.facts()["state"] == word
    assert lab.run()["actions"] == ["cleanup", "start"]
    lab.run(state="absent")
    assert lab.remains() == []


def test_the_error_about_a_vm_that_died_has_the_last_words(lab: MockLab, monkeypatch: pytest.MonkeyPatch) -> None:
    start = LabHypervisor.start_sandbox

    def die(driver: LabHypervisor, timeout: float) -> None:
        start(driver, timeout)
        pathlib.Path(driver.console_log()).write_text("Kernel panic - not syncing\n")
        pathlib.Path(driver.vmm_log()).write_text("vmm: shutting down\n")
        driver.crash()

    monkeypatch.setattr(LabHypervisor, "start_sandbox", die)
    with pytest.raises(VmmError) as caught:
        lab.run(**BOOT)
    assert "Kernel panic" in caught.value.answer and "shutting down" in caught.value.answer
    assert caught.value.log.endswith("vmm.log")


@pytest.mark.parametrize(
    ("fault", "wish"),
    [
        ("pause_fails", {"state": "paused"}),
        ("stop_fails", {"state": "stopped"}),
        ("refuses_resize", {"vcpus": 3}),
        ("gives_half_the_memory", {"memory_mb": 4096}),
        ("refuses_hotplug", {"devices": [{"id": "e", "type": "net", "kind": "user"}]}),
        ("refuses_unplug", {"devices": []}),
        ("hangs_on_unplug", {"devices": []}),
        ("save_fails", {"state": "saved"}),
        ("cleanup_fails", {"state": "absent"}),
    ],
)
def test_what_failed_once_is_done_when_the_fault_is_gone(lab: MockLab, fault: str, wish: dict[str, Any]) -> None:
    lab.run(**BOOT, devices=[{"id": "d", "type": "net", "kind": "user"}])
    lab.faults = (fault,)
    with pytest.raises(HypervisorError, match="sandbox web"):
        lab.run(**wish)
    lab.faults = ()
    assert lab.check(**wish)["actions"] == lab.run(**wish)["actions"]
    assert lab.run(**wish)["actions"] == []
    assert lab.facts()["state"] == wish.get("state", "started")


def test_a_guest_that_could_not_be_saved_runs_on(lab: MockLab) -> None:
    lab.run(**BOOT)
    lab.faults = ("save_fails",)
    with pytest.raises(VmmError):
        lab.run(state="saved")
    lab.faults = ()
    assert lab.facts()["state"] == "started"
    assert lab.run()["actions"] == []


def test_a_saved_state_that_cannot_be_restored_is_kept(lab: MockLab) -> None:
    lab.run(**BOOT)
    lab.run(state="saved")
    lab.faults = ("restore_fails",)
    with pytest.raises(LaunchError):
        lab.run(state="started")
    lab.faults = ()
    assert lab.facts()["saved_state"]
    assert "restore" in lab.run(state="started")["actions"]
    assert not (lab.root / "state/sandboxes/web/saved").exists()


def test_memory_rounded_up_by_the_driver_is_reached(lab: MockLab, monkeypatch: pytest.MonkeyPatch) -> None:
    resize = LabHypervisor.resize_memory

    def round_up(driver: LabHypervisor, memory_mb: int, block_mb: int = 0, probe: bool = False) -> MemoryResize:
        return resize(driver, -(-memory_mb // 128) * 128)

    monkeypatch.setattr(LabHypervisor, "resize_memory", round_up)
    lab.run(**BOOT, memory_mb=256)
    assert lab.run(memory_mb=300)["actions"] == ["resize_memory 256 -> 300"]
    assert lab.facts()["memory_mb"] == 384
    assert lab.run(memory_mb=300)["actions"] == []


def test_memory_the_guest_did_not_take_is_an_error_with_both_numbers(lab: MockLab) -> None:
    lab.run(**BOOT, memory_mb=256)
    lab.faults = ("gives_half_the_memory",)
    with pytest.raises(VmmError, match=r"memory is 384 MiB.*Option memory_mb was 512"):
        lab.run(memory_mb=512)


def test_a_full_disk_leaves_a_running_sandbox_and_its_record(lab: MockLab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.run(**BOOT)
    record = (lab.root / "state/sandboxes/web/record.json").read_text()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(StoreError, match=r"sandbox web: .*the disk is full"):
        patch.setattr(os, "fsync", full)
        lab.run(state="paused")
    assert (lab.root / "state/sandboxes/web/record.json").read_text() == record
    assert lab.facts()["state"] == "started"


def test_a_full_disk_keeps_a_new_sandbox_from_being_made(lab: MockLab, monkeypatch: pytest.MonkeyPatch) -> None:
    saves = []
    save = Store.save

    def second_fails(store: Store, record: Any) -> None:
        saves.append(record)
        if len(saves) == 2:
            raise StoreError("the disk is full")
        save(store, record)

    with monkeypatch.context() as patch, pytest.raises(StoreError):
        patch.setattr(Store, "save", second_fails)
        lab.run(**BOOT)
    assert lab.remains() == []


def test_an_unreadable_record_stops_the_task_and_stays(lab: MockLab) -> None:
    lab.run(**BOOT)
    path = lab.root / "state/sandboxes/web/record.json"
    path.write_text(path.read_text()[:50])
    files = lab.files()
    for wish in ({}, {"state": "stopped"}, {"state": "started"}):
        for run in (lab.check, lab.run):
            with pytest.raises(StoreError, match="not complete JSON"):
                run(**wish)
            assert lab.files() == files


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:50],
        lambda text: text.replace('"vcpus": 1', '"vcpus": true'),
        lambda text: text.replace('"schema": 1', '"schema": 99'),
        lambda text: text.replace('"driver": {', '"driver": 7, "more": {'),
        lambda text: text.replace('"hypervisor": "mock"', '"hypervisor": "vmware"'),
        lambda text: text.replace('"phase": ""', '"phase": "dreaming"'),
        lambda text: text.replace('"console_start": 0', '"console_start": -5'),
        lambda text: text.replace('"saved_state": ""', '"saved_state": "/etc"'),
        lambda text: "[" * 100_000,
        lambda text: "\0" * 100,
    ],
)
def test_no_record_keeps_a_sandbox_from_being_removed(lab: MockLab, damage: Callable[[str], str]) -> None:
    lab.run(vcpus=1, **BOOT)
    path = lab.root / "state/sandboxes/web/record.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(StoreError):
        lab.run(state="started")
    files = lab.files()
    assert lab.check(state="absent")["changed"]
    assert lab.files() == files
    assert lab.run(state="absent")["sandbox"]["state"] == "absent"
    assert lab.remains() == []
    assert not lab.run(state="absent")["changed"]


@pytest.mark.parametrize("kind", ["directory", "link", "fifo"])
def test_what_is_not_a_record_is_removed_with_the_sandbox(lab: MockLab, kind: str, tmp_path: pathlib.Path) -> None:
    lab.run(**BOOT)
    path = lab.root / "state/sandboxes/web/record.json"
    outside = tmp_path / "outside"
    outside.write_text(path.read_text())
    path.unlink()
    {"directory": path.mkdir, "link": lambda: path.symlink_to(outside), "fifo": lambda: os.mkfifo(path)}[kind]()
    with pytest.raises(StoreError):
        lab.facts()
    lab.run(state="absent")
    assert not path.parent.exists() and outside.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give directories away")
@pytest.mark.parametrize("place", ["", "state", "state/sandboxes", "state/sandboxes/web"])
def test_a_state_directory_that_others_can_write_to_is_refused(lab: MockLab, place: str) -> None:
    lab.run(**BOOT)
    files = lab.files()
    for owner, mode, words in ((65534, 0o700, "belongs to user 65534"), (0, 0o777, "others can write to it")):
        os.chown(lab.root / place, owner, -1)
        os.chmod(lab.root / place, mode)
        for state in ("started", "paused", "absent"):
            for run in (lab.check, lab.run):
                with pytest.raises(HostError, match=words) as caught:
                    run(state=state)
                assert caught.value.option == "state_dir" and caught.value.sandbox == "web"
        assert lab.files() == files
        os.chown(lab.root / place, 0, -1)
        os.chmod(lab.root / place, 0o700)
    lab.run(state="absent")


def test_another_run_dir_is_refused_by_both_names(lab: MockLab) -> None:
    lab.run(**BOOT)
    files = lab.files()
    for state in (None, "started", "stopped", "absent"):
        for run in (lab.check, lab.run):
            with pytest.raises(ConfigError, match=str(lab.root / "run")) as caught:
                run(state=state, run_dir=str(lab.root / "other"))
            assert caught.value.wanted == str(lab.root / "other") and caught.value.option == "run_dir"
    assert lab.files() == files
    assert not lab.run(run_dir=f"{lab.root}//run/")["changed"]


def test_a_vm_that_does_not_answer_is_not_ended_without_consent(lab: MockLab) -> None:
    lab.faults = ("hangs_after_start",)
    with pytest.raises(VmmError, match="unresponsive"):
        lab.run(**BOOT)
    lab.faults = ()
    files = lab.files()
    assert lab.facts()["state"] == "unresponsive"
    for wish in (
        {},
        {"state": "started"},
        {"state": "paused"},
        {"state": "saved"},
        {"vcpus": 2},
        {"state": "started", "memory_mb": 99},
    ):
        for run in (lab.check, lab.run):
            with pytest.raises(DisruptionError, match="does not answer"):
                run(**wish)
            assert lab.files() == files
    assert lab.check(state="started", disruption="restart")["actions"] == [
        "end the VMM, which does not answer",
        "start",
    ]
    assert lab.run(state="started", disruption="restart")["sandbox"]["state"] == "started"
    for state in ("stopped", "restarted", "absent"):
        vm = lab.driver()._running_vm("hang")
        vm.power = "unresponsive"
        lab.driver()._store(vm)
        lab.run(state=state)
        lab.run(**BOOT, state="started")


def test_a_full_disk_does_not_keep_a_vm_running(lab: MockLab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.run(**BOOT)
    lab.run(id="old", **BOOT)
    os.unlink(lab.root / "state/sandboxes/old/spare")
    real = os.fsync

    def full(descriptor: int) -> None:
        if (lab.root / "state/sandboxes/web/spare").exists() or "/old/" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(
        os, "posix_fallocate", lambda *_arguments: (nothing for nothing in ()).throw(OSError(errno.ENOSPC, "full"))
    )
    with pytest.raises(StoreError, match="the disk is full"):
        lab.run(id="old", state="stopped")
    assert lab.driver("old").observe().power == "off"
    lab.run(id="old", state="absent")
    assert lab.run(state="stopped")["sandbox"]["state"] == "stopped"
    assert lab.facts()["state"] == "stopped"
    lab.run(state="absent")
    assert lab.remains() == []


def test_a_sandbox_that_a_task_works_on_is_changing(lab: MockLab) -> None:
    lab.run(**BOOT)
    record = Store(lab.spec().layout()).load()
    assert record is not None
    with Store(lab.spec().layout()).lock(5):
        record.phase = "saving"
        Store(lab.spec().layout()).save(record)
        lab.driver().crash()
        assert (lab.facts()["state"], lab.facts()["phase"]) == ("changing", "saving")
    assert lab.facts()["state"] == "crashed"


def test_check_mode_predicts_the_sizes_of_a_vm_that_ends(lab: MockLab) -> None:
    lab.run(**BOOT)
    for state in ("saved", "stopped"):
        predicted = lab.check(state=state)["sandbox"]
        real = lab.run(state=state)["sandbox"]
        for name in (
            "state",
            "vcpus",
            "vcpus_online",
            "memory_mb",
            "pid",
            "thread_ids",
            "leftovers",
            "vmm_status",
            "devices",
        ):
            assert predicted[name] == real[name], name
        lab.run(state="started")


def test_check_mode_predicts_the_facts_of_what_was_off_begins_or_goes(lab: MockLab) -> None:
    steps: list[dict[str, Any]] = [
        {"state": "stopped", **BOOT},
        {"state": "started"},
        {"state": "saved"},
        {"state": "restarted", "disruption": "restart"},
    ]
    for step in (*steps, {"state": "absent"}):
        predicted, real = lab.check(**step)["sandbox"], lab.run(**step)["sandbox"]
        for name in ("state", "vcpus", "memory_mb"):
            assert predicted.get(name) == real.get(name), (step, name)
        if step["state"] == "absent":
            assert predicted == real


def test_a_run_directory_below_one_that_others_can_write_to_is_refused(lab: MockLab) -> None:
    (lab.root / "open").mkdir(parents=True)
    (lab.root / "open").chmod(0o777)
    for run in (lab.check, lab.run):
        with pytest.raises(HostError, match="others can write to it") as caught:
            run(run_dir=str(lab.root / "open/run"), **BOOT)
        assert caught.value.option == "run_dir"
    assert lab.remains() == ["open"]


def test_a_path_that_an_earlier_version_recorded_as_it_was_spelled_is_no_change(lab: MockLab) -> None:
    lab.run(kernel_path="/a/k", initrd_path="/i", devices=[{"id": "d", "type": "block", "file": "/a/d"}])
    path = lab.root / "state/sandboxes/web/record.json"
    path.write_text(path.read_text().replace('"/a/k"', '"/a//k"').replace('"/a/d"', '"/b/..//a/d"'))
    wish = {"kernel_path": "/a//k", "devices": [{"id": "d", "type": "block", "file": "/b/..//a/d"}]}
    assert not lab.check(**wish)["changed"] and not lab.run(**wish)["changed"]
    assert lab.check(kernel_path="/a/other", disruption="restart")["changed"]


def test_another_task_is_waited_for(lab: MockLab) -> None:
    lab.run(**BOOT)
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with Store(lab.spec().layout()).lock(5):
            entered.set()
            leave.wait(PATIENCE)

    holder = threading.Thread(target=hold)
    holder.start()
    assert entered.wait(PATIENCE)
    with pytest.raises(LockTimeout, match=f"process {os.getpid()},"):
        lab.run(state="paused")
    assert lab.check(state="paused")["actions"] == ["pause"], "check mode takes no lock"
    threading.Timer(0.2, leave.set).start()
    assert lab.run(state="paused", lock_timeout=20)["actions"] == ["pause"]
    holder.join()


# --- results -----------------------------------------------------------------------------------------------------------


def test_facts_of_a_running_sandbox(lab: MockLab) -> None:
    facts = lab.run(**BOOT, vcpus=2, devices=[{"id": "d", "type": "block", "file": "/d"}])["sandbox"]
    assert facts["state"] == facts["desired"] == "started"
    assert (facts["hypervisor"], facts["vcpus"], facts["pid"]) == ("mock", 2, os.getpid())
    assert facts["options"]["memory_mb"] == facts["memory_mb"] == 2048
    assert [(device["id"], device["plugged"]) for device in facts["devices"]] == [("d", True)]
    assert facts["thread_ids"] == {"0": os.getpid(), "1": os.getpid()}
    assert facts["run_dir"] == str(lab.root / "run/web")


def test_check_mode_foretells_state_and_sizes(lab: MockLab) -> None:
    assert lab.check(**BOOT)["sandbox"]["state"] == "started"
    lab.run(**BOOT)
    facts = lab.check(vcpus=3, state="paused")["sandbox"]
    assert (facts["state"], facts["vcpus"]) == ("paused", 3)


def test_defaults_are_applied_once(lab: MockLab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.run(**BOOT)
    from ansible_collections.kata.hypervisor.plugins.module_utils.options import config

    monkeypatch.setitem(config.DEFAULTS, "memory_size", 64)
    lab.run(state="restarted")
    assert lab.facts()["memory_mb"] == 2048
    lab.run(id="new", **BOOT)
    assert lab.facts("new")["memory_mb"] == 64


def test_a_running_vm_without_a_record_is_removed_or_replaced(lab: MockLab) -> None:
    lab.run(**BOOT)
    for path in (lab.root / "state/sandboxes/web").iterdir():
        path.unlink()
    assert lab.facts()["state"] == "incomplete"
    assert lab.check(state="absent")["actions"] == ["stop", "remove"]
    assert lab.run(**BOOT)["actions"] == ["cleanup", "create", "start"]
    assert lab.facts()["state"] == "started"


def test_a_wrong_hypervisor_needs_recreate(lab: MockLab) -> None:
    lab.run(**BOOT)
    with pytest.raises(DisruptionError, match="hypervisor mock -> qemu needs a new VM"):
        lab.check(hypervisor="qemu")


# --- waiting -----------------------------------------------------------------------------------------------------------


def speaking(monkeypatch: pytest.MonkeyPatch, text: str, after: float = 0.2) -> None:
    """Guests that print something a while after they have started."""
    start = LabHypervisor.start_sandbox

    def speak(driver: LabHypervisor, timeout: float) -> None:
        start(driver, timeout)
        path = pathlib.Path(driver.console_log())
        with path.open("a") as console:
            console.write("booting\n")

        def say() -> None:
            with path.open("a") as console:
                console.write(text)

        threading.Timer(after, say).start()

    monkeypatch.setattr(LabHypervisor, "start_sandbox", speak)


def test_the_console_is_waited_for(lab: MockLab, monkeypatch: pytest.MonkeyPatch) -> None:
    speaking(monkeypatch, "web login: ")
    started = time.monotonic()
    lab.run(**BOOT, wait_for=r"console: log[i]n:")
    assert time.monotonic() - started >= 0.2
    assert not lab.run(wait_for={"console": "login", "timeout": PATIENCE})["changed"], (
        "it has been printed since this start"
    )


def test_what_an_earlier_start_printed_does_not_count(lab: MockLab, monkeypatch: pytest.MonkeyPatch) -> None:
    speaking(monkeypatch, "web login: ", after=0)
    lab.run(**BOOT, wait_for="console: login")
    monkeypatch.undo()
    lab.run(state="restarted")
    with pytest.raises(DeadlineExceeded):
        lab.run(wait_for={"console": "login", "timeout": 0.3})


def test_a_wait_that_is_too_long_shows_the_last_lines(lab: MockLab, monkeypatch: pytest.MonkeyPatch) -> None:
    speaking(monkeypatch, "mounting /dev/vda\n", after=0)
    with pytest.raises(DeadlineExceeded) as caught:
        lab.run(**BOOT, wait_for="console: login", wait_timeout=1)
    assert "mounting /dev/vda" in caught.value.answer and caught.value.log.endswith("console.log")
    assert lab.facts()["state"] == "started", "the sandbox is left as it is"


def test_a_vm_that_ends_is_not_waited_for(lab: MockLab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.run(**BOOT)
    threading.Timer(0.3, lambda: lab.driver().crash()).start()
    with pytest.raises(VmmError, match="the VM is off"):
        lab.run(wait_for="console: login", wait_timeout=PATIENCE)


def test_a_vmm_that_is_too_busy_to_answer_is_waited_for(lab: MockLab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.run(**BOOT)
    driver = lab.driver()
    silent = Observed("failed", pid=1, reason="QEMU does not answer: no reply within 15 s")
    console = pathlib.Path(driver.console_log())
    looks: list[int] = []

    def observe() -> Observed:
        looks.append(1)
        if len(looks) == 3:
            console.write_text("login")
        return silent

    monkeypatch.setattr(driver, "observe", observe)
    wait_for({"kind": "console", "argument": "login", "timeout": 30}, driver, "web", 0)
    assert len(looks) == 3
    with pytest.raises(DeadlineExceeded, match=r"did not happen within 0.2 seconds \(QEMU does not answer: no reply"):
        wait_for({"kind": "console", "argument": "never", "timeout": 0.2}, driver, "web", 0)


def test_a_vmm_that_says_that_its_guest_is_lost_is_not_waited_for(
    lab: MockLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.run(**BOOT)
    driver = lab.driver()
    lost = Observed("failed", "guest-panicked", pid=1, reason="QEMU reports guest-panicked")
    monkeypatch.setattr(driver, "observe", lambda: lost)
    with pytest.raises(VmmError, match=r"the VM is failed \(QEMU reports guest-panicked\)"):
        wait_for({"kind": "console", "argument": "login", "timeout": 30}, driver, "web", 0)


def test_the_guest_boots_before_it_is_paused(lab: MockLab, monkeypatch: pytest.MonkeyPatch) -> None:
    speaking(monkeypatch, "login", after=0.3)
    lab.run(**BOOT, state="paused", wait_for="console: login")
    assert "login" in (lab.root / "run/web/console.log").read_text()
    assert lab.facts()["state"] == "paused"


def test_a_driver_without_a_console_cannot_be_waited_for(lab: MockLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LabHypervisor, "console_log", lambda driver: "")
    with pytest.raises(Unsupported, match="keeps no console log"):
        lab.run(**BOOT, wait_for="console: login")


# --- many --------------------------------------------------------------------------------------------------------------


def test_one_that_fails_does_not_stop_the_others(lab: MockLab) -> None:
    specs = [lab.spec(id=f"s{number}", **BOOT) for number in range(6)]
    specs[2] = dataclasses.replace(specs[2], options={})
    results = converge_many(specs, factory=lab.factory)
    assert [result["id"] for result in results] == [spec.id for spec in specs]
    assert [result.get("failed", False) for result in results] == [number == 2 for number in range(6)]
    total = summary(results)
    assert total["failed_ids"] == ["s2"] and total["changed"] and "1 of 6" in total["msg"]
    assert set(total["diff"]["after"]) == {"s0", "s1", "s3", "s4", "s5"}
    again = converge_many([specs[0], specs[1]], factory=lab.factory)
    assert not summary(again)["changed"]


def test_a_bug_in_one_does_not_stop_the_others(lab: MockLab, monkeypatch: pytest.MonkeyPatch) -> None:
    def buggy(name: str, context: Any) -> Any:
        if context.sandbox_id == "s1":
            raise RuntimeError("a bug")
        return lab.factory(name, context)

    results = converge_many([lab.spec(id=f"s{number}", **BOOT) for number in range(3)], factory=buggy)
    assert [result.get("failed", False) for result in results] == [False, True, False]
    assert "unexpected RuntimeError: a bug" in results[1]["msg"] and "buggy" in results[1]["traceback"]


def test_the_same_sandbox_twice_is_refused(lab: MockLab) -> None:
    with pytest.raises(ConfigError, match="must not be listed twice"):
        converge_many([lab.spec(**BOOT), lab.spec(state="absent")], factory=lab.factory)
    assert lab.files() == []


def test_sandboxes_are_worked_on_side_by_side(lab: MockLab, monkeypatch: pytest.MonkeyPatch) -> None:
    start = LabHypervisor.start_sandbox
    together = threading.Barrier(4, timeout=20)

    def meet(driver: LabHypervisor, timeout: float) -> None:
        together.wait()
        start(driver, timeout)

    monkeypatch.setattr(LabHypervisor, "start_sandbox", meet)
    results = converge_many([lab.spec(id=f"s{number}", **BOOT) for number in range(4)], parallel=4, factory=lab.factory)
    assert not summary(results)["failed_ids"]


def test_all_guests_of_a_task_shut_down_at_the_same_time(lab: MockLab, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [lab.spec(id=f"s{number}", **BOOT) for number in range(10)]
    converge_many(specs, factory=lab.factory)
    stop = LabHypervisor.stop_sandbox
    asked = threading.Barrier(len(specs), timeout=20)
    working: set[str] = set()
    most: list[int] = []

    def ask_and_wait(driver: LabHypervisor, timeout: float, force: bool = False) -> None:
        sandbox = driver.context.sandbox_id
        working.add(sandbox)
        most.append(len(working))
        working.discard(sandbox)
        with without_turn():
            asked.wait()  # It breaks if one waits for its turn until another one has waited for its guest.
        working.add(sandbox)
        most.append(len(working))
        stop(driver, timeout, force)
        working.discard(sandbox)

    monkeypatch.setattr(LabHypervisor, "stop_sandbox", ask_and_wait)
    results = converge_many(
        [dataclasses.replace(spec, state="absent") for spec in specs], parallel=2, factory=lab.factory
    )
    assert not summary(results)["failed_ids"] and lab.remains() == []
    assert max(most) <= 2


def test_info_lists_everything_and_changes_nothing(lab: MockLab) -> None:
    for identity in ("running", "off", "crashed", "broken", "lost"):
        lab.run(id=identity, **BOOT)
    lab.run(id="off", state="stopped")
    lab.driver("crashed").crash()
    (lab.root / "state/sandboxes/broken/record.json").write_text("{")
    for path in (lab.root / "state/sandboxes/lost").iterdir():
        path.unlink()
    files = lab.files()

    def states(*arguments: Any) -> dict[str, str]:
        found = observe_many(lab.spec(), *arguments, factory=lab.factory)
        return {facts["id"]: facts["state"] for facts in found}

    everything = {
        "broken": "unreadable",
        "crashed": "crashed",
        "lost": "incomplete",
        "off": "stopped",
        "running": "started",
    }
    assert states() == everything
    assert states(["*o*"]) == {"broken": "unreadable", "lost": "incomplete", "off": "stopped"}
    assert states(["*"], ["crashed", "unreadable"]) == {"broken": "unreadable", "crashed": "crashed"}
    assert states(["*"], [], ["qemu"]) == {}
    assert lab.files() == files


# --- what is shown -----------------------------------------------------------------------------------------------------------


def test_hidden_contents_are_in_no_result_of_any_task(lab: MockLab) -> None:
    nic = {"id": "eth0", "type": "net", "kind": "tap"}
    service = {
        "id": "md",
        "type": "mmds",
        "interfaces": ["eth0"],
        "contents": {"token": "hunter2"},
        "hide_contents": True,
    }
    results = [
        lab.check(devices=[nic, service], **BOOT),
        lab.run(devices=[nic, service], **BOOT),
        lab.run(devices=[nic, service]),
        lab.facts(),
        lab.check(devices=[nic, {**service, "contents": {"token": "hunter2b"}}]),
        lab.run(devices=[nic, {**service, "contents": {"token": "hunter2b"}}]),
        lab.run(devices=[nic], disruption="restart"),
    ]
    assert [result.get("changed") for result in results] == [True, True, False, None, True, True, True]
    assert "hunter2" not in repr(results)
    for wrong in (
        {"contents": {"token": "hunter2", "n": None}},
        {"version": "V9"},
        {"contents": {"token": "hunter2", "x": float("nan")}},
    ):
        with pytest.raises(ConfigError) as caught:
            lab.run(devices=[nic, {**service, **wrong}])
        assert "hunter2" not in str(caught.value) and "hunter2" not in repr(caught.value.as_result())


def test_contents_can_be_hidden_while_the_vm_runs(lab: MockLab) -> None:
    nic = {"id": "eth0", "type": "net", "kind": "tap"}
    service = {"id": "md", "type": "mmds", "interfaces": ["eth0"], "contents": {"token": "hunter2"}}
    lab.run(devices=[nic, service], **BOOT)
    assert not lab.run(devices=[nic, {**service, "hide_contents": False}])["changed"]
    hidden = lab.run(devices=[nic, {**service, "hide_contents": True}])
    assert hidden["actions"] == ["change mmds md"]
    assert "hunter2" not in repr(lab.facts())


def test_what_a_guest_prints_reaches_no_terminal_raw(lab: MockLab) -> None:
    lab.run(**BOOT)
    (lab.root / "run/web/console.log").write_bytes(b"\x1b[2J\x1b]0;owned\x07login \x9b31m\xe2\x80\xae\n")
    with pytest.raises(DeadlineExceeded) as caught:
        lab.run(wait_for={"console": "never", "timeout": 0.2})
    for text in (str(caught.value), caught.value.as_result()["answer"]):
        assert "\\x1b[2J" in text and all(one.isprintable() or one in "\n\t" for one in text)


# --- the same file, and a directory that cannot be written ----------------------------------------------------------------


def test_another_spelling_of_a_path_is_no_change(lab: MockLab) -> None:
    share = {"id": "s", "type": "fs", "tag": "t", "path": "/srv/share"}
    lab.run(devices=[share], **BOOT)
    other = {"kernel_path": "//k", "initrd_path": "/./i/", "devices": [{**share, "path": "/srv//share/"}]}
    for run in (lab.check, lab.run):
        assert not run(**other)["changed"]
    # As an earlier version has recorded it.
    path = lab.root / "state/sandboxes/web/record.json"
    path.write_text(path.read_text().replace('"/k"', '"//k"').replace("/srv/share", "/srv//share/"))
    assert not lab.run(devices=[share], **BOOT)["changed"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
@pytest.mark.parametrize("made", [False, True])
def test_check_mode_fails_where_the_run_cannot_lock(lab: MockLab, tmp_path: pathlib.Path, made: bool) -> None:
    state = tmp_path / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", str(state)], check=True)
    try:
        if made:
            lab.run(**BOOT)
        subprocess.run(["mount", "-o", "remount,ro", str(state)], check=True)
        for wish in (BOOT, {"state": "stopped"}, {"state": "paused"}, *([{"state": "absent"}] if made else [])):
            texts = []
            for run in (lab.check, lab.run):
                with pytest.raises(StoreError, match="Read-only file system") as caught:
                    run(**wish)
                texts.append(str(caught.value))
            assert texts[0] == texts[1]
    finally:
        subprocess.run(["umount", str(state)], check=True)


@pytest.mark.parametrize("phase", ["starting", "restoring", "stopping"])
def test_a_vm_that_a_killed_task_left_half_way_is_made_again(lab: MockLab, phase: str) -> None:
    """The VMM of such a task does not answer yet, or any more; no guest is lost with it."""
    lab.run(**BOOT)
    vm = lab.driver()._running_vm("hang")
    vm.power = "unresponsive"
    lab.driver()._store(vm)
    store = Store(lab.spec().layout())
    record = store.load()
    assert record is not None
    record.phase = phase
    with store.lock(1):
        store.save(record)
    assert lab.facts()["state"] == "incomplete"
    assert lab.run()["sandbox"]["state"] == "started"
