# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write files and directories atomically and durably, with the locks and drafts that this needs.

A draft is synced before it is renamed into place, and its directory is synced afterwards (fsync(2): a directory entry is durable when its
directory is). The modes of files do not depend on the umask.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
import time
from typing import Iterator

from ..errors import HostError, LockTimeout

#: The prefix of the names of drafts, which are in the directory of the result.
DRAFT = ".new-"


def replace_file(path: str, data: bytes, mode: int = 0o644, draft: str = "") -> None:
    """Write a file atomically and durably. If it fails, the old file is unchanged and no draft is left.

    :param draft: the path of the draft, for callers that remove drafts of killed tasks; if empty, a unique name
    :raises OSError: it cannot be written
    """
    directory = os.path.dirname(path) or "."
    if draft:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    else:
        descriptor, draft = tempfile.mkstemp(prefix=f".{os.path.basename(path)}-", dir=directory)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise
    sync(directory)


def put_in_place(draft: str, path: str) -> None:
    """Rename a file, a link or a directory to its place, durably. A file or link there is replaced; a directory there must be empty.

    :raises OSError: it cannot be synced or renamed
    """
    if os.path.islink(draft):
        pass  # The content of a link is written with its directory's entry.
    elif os.path.isdir(draft):
        sync_tree(draft)
    else:
        sync(draft)
    os.rename(draft, path)
    sync(os.path.dirname(path) or ".")
    before = os.path.dirname(draft) or "."
    if before != (os.path.dirname(path) or ".") and os.path.isdir(before):
        sync(before)


def sync(path: str) -> None:
    """Write a file's content, or a directory's entries, to the disk.

    :raises OSError: it cannot be written
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: str) -> None:
    """Write all files and directories of a tree to the disk. Links are not followed.

    :raises OSError: it cannot be written
    """
    for folder, _folders, files in os.walk(path, topdown=False):
        for name in files:
            file = os.path.join(folder, name)
            if stat.S_ISREG(os.lstat(file).st_mode):
                sync(file)
        sync(folder)


def make_directories(path: str, mode: int = 0o755) -> None:
    """Create a directory and its missing parents. Each created directory gets the mode, which does not depend on the umask.

    :raises OSError: one cannot be created, or is no directory
    """
    missing = []
    current = os.path.abspath(path)
    while not os.path.isdir(current):
        missing.append(current)
        current = os.path.dirname(current)
    for one in reversed(missing):
        try:
            os.mkdir(one, mode)
        except FileExistsError:
            if not os.path.isdir(one):
                raise
            continue  # Another task was faster.
        os.chmod(one, mode)
        sync(os.path.dirname(one))


def ensure_directory(path: str, mode: int = 0o755) -> None:
    """Create a directory as `make_directories` does, or correct the mode of our existing one: others get the rights in `mode`, and never write.

    :raises OSError: it cannot be created or corrected
    """
    make_directories(path, mode)
    found = os.stat(path)
    right = (stat.S_IMODE(found.st_mode) | mode) & ~0o022
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != right:
        os.chmod(path, right)


def write_problem(problem: OSError, message: str, wanted: str, option: str = "") -> HostError:
    """The error for a file that could not be written. If the disk is full, it says so and how to fix it."""
    full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
    return HostError(
        "the disk is full" if full else message,
        option=option,
        wanted=wanted,
        answer=str(problem),
        fix="The old version is unchanged." + (" Free some space there and run the task again." if full else ""),
    )


# --- locks -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(path: str, seconds: float, what: str, option: str = "") -> Iterator[None]:
    """Hold a lock on the file `path` during the block. The file is created if it does not exist.

    :param seconds: how long to wait for it
    :param what: what the lock protects, for the error
    :param option: the task's option that names it
    :raises LockTimeout: another process held the lock all the time; the error names it
    :raises OSError: the lock file cannot be created
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        deadline = time.monotonic() + seconds
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                holder = holder_of(descriptor)
                raise LockTimeout(
                    f"another task has held the lock of {what} for more than {seconds:g} seconds",
                    option=option,
                    wanted=path,
                    answer=f"the lock is held by {holder}" if holder else "",
                    fix="Wait for that process to end, or end it, and run the task again.",
                )
            time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def holder_of(descriptor: int) -> str:
    """The name and pid of the process that holds the flock(2) of an open file; empty if it cannot be found (proc(5), /proc/locks)."""
    found = os.fstat(descriptor)
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    with contextlib.suppress(OSError), open("/proc/locks", encoding="ascii", errors="replace") as stream:
        for line in stream:
            fields = line.split()
            # A line with "->" is about a process that waits.
            if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5] == place and fields[4].isdigit():
                return _process_name(int(fields[4]))
    return ""


def _process_name(pid: int) -> str:
    if pid <= 0:
        return "a process that cannot be seen from here"
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as stream:
        words = stream.read(300).replace(b"\0", b" ").decode("utf-8", "replace").strip()
        return f"process {pid} ({''.join(letter if letter.isprintable() else '?' for letter in words)})"
    return f"process {pid}"


# --- drafts ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def draft_directory(directory: str) -> Iterator[str]:
    """Create a private directory (0700) for a draft that `put_in_place` then moves to `directory`. It is removed afterwards.

    Drafts of killed tasks are removed first: the directory of a draft in use is locked.

    :raises OSError: it cannot be created
    """
    parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # The lock keeps other tasks from seeing a draft that is created but not locked yet.
        fcntl.flock(parent, fcntl.LOCK_EX)
        _remove_drafts(directory)
        draft = tempfile.mkdtemp(prefix=DRAFT, dir=directory)
        descriptor = os.open(draft, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(parent)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        os.close(descriptor)


def remove_drafts(directory: str) -> None:
    """Remove what tasks that were killed in `draft_directory` have left. For tasks that have nothing to write.

    :raises OSError: the directory cannot be read
    """
    if not os.path.isdir(directory) or not any(name.startswith(DRAFT) for name in os.listdir(directory)):
        return
    parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(parent, fcntl.LOCK_EX)
        _remove_drafts(directory)
    finally:
        os.close(parent)


def _remove_drafts(directory: str) -> None:
    """Remove the drafts in a directory that no task uses."""
    for name in os.listdir(directory):
        if not name.startswith(DRAFT):
            continue
        path = os.path.join(directory, name)
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                if os.fstat(descriptor).st_uid == os.geteuid() and _try_lock(descriptor):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(descriptor)
