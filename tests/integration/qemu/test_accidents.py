# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accidents on real QEMU: whatever was killed, the next task reaches the goal and nothing is left over."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any, Callable

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import (
    DeadlineExceeded,
    DisruptionError,
    HypervisorError,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.host.processes import identify
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import vmm
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.devices import hotplug
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.qmp import QmpClient
from tests.support.checkout import ROOT
from tests.support.qemu_lab import QemuLab
from tests.support.waiting import wait_until

#: Enough to find that a VMM, which a test has stopped, does not answer.
HANGING_SECONDS = 5.0


def kill_vmm(lab: QemuLab) -> int:
    pid: int = lab.facts()["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: identify(pid) is None, f"the end of process {pid}")
    return pid


def started(lab: QemuLab, **options: Any) -> dict[str, Any]:
    """A sandbox that runs; nobody waits for its guest."""
    result: dict[str, Any] = lab.start(wait_for="running", **options)
    return result


def test_a_killed_vmm_is_seen_and_started_again(lab: QemuLab) -> None:
    started(lab)
    pid = kill_vmm(lab)
    assert lab.run_path("qmp.sock").exists(), "SIGKILL leaves the sockets behind"
    assert lab.facts()["state"] == "crashed"
    result = lab.run(state="started")
    assert result["changed"] and result["sandbox"]["pid"] != pid
    assert lab.run(state="started")["changed"] is False


@pytest.mark.parametrize("state", ["stopped", "paused", "absent"])
def test_a_killed_vmm_converges_to_any_state(lab: QemuLab, state: str) -> None:
    started(lab)
    kill_vmm(lab)
    lab.run(state=state)
    assert lab.run(state=state)["changed"] is False


def test_a_stale_socket_and_pid_file_do_not_matter(lab: QemuLab) -> None:
    started(lab)
    lab.run(state="stopped", stop_timeout=0)
    for name in ("qmp.sock", "monitor.sock", "console.sock"):
        with socket.socket(socket.AF_UNIX) as stale:
            lab.run_path("").mkdir(exist_ok=True)
            stale.bind(str(lab.run_path(name)))
    lab.run_path("pid").write_text(f"{os.getpid()}\n")
    assert lab.run(state="started")["sandbox"]["state"] == "started"


def test_a_reused_pid_is_not_taken_for_the_vmm_nor_killed(lab: QemuLab) -> None:
    started(lab)
    kill_vmm(lab)
    other = subprocess.Popen(["sleep", "600"])
    try:
        record = lab.root / "state" / "sandboxes" / "web" / "record.json"
        text = json.loads(record.read_text())
        text["driver"]["process"]["pid"] = other.pid
        record.write_text(json.dumps(text))
        lab.run_path("pid").write_text(f"{other.pid}\n")
        assert lab.facts()["state"] == "crashed"
        lab.run(state="absent")
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_lost_run_directory_is_a_reboot(lab: QemuLab, tool: Callable[..., str]) -> None:
    started(lab)
    kill_vmm(lab)
    tool("rm", "-r", str(lab.run_path("")))
    assert lab.run(state="started")["sandbox"]["state"] == "started"


def test_a_vmm_that_hangs_is_reported_and_replaced(lab: QemuLab, monkeypatch: pytest.MonkeyPatch) -> None:
    started(lab)
    monkeypatch.setattr(vmm, "QMP_SECONDS", HANGING_SECONDS)
    pid = lab.run()["sandbox"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        assert lab.facts()["state"] == "unresponsive"
        with pytest.raises(DisruptionError, match="its VMM does not answer and must be killed"):
            lab.run(state="started")
        assert lab.run(state="started", disruption="restart")["sandbox"]["pid"] != pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_a_client_that_holds_the_control_monitor_does_not_blind_us(
    lab: QemuLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(lab)
    monkeypatch.setattr(vmm, "QMP_SECONDS", HANGING_SECONDS)
    with QmpClient(str(lab.run_path("qmp.sock"))):
        assert lab.run(state="started")["changed"] is False
        with pytest.raises(DeadlineExceeded, match="greeting"):
            lab.run(state="paused")
    assert lab.run(state="paused")["changed"] is True


def test_two_tasks_at_once_do_not_harm_each_other(lab: QemuLab) -> None:
    program = (
        "import json, sys, tests\n"
        "from ansible_collections.kata.hypervisor.plugins.module_utils.engine.converge import converge\n"
        "from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import parse_spec\n"
        "print(json.dumps(converge(parse_spec(json.loads(sys.argv[1])))['actions']))\n"
    )
    wish = {
        "id": "web",
        "state": "started",
        "kernel_path": str(lab.assets.kernel),
        "initrd_path": str(lab.assets.initrd),
        "memory_mb": 128,
        "accelerator": "tcg",
        "state_dir": str(lab.root / "state"),
        "run_dir": str(lab.root / "run"),
    }
    lab.ids.add("web")
    command = [sys.executable, "-c", program, json.dumps(wish)]
    tasks = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _number in range(3)]
    actions = sorted(json.loads(task.communicate(timeout=300)[0]) for task in tasks)
    assert [bool(done) for done in actions] == [False, False, True]
    assert len([process for process in lab.processes() if "qemu" in process]) == 1


def kill_task_after(lab: QemuLab, seconds: float, **wish: Any) -> None:
    """Run a task in a process of its own and kill it in the middle."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            lab.start(wait_for="running", **wish)
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.parametrize("milliseconds", [5, 20, 35, 50, 65, 80, 95, 110, 140])
def test_a_task_killed_while_it_starts_a_vm_leaves_nothing_that_the_next_one_cannot_mend(
    lab: QemuLab, milliseconds: int
) -> None:
    lab.ids.add("web")
    kill_task_after(lab, milliseconds / 1000)
    assert started(lab)["sandbox"]["state"] == "started"
    assert len([process for process in lab.processes() if "qemu" in process]) == 1
    assert lab.run(state="started")["changed"] is False


@pytest.mark.parametrize("milliseconds", [10, 60, 120])
def test_a_task_killed_while_it_starts_a_vm_can_be_followed_by_its_removal(lab: QemuLab, milliseconds: int) -> None:
    lab.ids.add("web")
    kill_task_after(lab, milliseconds / 1000)
    lab.run(state="absent")
    assert lab.processes() == []


def test_a_guest_that_still_boots_is_asked_again_to_release_a_device(
    lab: QemuLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its kernel drives the hotplug controller it does not hear a request."""
    monkeypatch.setattr(hotplug, "RELEASE_SECONDS", 100.0)
    path = lab.root / "disk.raw"
    path.write_bytes(bytes(1 << 20))
    lab.start(wait_for=None, devices=[{"id": "disk", "type": "block", "file": str(path), "driver": "virtio-blk"}])
    assert lab.run(devices=[])["actions"] == ["unplug block disk"]
    lab.run(wait_for={"console": "kata-guest: ready", "timeout": 120})
    lab.shell().eventually("ls /sys/block", r"^(?!.*vda)")


def test_another_hypervisor_takes_over_what_the_old_one_has_open(lab: QemuLab) -> None:
    from tests.support.stand_ins import FIRECRACKER, REAL_FIRECRACKER
    from tests.support.stub_kernel import stub_kernel

    if REAL_FIRECRACKER:
        pytest.skip("the stand-in boots anywhere")
    for name, content in (("disk.raw", bytes(1 << 20)), ("image", bytes(1 << 20)), ("vmlinux", stub_kernel())):
        (lab.root / name).write_bytes(content)
    lab.start(wait_for=None, devices=[{"id": "d", "type": "block", "file": str(lab.root / "disk.raw")}])
    other = {
        "kernel_path": str(lab.root / "vmlinux"),
        "image_path": str(lab.root / "image"),
        "initrd_path": "",
        "accelerator": "",
    }
    wish = {
        **other,
        "hypervisor": "firecracker",
        "hypervisor_path": FIRECRACKER,
        "jailer": "none",
        "kernel_params": [],
        "disruption": "recreate",
    }
    assert lab.check(**wish)["changed"]
    assert lab.run(**wish)["sandbox"]["hypervisor"] == "firecracker"


@pytest.mark.parametrize("what", ["another version", "another type", "no JSON", "a deep one", "its disk is gone"])
def test_what_cannot_be_restored_is_refused_in_check_mode_with_the_same_words(lab: QemuLab, what: str) -> None:
    disk = lab.root / "disk.raw"
    disk.write_bytes(bytes(1 << 20))
    lab.start(wait_for=None, devices=[{"id": "d", "type": "block", "file": str(disk)}])
    lab.run(state="saved")
    path = lab.root / "state/sandboxes/web/saved/vm.json"
    good = path.read_text()
    described = json.loads(good)
    wrong = {
        "another version": json.dumps({**described, "qemu_version": [1, 2, 3]}),
        "another type": json.dumps({**described, "qemu_version": 5}),
        "no JSON": good[:-1],
        "a deep one": "[" * 100_000,
    }
    if what in wrong:
        path.write_text(wrong[what])
    else:
        disk.rename(lab.root / "elsewhere")
    words = []
    for check_mode in (True, False):
        with pytest.raises(HypervisorError) as caught:
            lab.run(check_mode=check_mode, state="started")
        words.append(str(caught.value))
    assert words[0] == words[1]
    path.write_text(good)
    if what not in wrong:
        (lab.root / "elsewhere").rename(disk)
    assert lab.facts()["state"] == "saved"
    assert lab.run(state="started")["actions"] == ["restore", "resume"]
