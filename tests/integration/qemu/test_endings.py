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
from tests.support.qemu_lab import QemuLab
from tests.support.waiting import wait_until


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
    pid = lab.start()["sandbox"]["pid"]
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
