# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accidents on real QEMU: whatever was killed, the next task reaches the goal and nothing is left over."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from typing import Any

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

#: Enough to find that a VMM, which a test has stopped, does not answer.
HANGING_SECONDS = 5.0

ROOT = pathlib.Path(__file__).resolve().parents[3]


def kill_vmm(host: Any) -> int:
    pid: int = host.facts()["pid"]
    os.kill(pid, signal.SIGKILL)
    for _try in range(500):
        if identify(pid) is None:
            return pid
        time.sleep(0.01)
    raise AssertionError(f"process {pid} does not end")


def started(host: Any, **options: Any) -> dict[str, Any]:
    """A sandbox that runs; nobody waits for its guest."""
    result: dict[str, Any] = host.start(wait_for="running", **options)
    return result


def test_a_killed_vmm_is_seen_and_started_again(host: Any) -> None:
    started(host)
    pid = kill_vmm(host)
    assert host.run_path("qmp.sock").exists(), "SIGKILL leaves the sockets behind"
    assert host.facts()["state"] == "crashed"
    result = host.converge(state="started")
    assert result["changed"] and result["sandbox"]["pid"] != pid
    assert host.converge(state="started")["changed"] is False


@pytest.mark.parametrize("state", ["stopped", "paused", "absent"])
def test_a_killed_vmm_converges_to_any_state(host: Any, state: str) -> None:
    started(host)
    kill_vmm(host)
    host.converge(state=state)
    assert host.converge(state=state)["changed"] is False


def test_a_stale_socket_and_pid_file_do_not_matter(host: Any) -> None:
    started(host)
    host.converge(state="stopped", stop_timeout=0)
    for name in ("qmp.sock", "monitor.sock", "console.sock"):
        with socket.socket(socket.AF_UNIX) as stale:
            host.run_path("").mkdir(exist_ok=True)
            stale.bind(str(host.run_path(name)))
    host.run_path("pid").write_text(f"{os.getpid()}\n")
    assert host.converge(state="started")["sandbox"]["state"] == "started"


def test_a_reused_pid_is_not_taken_for_the_vmm_nor_killed(host: Any) -> None:
    started(host)
    kill_vmm(host)
    other = subprocess.Popen(["sleep", "600"])
    try:
        record = host.root / "state" / "sandboxes" / "web" / "record.json"
        text = json.loads(record.read_text())
        text["driver"]["process"]["pid"] = other.pid
        record.write_text(json.dumps(text))
        host.run_path("pid").write_text(f"{other.pid}\n")
        assert host.facts()["state"] == "crashed"
        host.converge(state="absent")
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_lost_run_directory_is_a_reboot(host: Any, tool: Any) -> None:
    started(host)
    kill_vmm(host)
    tool("rm", "-r", str(host.run_path("")))
    assert host.converge(state="started")["sandbox"]["state"] == "started"


