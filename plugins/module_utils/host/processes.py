# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Identify, signal and end processes of the host, such as VMMs.

Pids are reused, so a process is identified by its pid, its start time, its executable and the host's boot. To signal a process, a descriptor of it
is opened (pidfd_open(2)), and then its identity is checked. So the signal goes to the process that was checked.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import functools
import os
import select
import signal
import struct
import time
from typing import Any, Iterator

from ..untrusted.files import Directory, UntrustedFile

BOOT_ID = "/proc/sys/kernel/random/boot_id"


@dataclasses.dataclass(frozen=True)
class ProcessIdentity:
    """The identity of a process, which a later process with the same pid does not have.

    :param start_time: clock ticks since boot (proc(5), stat field 22)
    :param executable: path of the program it runs
    :param boot: id of the host's boot (random(4), boot_id); empty in records of earlier versions. It is not sufficient alone, since a container
        that is started again keeps it
    """

    pid: int
    start_time: int
    executable: str
    boot: str = dataclasses.field(default="", compare=False)

    def as_dict(self) -> dict[str, Any]:
        """The identity as a JSON-able value."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, value: Any) -> ProcessIdentity | None:
        """The identity from its JSON value; None if the value is not an identity."""
        try:
            return cls(
                int(value["pid"]), int(value["start_time"]), str(value["executable"]), str(value.get("boot", ""))
            )
        except (ArithmeticError, AttributeError, TypeError, KeyError, ValueError):
            return None

    def is_alive(self) -> bool:
        """Whether exactly this process still has something on the host. A zombie does not count, nor does another process with its pid.

        A process that ends gives back its memory first, which takes seconds for a large guest, and then its files, sockets and taps. Its
        program cannot be read any more in between.
        """
        if self.pid <= 0 or _start_time(self.pid) != self.start_time:
            return False
        boot = boot_id()
        try:
            same = _executable(self.pid) == self.executable
        except FileNotFoundError:
            same = _start_time(self.pid) == self.start_time
        except OSError:
            return False
        return same and (not self.boot or not boot or boot == self.boot)


@functools.cache
def boot_id() -> str:
    """The id of the host's current boot; empty if the kernel does not report it."""
    try:
        with open(BOOT_ID, encoding="ascii") as stream:
            return stream.read(64).strip()
    except (OSError, ValueError):
        return ""


def _start_time(pid: int) -> int | None:
    """Start time of a process (proc(5), stat), None when there is none, or only a zombie all of whose threads have ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            fields = stream.read().rpartition(b")")[2].split()
        state, threads, start_time = fields[0], int(fields[17]), int(fields[19])
    except (OSError, ValueError, IndexError):
        return None
    # The first thread may end before the others, which still have the process's files.
    return None if state == b"X" or (state == b"Z" and threads <= 1) else start_time


def _executable(pid: int) -> str:
    """Path of the program that a process runs.

    :raises FileNotFoundError: there is no such process, or it has given back its memory
    """
    path = os.readlink(f"/proc/{pid}/exe")
    # The kernel adds this mark if the program was replaced on disk. The process is still the same.
    return path[: -len(" (deleted)")] if path.endswith(" (deleted)") else path


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of a live process, None for pid <= 0, a zombie, a process that is ending, or no process at all."""
    start_time = _start_time(pid) if pid > 0 else None
    if start_time is None:
        return None
    try:
        return ProcessIdentity(pid, start_time, _executable(pid), boot_id())
    except OSError:
        return None


