# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest could do that has broken out of its Firecracker: a process with the jail's user that exchanges the jail's files in a loop.

As a program (`python jail_adversary.py BASE TARGET... `) it waits for jails below BASE and attacks each of them with two processes as soon as its
VMM runs: one is locked into the jail, the other has only its directory open, so that nobody finds it there and it goes on when the VMM is ended.
TARGETs are what its links lead to. `attacked` runs rounds of tasks against it and looks whether anything outside of the jail has changed.
"""

from __future__ import annotations

import contextlib
import glob
import os
import pathlib
import random
import signal
import socket
import stat
import subprocess
import sys
import time
from typing import Any, Iterator

NAMES = (
    "firecracker.pid",
    "vmm.log",
    "metrics.log",
    "api.sock",
    "vsock_vs.sock",
    "disk_data",
    ".new-disk_data",
    "disk_more",
    ".new-disk_more",
    "snapshot",
    "snapshot/memory",
    "snapshot/vmstate",
    "rootfs",
    "vmlinux",
    "template_memory",
    "aside",
    "other",
)
#: Seconds that a task waits for a VMM: with a FIFO for its log it waits for ever.
START_SECONDS = 10
#: Seconds that a process attacks one jail at most.
LONGEST = 60.0


def attack(root: int, targets: list[str], seed: int) -> None:
    """Exchange what is in a directory, for as long as it can be reached."""
    random_ = random.Random(seed)
    kept: list[socket.socket] = []
    end = time.monotonic() + LONGEST
    os.fchdir(root)
    # Without these no task goes on, so most attackers leave them alone.
    names = [name for name in NAMES if name not in ("api.sock", "firecracker.pid") or random_.random() < 0.2]
    time.sleep(random_.choice([0, 0, 0.1, 0.3, 0.6]))
    while time.monotonic() < end:
        name, other, target = random_.choice(names), random_.choice(names), random_.choice(targets)
        action = random_.randrange(12)
        with contextlib.suppress(OSError, ValueError):
            if action < 6:
                with contextlib.suppress(OSError):
                    os.unlink(name)
                with contextlib.suppress(OSError):
                    os.rename(name, f"aside{random_.randrange(20)}")
            if action == 0 or action == 1:
                os.symlink(target, name)
            elif action == 2:
                os.mkfifo(name)
            elif action == 3:
                os.mkdir(name)
            elif action == 4:
                with open(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NONBLOCK, 0o666), "w") as stream:
                    stream.write(random_.choice(["1", str(os.getppid()), "x", "-1", "9" * 12]))
            elif action == 5:
                listener = socket.socket(socket.AF_UNIX)
                kept.append(listener)
                listener.bind(name)
                listener.listen()
            elif action == 6:
                os.link(other, name)
            elif action in (7, 8):
                os.rename(name, other)
            elif action == 9:
                os.symlink(target, f"snapshot/{random_.choice(['memory', 'vmstate'])}")
            elif action == 10:
                os.rename("snapshot", "other")
                os.symlink(target, "snapshot")
            else:
                time.sleep(random_.random() / 50)
        if len(kept) > 50:
            kept.pop(0).close()


def fork_attacker(root: str, owner: os.stat_result, targets: list[str], seed: int, inside: bool) -> int:
    child = os.fork()
    if child:
        return child
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        if inside:
            os.chroot(root)
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
        attack(descriptor, targets, seed)
    finally:
        os._exit(0)


def main(base: str, targets: list[str]) -> None:
    """Attack every jail below a directory that appears, until it is told to end."""
    attacked: dict[int, list[int]] = {}
    over: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_given: over.append(1))
    seed = 0
    while not over:
        for root in glob.glob(f"{base}/*/attacked/root"):
            with contextlib.suppress(OSError):
                found = os.stat(root)
                # From when the VMM has the jail's user; before, nobody has.
                if (
                    found.st_uid
                    and found.st_ino not in attacked
                    and os.path.lexists(f"{root}/{pathlib.Path(root).parts[-3]}.pid")
                ):
                    seed += 2
                    attacked[found.st_ino] = [
                        fork_attacker(root, found, targets, seed + inside, bool(inside)) for inside in (0, 1)
                    ]
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        # An inode's number is used again.
        attacked = {
            inode: children
            for inode, children in attacked.items()
            if any(os.path.exists(f"/proc/{child}") for child in children)
        }
        time.sleep(0.001)
    for child in (child for children in attacked.values() for child in children):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


# --- the other side ------------------------------------------------------------------------------------------------------


def picture(top: pathlib.Path) -> dict[str, Any]:
    """All that can be seen of a tree: types, owners, modes, numbers of names, contents."""
    found = {}
    for path in [top, *sorted(top.rglob("*"))]:
        status = path.lstat()
        content = (
            path.read_bytes()
            if stat.S_ISREG(status.st_mode)
            else os.readlink(path)
            if stat.S_ISLNK(status.st_mode)
            else None
        )
        found[str(path)] = (status.st_mode, status.st_uid, status.st_gid, status.st_nlink, status.st_mtime_ns, content)
    return found


@contextlib.contextmanager
def adversary(base: str, targets: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """The attacker, for as long as this lasts."""
    process = subprocess.Popen([sys.executable, __file__, base, *targets])
    try:
        yield process
        assert process.poll() is None, "the attacker has ended"
    finally:
        process.terminate()
        process.wait()


def attacked(lab: Any, rounds: int, seed: int = 1) -> dict[str, int]:
    """Rounds of random tasks for a sandbox whose VMM is the attacker's; returns how often each task went well or was refused.

    :param lab: a laboratory of jailed Firecrackers
    """
    from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError

    random_ = random.Random(seed)
    canary = lab.root / "canary"
    (canary / "memory").mkdir(parents=True)
    for name in ("file", "vmstate", "memory/memory", "api.sock.txt"):
        (canary / name).write_text("nobody changes this")
        (canary / name).chmod(0o600)
    disks = [lab.file("data"), lab.file("more")]
    innocent = subprocess.Popen(["sleep", "3600"])
    (canary / "pid").write_text(str(innocent.pid))
    lab.start("victim", devices=[{"id": "vs", "type": "vsock", "cid": 7}])
    victim = lab.driver("victim")
    victim_pid, victim_root = victim.pid(), victim.vmm.state.jail.root
    targets = [
        *(str(canary / name) for name in (".", "memory", "file", "pid")),
        "/etc/shadow",
        "/",
        "../..",
        victim_root,
        f"{victim_root}/api.sock",
    ]
    pictures = [picture(canary), os.stat("/etc/shadow"), [os.stat(disk)[:5] for disk in disks]]
    count: dict[str, int] = {}
    block = [{"id": name, "type": "block", "file": disk} for name, disk in zip(("data", "more"), disks)]
    tasks: list[dict[str, Any]] = [
        {"state": "saved"},
        {"state": "started"},
        {"state": "paused"},
        {"state": "stopped", "stop_timeout": 0, "disruption": "restart"},
        {"devices": block},
        {"devices": block[:1]},
        {"devices": []},
        {"state": "restarted", "stop_timeout": 0},
    ]

    def run(name: str, **options: Any) -> None:
        try:
            lab.run("attacked", start_timeout=START_SECONDS, **options)
            count[f"{name} done"] = count.get(f"{name} done", 0) + 1
        except HypervisorError:
            count[f"{name} refused"] = count.get(f"{name} refused", 0) + 1

    try:
        with adversary(str(lab.root / "state/jails"), targets):
            for _round in range(rounds):
                run(
                    "start",
                    state="started",
                    **{
                        **lab.options,
                        "enable_pci": True,
                        "vmm_metrics": True,
                        "devices": block[:1],
                    },
                )
                for task in random_.sample(tasks, 3):
                    run(str(task.get("state", "devices")), **task)
                lab.facts("attacked")
                made = lab.run("attacked", state="absent", stop_timeout=0)
                assert made["sandbox"]["state"] == "absent"
                assert not (lab.root / "state/jails" / pathlib.Path(victim_root).parts[-3] / "attacked").exists()
                assert picture(canary) == pictures[0] and [os.stat(disk)[:5] for disk in disks] == pictures[2]
        assert os.stat("/etc/shadow")[:7] == pictures[1][:7]
        assert innocent.poll() is None and victim.pid() == victim_pid and lab.facts("victim")["state"] == "started"
    finally:
        innocent.kill()
        innocent.wait()
    return count


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
