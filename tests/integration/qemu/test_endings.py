# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM that ends by itself: what the guest wanted is told from a crash."""

from __future__ import annotations

import os
import pathlib
import signal
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import endings
from tests.support.guest_shell import GuestShell
from tests.support.qemu_lab import QemuLab
from tests.support.waiting import PATIENCE, wait_until


def wait_gone(pid: int) -> None:
    """Wait until a process has ended."""

    def gone() -> bool:
        try:
            return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    wait_until(gone, f"the end of process {pid}")


@pytest.mark.parametrize(
    ("what", "state", "cause", "words"),
    [
        ("poweroff -f", "stopped", "guest-shutdown", "the guest has shut itself down"),
        ("reboot -f", "stopped", "guest-reset", "the guest has rebooted itself"),
        ("echo c > /proc/sysrq-trigger", "crashed", "guest-panic", "the kernel of the guest has panicked"),
        (signal.SIGTERM, "crashed", "host-signal", "is gone"),
        (signal.SIGKILL, "crashed", "", "is gone"),
    ],
)
def test_how_it_ended_is_told(lab: QemuLab, what: Any, state: str, cause: str, words: str) -> None:
    pid = lab.start(on_reboot="stop")["sandbox"]["pid"]
    if isinstance(what, str):
        guest = lab.shell()
        guest.run(f"(sleep 0.2; {what}) & true")
        wait_gone(pid)
        guest.close()
    else:
        os.kill(pid, what)
        wait_gone(pid)
    facts = lab.facts()
    assert facts["state"] == state and words in facts["reason"] and facts.get("exit_reason", "") == cause
    predicted = lab.check(state="started")
    done = lab.run(state="started")
    assert predicted["actions"] == done["actions"] and done["sandbox"]["state"] == "started"
    assert "exit_reason" not in done["sandbox"]
    lab.run(state="stopped", stop_timeout=0)
    assert lab.facts()["state"] == "stopped" and "exit_reason" not in lab.facts()


def end(guest: GuestShell, command: str) -> None:
    """Run a command that ends or restarts the guest. A console whose reader does not read would hold the guest up before it has printed its last words."""
    guest.run(f"(sleep 0.2; {command}) & true")
    guest.close()


def test_a_guest_that_restarts_itself_goes_on(lab: QemuLab) -> None:
    agent = {"initrd_path": str(lab.assets.agent_initrd), "wait_for": {"agent": True, "timeout": PATIENCE}}
    pid = lab.start(**agent, vcpus=3, max_vcpus=4, max_memory_mb=1024)["sandbox"]["pid"]
    disk = {"type": "block", "id": "data", "file": lab.file("data.raw", content=b"data".ljust(1 << 20))}
    wanted = {"vcpus": 2, "memory_mb": 320, "devices": [disk]}
    assert lab.run(**wanted)["resized"] == {"vcpus": "guest-offline", "memory_mb": "virtio-mem"}
    guest = lab.shell()
    assert guest.eventually("nproc; head -c 4 /dev/[sv]da", "data") == "2\ndata"
    guest.run("touch /tmp/before")
    printed = lab.run_path("console.log").stat().st_size
    end(guest, "reboot -f")
    wait_until(lambda: b"kata-guest: ready" in lab.run_path("console.log").read_bytes()[printed:], "the second start")
    lab.run(wait_for={"agent": True, "timeout": PATIENCE})
    guest = lab.shell()
    guest.run("test ! -e /tmp/before")
    assert guest.eventually("nproc; head -c 4 /dev/[sv]da", "data") == "3\ndata"
    facts = lab.facts()
    assert (facts["state"], facts["pid"], facts["devices"][0]["plugged"]) == ("started", pid, True)
    assert facts["vcpus"] == 3, "it uses all of its vCPUs again"
    assert lab.run(**wanted)["sandbox"]["vcpus"] == 2
    assert lab.facts()["memory_mb"] == 320 and guest.eventually("nproc", "^2$")
    assert lab.run(**wanted)["changed"] is False


