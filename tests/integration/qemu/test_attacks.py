# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VMM that was taken over: a process with its uid does what it can to the run directory and to others while tasks work on the sandbox.

Nothing outside of what is its user's changes, no task hangs, and the process ends with its sandbox. KATA_ATTACK_ROUNDS says how often.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import random
import signal
import stat
import subprocess
from typing import Any, Callable, Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError
from tests.support.qemu_lab import QemuLab

ROUNDS = int(os.environ.get("KATA_ATTACK_ROUNDS", "6"))
#: Files of a run directory that are the VMM's user's.
ITS_OWN = ("console.log", "pid", "events.in", "events.out")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a VMM as another user")


def attempts(run: str, victims: list[str], pids: list[int], rng: random.Random) -> list[Callable[[], object]]:
    """What must be denied to it."""
    names = [*ITS_OWN, "qmp.sock", "monitor.sock", "vmm.log", "console.log.old", "fs-x.sock", "new"]
    place, victim, pid = os.path.join(run, rng.choice(names)), rng.choice(victims), rng.choice(pids)
    return [
        lambda: os.unlink(place),
        lambda: os.rename(place, place + ".x"),
        lambda: os.symlink(victim, place),
        lambda: os.link(victim, os.path.join(run, "linked")),
        lambda: os.mkfifo(os.path.join(run, "fifo")),
        lambda: os.mkdir(os.path.join(run, "made")),
        lambda: os.rename(run, run + ".x"),
        lambda: os.chmod(run, 0o777),
        lambda: os.listdir(run),
        lambda: os.open(victim, os.O_RDONLY),
        lambda: os.open(victim, os.O_WRONLY),
        lambda: os.chown(victim, os.getuid(), -1),
        lambda: os.kill(pid, signal.SIGKILL),
        lambda: os.open(f"/proc/{pid}/mem", os.O_RDWR),
        lambda: os.open(os.path.join(run, "vmm.log"), os.O_WRONLY),
        lambda: _connect(os.path.join(run, rng.choice(["qmp.sock", "monitor.sock", "agent.sock"]))),
        lambda: os.setuid(0),
    ]


def _connect(path: str) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def harm(run: str, pids: list[int], rng: random.Random) -> None:
    """What it may do: anything to the content and the modes of its own files."""
    path = os.path.join(run, rng.choice(ITS_OWN))
    with contextlib.suppress(OSError):
        os.chmod(path, rng.choice((0, 0o600, 0o777, 0o4755)))
        os.chmod(path, 0o600)
        descriptor = os.open(path, os.O_RDWR)
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, rng.choice((0, 1 << 40)))
        content = (
            b"%d\n" % rng.choice(pids),
            b'{"event": "SHUTDOWN", "data": {"reason": "guest-shutdown"}}\n',
            os.urandom(64),
            b"\x1b[2J" * 10,
        )
        os.write(descriptor, rng.choice(content))
        os.close(descriptor)


@contextlib.contextmanager
def attacker(uid: int, run: str, victims: list[str], pids: list[int], seed: int) -> Iterator[int]:
    """A process of that user that attacks until it is ended; it ends by itself, with 3, when something succeeds that must not."""
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        rng = random.Random(seed)
        while True:
            for attempt in attempts(run, victims, pids, rng):
                try:
                    attempt()
                except OSError:
                    continue
                os._exit(3)
            harm(run, pids, rng)
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)


def snapshot(*roots: pathlib.Path) -> dict[str, tuple[Any, ...]]:
    """All that there is below directories: type, mode, owner, size and content."""
    found = {}
    for root in roots:
        for path in [root, *root.rglob("*")]:
            status = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            found[str(path)] = (status.st_mode, status.st_uid, status.st_gid, status.st_nlink, content)
    return found


def test_a_vmm_that_was_taken_over_changes_nothing_outside(lab: QemuLab, tmp_path: pathlib.Path) -> None:
    lab.root.chmod(0o711)
    outside = lab.root / "outside"
    outside.mkdir(mode=0o755)
    for name in ("secret", "disk.raw"):
        (outside / name).write_bytes(b"of the host".ljust(1 << 20, b"\0"))
        (outside / name).chmod(0o600)
    innocent = subprocess.Popen(["/bin/sleep", "100000"])
    other = lab.start("other", wait_for=None)["sandbox"]
    victims = [
        str(outside / "secret"),
        str(outside / "disk.raw"),
        str(lab.run_path("vmm.log", "other")),
        str(lab.run_path("console.log", "other")),
    ]
    boot = {
        "kernel_path": str(lab.assets.kernel),
        "initrd_path": str(lab.assets.initrd),
        "accelerator": "tcg",
        "memory_mb": 192,
        "vcpus": 1,
    }
    disk = {"id": "data", "type": "block", "file": str(outside / "disk.raw"), "driver": "virtio-blk", "read_only": True}
    port = {"id": "port0", "type": "serial", "name": "org.example.port"}
    before = snapshot(outside, lab.root / "state" / "sandboxes" / "other")
    pids = [innocent.pid, other["pid"], os.getpid()]
    ending = 0
    try:
        for number in range(ROUNDS):
            uid = lab.run(state="started", **boot)["sandbox"]["vmm_uid"]
            for wish in (
                {"devices": [port]},
                {"devices": [port, disk]},
                {"state": "paused"},
                {"state": "saved"},
                {"state": "started"},
                {"state": "stopped", "stop_timeout": 0},
                {"state": "started"},
                {"state": "absent", "stop_timeout": 0},
            ):
                uid = lab.facts().get("vmm_uid", uid)
                with attacker(uid, str(lab.run_path("")), victims, pids, number) as child:
                    try:
                        lab.run(**wish)
                    except HypervisorError as error:
                        # It may end its own VM, and lose its own files; a task says so.
                        assert "Traceback" not in str(error) and wish.get("state") != "absent"
                    ended, code = os.waitpid(child, os.WNOHANG)
                    assert not ended or os.waitstatus_to_exitcode(code) == -signal.SIGKILL, (
                        "something succeeded that must be denied"
                    )
                    ending += bool(ended)
            assert not lab.run_path("").exists()
            assert snapshot(outside, lab.root / "state" / "sandboxes" / "other") == before
            assert innocent.poll() is None and pathlib.Path(f"/proc/{other['pid']}").exists()
    finally:
        innocent.kill()
        innocent.wait()
    assert lab.facts("other")["state"] == "started"
    assert ending >= ROUNDS, "a VMM's processes end with it"