def test_a_vmm_that_hangs_is_reported_and_replaced(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    started(host)
    monkeypatch.setattr(vmm, "QMP_SECONDS", HANGING_SECONDS)
    pid = host.converge()["sandbox"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        assert host.facts()["state"] == "unresponsive"
        with pytest.raises(DisruptionError, match="its VMM does not answer and would have to be ended"):
            host.converge(state="started")
        assert host.converge(state="started", disruption="restart")["sandbox"]["pid"] != pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_a_client_that_holds_the_control_monitor_does_not_blind_us(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    started(host)
    monkeypatch.setattr(vmm, "QMP_SECONDS", HANGING_SECONDS)
    with QmpClient(str(host.run_path("qmp.sock"))):
        assert host.converge(state="started")["changed"] is False
        with pytest.raises(DeadlineExceeded, match="greeting"):
            host.converge(state="paused")
    assert host.converge(state="paused")["changed"] is True


def test_two_tasks_at_once_do_not_harm_each_other(host: Any) -> None:
    program = (
        "import sys; sys.path[:0] = sys.argv[1:3]; import checkout\n"
        "from ansible_collections.kata.hypervisor.plugins.module_utils.arguments import parse_spec\n"
        "from ansible_collections.kata.hypervisor.plugins.module_utils.sandbox import converge\n"
        "import json; print(json.dumps(converge(parse_spec(json.loads(sys.argv[3])))['actions']))\n"
    )
    wish = {
        "id": "web",
        "state": "started",
        "kernel_path": str(host.assets.kernel),
        "initrd_path": str(host.assets.initrd),
        "memory_mb": 128,
        "accelerator": "tcg",
        "state_dir": str(host.root / "state"),
        "run_dir": str(host.root / "run"),
    }
    host.ids.add("web")
    command = [sys.executable, "-c", program, str(ROOT / "tests"), str(ROOT), json.dumps(wish)]
    tasks = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _number in range(3)]
    actions = sorted(json.loads(task.communicate(timeout=60)[0]) for task in tasks)
    assert [bool(done) for done in actions] == [False, False, True]
    assert len([process for process in host.processes() if "qemu" in process]) == 1


def kill_task_after(host: Any, seconds: float, **wish: Any) -> None:
    """Run a task in a process of its own and kill it in the middle."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            host.start(wait_for="running", **wish)
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.parametrize("milliseconds", [5, 20, 35, 50, 65, 80, 95, 110, 140])
def test_a_task_killed_while_it_starts_a_vm_leaves_nothing_that_the_next_one_cannot_mend(
    host: Any, milliseconds: int
) -> None:
    host.ids.add("web")
    kill_task_after(host, milliseconds / 1000)
    assert started(host)["sandbox"]["state"] == "started"
    assert len([process for process in host.processes() if "qemu" in process]) == 1
    assert host.converge(state="started")["changed"] is False


@pytest.mark.parametrize("milliseconds", [10, 60, 120])
def test_a_task_killed_while_it_starts_a_vm_can_be_followed_by_its_removal(host: Any, milliseconds: int) -> None:
    host.ids.add("web")
    kill_task_after(host, milliseconds / 1000)
    host.converge(state="absent")
    assert host.processes() == []


def test_a_guest_that_still_boots_is_asked_again_to_release_a_device(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its kernel drives the hotplug controller it does not hear a request."""
    monkeypatch.setattr(hotplug, "RELEASE_SECONDS", 100.0)
    path = host.root / "disk.raw"
    path.write_bytes(bytes(1 << 20))
    host.start(wait_for=None, devices=[{"id": "disk", "type": "block", "file": str(path), "driver": "virtio-blk"}])
    assert host.converge(devices=[])["actions"] == ["unplug block disk"]
    host.converge(wait_for={"console": "kata-guest: ready", "timeout": 120})
    host.shell().eventually("ls /sys/block", r"^(?!.*vda)")


def test_another_hypervisor_takes_over_what_the_old_one_has_open(host: Any) -> None:
    from vmm_lab import FIRECRACKER, REAL_FIRECRACKER, stub_kernel

    if REAL_FIRECRACKER:
        pytest.skip("the stand-in boots anywhere")
    for name, content in (("disk.raw", bytes(1 << 20)), ("image", bytes(1 << 20)), ("vmlinux", stub_kernel())):
        (host.root / name).write_bytes(content)
    host.start(wait_for=None, devices=[{"id": "d", "type": "block", "file": str(host.root / "disk.raw")}])
    other = {
        "kernel_path": str(host.root / "vmlinux"),
        "image_path": str(host.root / "image"),
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
    assert host.converge(True, **wish)["changed"]
    assert host.converge(**wish)["sandbox"]["hypervisor"] == "firecracker"


@pytest.mark.parametrize("what", ["another version", "another type", "no JSON", "a deep one", "its disk is gone"])
def test_what_cannot_be_restored_is_refused_in_check_mode_with_the_same_words(host: Any, what: str) -> None:
    disk = host.root / "disk.raw"
    disk.write_bytes(bytes(1 << 20))
    host.start(wait_for=None, devices=[{"id": "d", "type": "block", "file": str(disk)}])
    host.converge(state="saved")
    path = host.root / "state/sandboxes/web/saved/vm.json"
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
        disk.rename(host.root / "elsewhere")
    words = []
    for check_mode in (True, False):
        with pytest.raises(HypervisorError) as caught:
            host.converge(check_mode, state="started")
        words.append(str(caught.value))
    assert words[0] == words[1]
    path.write_text(good)
    if what not in wrong:
        (host.root / "elsewhere").rename(disk)
    assert host.facts()["state"] == "saved"
    assert host.converge(state="started")["actions"] == ["restore", "resume"]
