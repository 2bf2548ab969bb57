# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out whether a disk is in use: by the host (CVE-2026-24054), by another VM, or by another device of the same VM.

Two guests that write to one file destroy its content, and so does one that writes to a file that another reads. Not every VMM locks its files, so
the kernel is asked which processes have a file open. This finds a file by any of its names, links, hard links or bind mounts.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import re
import signal
import stat
import time
from typing import Collection, Iterator, NamedTuple

from ..errors import ConfigError, StateError
from .proc import read_text

#: Names of VMMs' programs, and prefixes of such names.
VMMS = ("firecracker", "qemu-system-", "cloud-hypervisor", "acrn-dm", "jailer")
#: Seconds to wait for another task that is about to use the same file.
CLAIM_SECONDS = 15.0
F_SETSIG = getattr(fcntl, "F_SETSIG", 10)


class Use(NamedTuple):
    """What a VM does with a file.

    :param path: of the file or block device
    :param writes: the guest can write to it
    :param name: its name in errors: a device's id, or an option
    """

    path: str
    writes: bool
    name: str


class Holder(NamedTuple):
    """A process that has a file open."""

    pid: int
    writes: bool
    words: str


def check_distinct(uses: Collection[Use], option: str = "devices") -> None:
    """Refuse to attach a file twice to a VM if the guest can write to it.

    :raises ConfigError: names the file and both uses
    """
    seen: dict[tuple[int, ...], Use] = {}
    for use in uses:
        for key in file_keys(use.path):
            other = seen.setdefault(key, use)
            if other is not use and (other.writes or use.writes):
                raise ConfigError(
                    f"{use.name} and {other.name} must not be the same file, since a guest that writes to one of them destroys the other",
                    option=option,
                    wanted=use.path,
                    fix="Give each a file of its own, or attach both read_only.",
                )


def check_free(use: Use, own: Collection[int] = (), option: str = "devices", opened: int = -1) -> None:
    """Refuse a file that another process has open for writing, or that another VM reads and this one would write to.

    This changes nothing, so check mode calls it too. `claimed` keeps two tasks from passing at the same time.

    :param own: pids of this VM, which may use it
    :param opened: a descriptor of the file, if this process has one already
    :raises StateError: the file is in use; the error names it and the process
    """
    if _surely_free(use, opened):
        return
    for holder in holders(use.path):
        if holder.pid not in own and (use.writes or holder.writes):
            raise StateError(
                f"{use.path} is in use: {holder.words} {'writes to' if holder.writes else 'reads'} it",
                option=option,
                wanted=use.path,
                fix="Stop that process or detach the disk from it first, give this VM a file of its own, or attach it read_only in both.",
            )