@pytest.mark.parametrize("machine", ["q35", "microvm"])
def test_a_panic_does_not_start_the_guest_again_and_again(lab: QemuLab, machine: str) -> None:
    pid = lab.start(machine_type=machine, memory_hotplug="none")["sandbox"]["pid"]
    end(lab.shell(), "reboot -f")
    wait_until(lambda: lab.run_path("console.log").read_bytes().count(b"kata-guest: ready") == 2, "the second start")
    assert lab.facts()["pid"] == pid
    end(lab.shell(), "echo c > /proc/sysrq-trigger")
    wait_until(lambda: lab.facts()["state"] != "started", "the end of the guest")
    facts = lab.facts()
    assert facts["state"] == ("crashed" if machine == "q35" else "failed")
    assert facts["reason"] == "the kernel of the guest has panicked"
    assert lab.run(state="started")["sandbox"]["state"] == "started" and lab.facts()["pid"] != pid


def test_a_restart_is_read_from_the_events(tmp_path: pathlib.Path) -> None:
    event = b'{"timestamp": {"seconds": 100, "microseconds": 5}, "event": "RESET", "data": {"guest": true, "reason": "guest-reset"}}\n'
    assert not endings.restarted(str(tmp_path / "gone"), 0)
    for content, since, expected in (
        (b"", 0, False),
        (event, 99_000_000, True),
        (event, 100_000_005, False),
        (event + b'{"event": "OTHER", "what": "RESET"}\n' + b"RESET" * 1000, 99_000_000, True),
        (event.replace(b"100", b'"x"'), 0, False),
        (event.replace(b"100", b"1e400"), 0, False),
        (event.replace(b'"RESET"', b"[]"), 0, False),
    ):
        (tmp_path / endings.EVENTS_FILE).write_bytes(content)
        assert endings.restarted(str(tmp_path), since) is expected


def test_a_panic_is_read_from_the_last_line_of_the_console(tmp_path: pathlib.Path) -> None:
    end = b"[    2.1] ---[ end Kernel panic - not syncing: sysrq triggered crash ]---\r\n"
    for printed, expected in (
        (b"", False),
        (end, True),
        (b"x" * 100_000 + b"\n" + end + b"\r\n", True),
        (end + b"kata-guest: ready\n", False),
    ):
        (tmp_path / "console.log").write_bytes(printed)
        assert endings.panicked(str(tmp_path), "console.log") is expected


def test_whatever_is_in_the_file_only_a_reason_comes_out(tmp_path: pathlib.Path) -> None:
    event = b'{"timestamp": {}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}\n'
    endings.prepare(str(tmp_path))
    assert endings.ending(str(tmp_path), "console.log") == endings.Ending()
    for content, cause in (
        (event, "guest-shutdown"),
        (b"\0" * 100000 + b"\n" + event + b"garbage\n", "guest-shutdown"),
        (event.replace(b'"guest-shutdown"', b"[]"), ""),
        (event.replace(b"guest-shutdown", b"\\u001b[2J"), ""),
        (event.replace(b'"data": {', b'"data": [{').replace(b"}}", b"}]}"), ""),
        (b"SHUTDOWN" * 10000, ""),
        (b"[" * 5000 + b"SHUTDOWN\n", ""),
        (b'{"event": "OTHER", "data": {"reason": "SHUTDOWN"}}\n', ""),
    ):
        (tmp_path / endings.EVENTS_FILE).write_bytes(content)
        assert endings.ending(str(tmp_path), "console.log").cause == cause
    (tmp_path / endings.EVENTS_FILE).write_bytes(event.replace(b"shutdown", b"reset"))
    assert endings.ending(str(tmp_path), "console.log").by_guest
    (tmp_path / "console.log").write_bytes(b"---[ end Kernel panic - not syncing: sysrq ]---\n")
    assert endings.ending(str(tmp_path), "console.log") == endings.Ending(
        "guest-panic", False, "the kernel of the guest has panicked"
    )
    for make in (os.mkfifo, lambda path: path.symlink_to("/etc/passwd"), lambda path: path.mkdir()):
        (tmp_path / endings.EVENTS_FILE).unlink()
        make(tmp_path / endings.EVENTS_FILE)
        assert endings.ending(str(tmp_path), "console.log").cause == ""
        if (tmp_path / endings.EVENTS_FILE).is_dir():
            break
    assert endings.ending(str(tmp_path / "gone"), "console.log") == endings.Ending()