def lock_owner(directory: Directory, name: str) -> int:
    """The pid that holds a POSIX lock on a file, 0 for none. QEMU locks its pid file this way.

    This proves nothing, since any process that can open the file can lock it. The caller must check the identity of the process.
    """
    layout = "hhqqi4x"
    try:
        descriptor = directory.open_file(name)
    except (OSError, UntrustedFile):
        return 0
    try:
        question = struct.pack(layout, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = struct.unpack(layout, fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
    except (OSError, struct.error):
        return 0
    finally:
        os.close(descriptor)
    return 0 if answer[0] == fcntl.F_UNLCK else int(answer[4])


def command_line(pid: int) -> list[str]:
    """The command line of a process; empty if it has none or we may not read it. A process can change its own."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            return [os.fsdecode(word) for word in stream.read().split(b"\0")[:-1]]
    except OSError:
        return []


def uid_of(pid: int) -> int:
    """The real uid of a process (proc(5)), -1 if it does not run. Its directory in /proc belongs to root if it dropped its rights, so its owner is not used."""
    try:
        with open(f"/proc/{pid}/status", "rb", buffering=0) as stream:
            status = stream.read(4096)
        # A line break in the process's name is escaped, so each of these begins a line.
        state, uid = (status.split(b"\n" + name + b":\t", 1)[1].split(None, 1)[0] for name in (b"State", b"Uid"))
        return -1 if state in (b"Z", b"X") else int(uid)
    except (OSError, ValueError, IndexError):
        return -1


def owner_of(pid: int) -> int:
    """The effective uid of a process, -1 where there is none."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return -1


def command_lines() -> Iterator[tuple[int, list[str]]]:
    """Pid and command line of every process that we may read."""
    for name in os.listdir("/proc"):
        words = command_line(int(name)) if name.isdigit() else []
        if words:
            yield int(name), words


def wait_gone(identity: ProcessIdentity, timeout: float) -> bool:
    """Wait until the process has ended. False if it still runs after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    try:
        descriptor = os.pidfd_open(identity.pid)
    except (OSError, AttributeError):
        descriptor = -1
    try:
        while identity.is_alive():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if descriptor >= 0:
                # A pidfd becomes readable when the process ends, even before its parent waits for it.
                select.select([descriptor], [], [], left)
            else:
                time.sleep(min(0.01, left))
        return True
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def send_signal(identity: ProcessIdentity, number: int) -> bool:
    """Signal exactly this process. False if it has ended."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except (OSError, AttributeError) as error:
        if getattr(error, "errno", errno.ENOSYS) not in (errno.ENOSYS, errno.EPERM):
            return False
        return _signal_by_pid(identity, number)
    try:
        # Checked after the descriptor was opened, so that the checked process is the one of the descriptor.
        if not identity.is_alive():
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def _signal_by_pid(identity: ProcessIdentity, number: int) -> bool:
    """Signal a process on a kernel before 5.3, which has no descriptors of processes."""
    if not identity.is_alive():
        return False
    try:
        os.kill(identity.pid, number)
    except ProcessLookupError:
        return False
    return True


def terminate(identity: ProcessIdentity, timeout: float, patience: float | None = None) -> str:
    """End a process: SIGTERM, then SIGKILL, each with `timeout` seconds. Returns gone, terminate, kill or stuck.

    :param patience: seconds for SIGTERM, if they differ from `timeout`
    """
    if not identity.is_alive():
        return "gone"
    first = timeout if patience is None else patience
    for word, number, seconds in (("terminate", signal.SIGTERM, first), ("kill", signal.SIGKILL, timeout)):
        send_signal(identity, number)
        if wait_gone(identity, seconds):
            return word
    return "stuck"


def why_gone(program: str, process: ProcessIdentity | None, words: str) -> str:
    """Why a VMM ended that no task stopped; empty if none was started.

    :param words: the last lines of its log
    """
    if process is None:
        return ""
    words = words.strip()
    return f"{program} (pid {process.pid}) is gone" + (f"; its last words: {words}" if words else "")


def tail(path: str, lines: int = 20, size: int = 16384) -> str:
    """The last lines of a log; empty if it does not exist or is not a regular file. Reads at most `size` bytes."""
    try:
        with Directory.open(os.path.dirname(path) or ".") as directory:
            text = directory.tail(os.path.basename(path), size).decode("utf-8", "replace")
    except (OSError, UntrustedFile):
        return ""
    return "\n".join(text.splitlines()[-lines:])