@contextlib.contextmanager
def claimed(uses: Collection[Use], own: Collection[int] = (), option: str = "devices") -> Iterator[None]:
    """Check that files are free, and keep other tasks from using them until the VMM has them open (flock(2) on the files themselves).

    :raises StateError: another process uses one, or another task holds one for too long
    """
    opened: dict[Use, int] = {}
    with contextlib.ExitStack() as stack:
        deadline = time.monotonic() + CLAIM_SECONDS
        # Sorted, so that two tasks with the same files do not wait for each other.
        for use in sorted(uses, key=lambda one: os.path.realpath(one.path)):
            try:
                descriptor = os.open(use.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                continue  # The code that uses the file reports why it cannot be opened.
            stack.callback(os.close, descriptor)
            opened[use] = descriptor
            while True:
                try:
                    fcntl.flock(descriptor, (fcntl.LOCK_EX if use.writes else fcntl.LOCK_SH) | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StateError(
                            "another task is about to use this file",
                            option=option,
                            wanted=use.path,
                            fix="Run the task again.",
                        ) from None
                    time.sleep(0.02)
                except OSError:
                    break  # This file system has no locks.
        for use in uses:
            check_free(use, own, option, opened.get(use, -1))
        yield


def holders(path: str) -> list[Holder]:
    """Other processes that use a file: all that can write to it through a descriptor, and VMMs that can read it."""
    keys = file_keys(path)
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()) if keys else ():
        if pid == os.getpid():
            continue
        with contextlib.suppress(OSError):
            modes = {
                _writes(pid, number)
                for number in os.listdir(f"/proc/{pid}/fd")
                if _is(f"/proc/{pid}/fd/{number}", keys)
            }
            if True in modes or (modes and _is_vmm(_words(pid))):
                found.append(Holder(pid, True in modes, described(pid)))
    return found


def file_keys(path: str) -> set[tuple[int, ...]]:
    """The identity of a file, whatever its name: the numbers of its device and inode. A block device includes its partitions, and a partition
    its disk. A loop device includes the file behind it.
    """
    try:
        status = os.stat(path)
    except OSError:
        return set()
    if stat.S_ISBLK(status.st_mode):
        family: set[tuple[int, ...]] = {(status.st_rdev,)}
        for name in _family(f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"):
            backing = read_text(f"/sys/class/block/{name}/loop/backing_file")
            if backing:
                family |= file_keys(backing)
            major, _colon, minor = read_text(f"/sys/class/block/{name}/dev").partition(":")
            if major.isdigit() and minor.isdigit():
                family.add((os.makedev(int(major), int(minor)),))
        return family
    return {(status.st_dev, status.st_ino)}


def _is(path: str, keys: set[tuple[int, ...]]) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False
    return ((status.st_rdev,) if stat.S_ISBLK(status.st_mode) else (status.st_dev, status.st_ino)) in keys


def _writes(pid: int, number: str) -> bool:
    """Whether a descriptor of a process is open for writing (proc(5), fdinfo)."""
    found = re.search(r"^flags:\s*([0-7]+)$", read_text(f"/proc/{pid}/fdinfo/{number}"), re.MULTILINE)
    flags = int(found[1], 8) if found else 0
    return flags & os.O_ACCMODE != os.O_RDONLY and not flags & getattr(os, "O_PATH", 0)


def _words(pid: int) -> list[str]:
    return read_text(f"/proc/{pid}/cmdline").split("\0")


def _is_vmm(words: list[str]) -> bool:
    return any(os.path.basename(word).startswith(VMMS) for word in words[:2])


def described(pid: int) -> str:
    """A text about a process: its program, its pid, and its sandbox if its command line names one."""
    words = _words(pid)
    program = (
        os.path.basename(next((word for word in words[:2] if os.path.basename(word).startswith(VMMS)), words[0]))
        or "a process"
    )
    sandbox = words[words.index("--id") + 1] if "--id" in words[:-1] else ""
    named = re.search(r"/([^/\0]+)/api\.sock|\0guest=([A-Za-z0-9._-]+)", "\0".join(words))
    sandbox = (named[1] or named[2]) if named else sandbox
    return f"sandbox {sandbox} ({program}, pid {pid})" if sandbox and _is_vmm(words) else f"{program} (pid {pid})"


def _surely_free(use: Use, opened: int) -> bool:
    """Whether a lease shows that no other process has a regular file open, or has it open for writing (fcntl(2), F_SETLEASE).

    False if the lease is refused. Then all processes must be searched, which takes longer the more there are.
    """
    descriptor = opened
    try:
        if descriptor < 0:
            descriptor = os.open(use.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return False
        # If another process opens the file now, the kernel sends us a signal. This one is ignored by default.
        fcntl.fcntl(descriptor, F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK if use.writes else fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return True
    except OSError:
        return False
    finally:
        if descriptor >= 0 and descriptor != opened:
            os.close(descriptor)


def user_against(path: str, read_only: bool) -> str:
    """The use of a disk by the host that keeps a guest from getting it; empty for none. A file that the guest only reads is allowed."""
    with contextlib.suppress(OSError):
        if read_only and not stat.S_ISBLK(os.stat(path).st_mode):
            return ""
    return in_use_by(path)


def in_use_by(path: str) -> str:
    """The host's use of a block device, or of a file through a loop device; empty for none.

    A use is a mount, swap space, or a device that is built on it (device mapper, RAID, partitions).
    """
    try:
        status = os.stat(path)
    except OSError:
        return ""
    if stat.S_ISREG(status.st_mode):
        return _loop_device_of(path)
    if not stat.S_ISBLK(status.st_mode):
        return ""
    mounted = _mounted()
    for name in _family(f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"):
        number = read_text(f"/sys/class/block/{name}/dev")
        if number in mounted:
            return f"{name} is mounted on {mounted[number]}"
        if f"/dev/{name}" in _swaps():
            return f"{name} is swap space"
        holders = (
            os.listdir(f"/sys/class/block/{name}/holders") if os.path.isdir(f"/sys/class/block/{name}/holders") else []
        )
        if holders:
            return f"{name} is part of {', '.join(sorted(holders))}"
    return ""


def _family(number: str) -> Iterator[str]:
    """The device, its partitions, and the disk that it is a partition of."""
    directory = os.path.realpath(f"/sys/dev/block/{number}")
    name = os.path.basename(directory)
    yield name
    if os.path.exists(os.path.join(directory, "partition")):
        yield os.path.basename(os.path.dirname(directory))
    for partition in glob.glob(os.path.join(glob.escape(directory), "*", "partition")):
        yield os.path.basename(os.path.dirname(partition))


def _mounted() -> dict[str, str]:
    """Mount point by device number (proc(5), mountinfo)."""
    return parse_mounted(read_text("/proc/self/mountinfo"))


def parse_mounted(text: str) -> dict[str, str]:
    """Mount point by device number, from the content of mountinfo. Only blanks separate the fields of a line."""
    lines = [line.split(" ") for line in text.split("\n")]
    return {fields[2]: fields[4] for fields in lines if len(fields) > 4}


def _swaps() -> list[str]:
    return [line.split()[0] for line in read_text("/proc/swaps").splitlines()[1:] if line.split()]


def _loop_device_of(path: str) -> str:
    wanted = os.path.realpath(path)
    for backing in glob.glob("/sys/block/loop*/loop/backing_file"):
        if read_text(backing) == wanted:
            return f"it is the file behind {backing.split('/')[3]}"
    return ""
