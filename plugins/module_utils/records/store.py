# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of a sandbox: one JSON file, replaced atomically, by one writer at a time."""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator

from ..errors import HostError, HypervisorError, LockTimeout, StoreError
from ..untrusted.files import Directory, UntrustedFile, check_parents
from .layout import RUN_ROOT, SANDBOX_ID, STATE_ROOT, SandboxLayout
from .record import COLLECTION_VERSION, MOST_BYTES, SandboxRecord, parse_record

#: The file that reserves disk space, and its minimum size, bytes.
SPARE = "spare"
SPARE_BYTES = 16384

#: Errors of a disk without space.
FULL = (errno.ENOSPC, errno.EDQUOT)

#: What the name of a record that is being written ends in.
DRAFT = ".new"

#: Seconds between two tries to get the lock.
LOCK_POLL = 0.05


class StoreFull(StoreError):
    """There is no space left for a record."""


class Store:
    """The record and the lock of one sandbox.

    A file beside the record reserves disk space. It is removed when the disk is full, so that a VM can still be stopped and recorded as stopped.
    """

    def __init__(self, layout: SandboxLayout) -> None:
        self.layout = layout

    def load(self) -> SandboxRecord | None:
        """The record, None where there is none.

        :raises StoreError: it cannot be read or understood
        """
        text = self.read()
        return None if text is None else parse_record(text, self.layout.id, self.layout.record_path)

    def read(self) -> str | None:
        """The record's text, None where there is no record.

        :raises StoreError: it cannot be read, or is not a file
        :raises HostError: another user could have written it
        """
        path = self.layout.record_path
        self.check_place()
        try:
            with Directory.open(self.layout.state_dir) as directory:
                return directory.read(os.path.basename(path), MOST_BYTES).decode("utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError, UntrustedFile) as problem:
            raise self._error("read", path, problem) from problem

    def check_place(self) -> None:
        """Refuse directories that other users can write to. A record names the sandbox's processes and files, and the run directory has
        the VMM's sockets and logs, so no other user may change them.

        :raises HostError: names the directory, or the parent of it, and whose it is
        """
        try:
            check_parents(self.layout.state_dir, "state_dir")
            check_parents(self.layout.run_root, "run_dir")
        except HostError as problem:
            problem.sandbox = self.layout.id
            raise

    def save(self, record: SandboxRecord) -> None:
        """Replace the record, durably. When this fails, the old one is still there.

        :raises StoreError: the disk is full or cannot be written
        """
        record.changed = now()
        record.created = record.created or record.changed
        record.collection_version = COLLECTION_VERSION
        record.run_dir = self.layout.run_root
        data = json.dumps(vars(record), indent=1, sort_keys=True).encode()
        try:
            self._write(data)
        except OSError as problem:
            if problem.errno not in FULL or not self._give_up_spare():
                raise self._error("write", self.layout.record_path, problem) from problem
            try:
                self._write(data)
            except OSError as again:
                raise self._error("write", self.layout.record_path, again) from again
        self._keep_spare(2 * len(data))

    def _write(self, data: bytes) -> None:
        from ..host.atomic_files import replace_file

        replace_file(self.layout.record_path, data, 0o600, self.layout.record_path + DRAFT)

    def _give_up_spare(self) -> bool:
        """Remove the spare space; False when there is none."""
        try:
            os.unlink(os.path.join(self.layout.state_dir, SPARE))
        except OSError:
            return False
        return True

    def _keep_spare(self, size: int) -> None:
        """Keep spare space, where the disk has some left.

        :param size: bytes
        """
        path = os.path.join(self.layout.state_dir, SPARE)
        if os.path.lexists(path):
            return
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except OSError:
            return
        try:
            os.posix_fallocate(descriptor, 0, size + SPARE_BYTES)
        except OSError:
            os.unlink(path)
        finally:
            os.close(descriptor)

    def set_aside(self) -> None:
        """Remove an entry at the path of the record that is not a file.

        :raises StoreError: it cannot be removed
        """
        import shutil

        path = self.layout.record_path
        try:
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            elif os.path.lexists(path) and not os.path.isfile(path):
                os.unlink(path)
        except OSError as problem:
            raise self._error("remove", path, problem) from problem

    def check_lockable(self) -> None:
        """Refuse what `lock` would refuse, as far as that can be known. Changes nothing.

        :raises HostError: see `check_place`
        :raises StoreError: the directories or the lock cannot be made
        """
        self.check_place()
        path = self.layout.state_dir
        problem = ""
        while not os.path.isdir(path):
            if os.path.lexists(path):
                raise self._error(
                    "lock", self.layout.lock_path, NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
                )
            problem, path = path, os.path.dirname(path)
        if not problem and not os.path.lexists(self.layout.lock_path):
            problem = self.layout.lock_path
        if not problem:
            if not os.access(self.layout.lock_path, os.R_OK | os.W_OK):
                raise self._error("lock", self.layout.lock_path, self._denied(path, self.layout.lock_path))
        elif not os.access(path, os.W_OK | os.X_OK):
            raise self._error("lock", self.layout.lock_path, self._denied(path, problem))

    @staticmethod
    def _denied(directory: str, path: str) -> OSError:
        code = errno.EROFS if os.statvfs(directory).f_flag & os.ST_RDONLY else errno.EACCES
        return OSError(code, os.strerror(code), path)

    def is_held(self) -> bool:
        """Whether a task works on the sandbox at this moment."""
        try:
            descriptor = os.open(self.layout.lock_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except OSError:
            return True
        finally:
            os.close(descriptor)

    def drop_draft(self) -> None:
        """Remove a record that was being written when its task was killed."""
        with contextlib.suppress(OSError):
            os.unlink(self.layout.record_path + DRAFT)

    def remove(self) -> None:
        """Remove everything below the state directory but the lock; the record goes last, so that a killed removal is resumed.

        :raises StoreError: something cannot be removed
        """
        import shutil

        directory, record = self.layout.state_dir, self.layout.record_path
        try:
            for entry in os.scandir(directory):
                if entry.path in (self.layout.lock_path, record):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(record)
            from ..host.atomic_files import sync

            with contextlib.suppress(OSError):  # A full disk does not undo the removal.
                sync(directory)
        except OSError as problem:
            raise self._error("remove", directory, problem) from problem

    @contextlib.contextmanager
    def lock(self, timeout: float, shared: bool = False) -> Iterator[None]:
        """Hold the sandbox's lock. Directories are made as needed, and removed again when no record is in them afterwards.

        :param timeout: seconds to wait for another task
        :param shared: let others who only read hold it too
        :raises LockTimeout: another task held it all the time
        :raises StoreError: the directories or the lock cannot be made
        """
        self.check_place()
        deadline = time.monotonic() + timeout
        made: list[str] = []
        descriptor = -1
        try:
            while descriptor < 0:
                made += _make_directories(self.layout.state_dir)
                descriptor = self._try_lock(shared)
                if descriptor < 0:
                    if time.monotonic() >= deadline:
                        raise self._held(timeout)
                    time.sleep(LOCK_POLL)
        except OSError as problem:
            _remove_empty(made)
            raise self._error("lock", self.layout.lock_path, problem) from problem
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # A directory that stays is tidied up by the next task.
                self._forget_empty(made)
            os.close(descriptor)

    def _forget_empty(self, made: list[str]) -> None:
        """Remove the directories, and the lock as the last thing in them, when they hold no record."""
        draft, lock = f"{self.layout.record_path}{DRAFT}", self.layout.lock_path
        entries = {os.path.join(self.layout.state_dir, name) for name in os.listdir(self.layout.state_dir)}
        if entries <= {draft, lock, os.path.join(self.layout.state_dir, SPARE)}:
            for path in sorted(entries, reverse=True):
                os.unlink(path)
            _remove_empty([*made, self.layout.state_dir])

    def _try_lock(self, shared: bool) -> int:
        """The descriptor of the lock file, locked, or -1 when another one has it."""
        path = self.layout.lock_path
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            return -1  # Another task has just removed the sandbox and its directory.
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            # The holder before us may have removed the file while we waited. Then the file that we locked is not the sandbox's lock.
            if os.fstat(descriptor).st_ino == os.stat(path).st_ino:
                with contextlib.suppress(OSError):
                    if shared:
                        return descriptor
                    # Always of the same size: to truncate a file makes ext4 write it to the disk when it is closed, which takes milliseconds.
                    os.pwrite(descriptor, b"%-19d\n" % os.getpid(), 0)
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return -1

    def _held(self, timeout: float) -> LockTimeout:
        holder = ""
        with contextlib.suppress(OSError), open(self.layout.lock_path, encoding="utf-8", errors="replace") as stream:
            holder = stream.read(20).strip()
        return LockTimeout(
            f"another task, process {holder or 'unknown'}, has held the lock of this sandbox for more than {timeout:g} seconds",
            sandbox=self.layout.id,
            option="lock_timeout",
            wanted=timeout,
            fix="Wait for that task, or raise lock_timeout.",
        )

    def _error(self, what: str, path: str, problem: Exception) -> HypervisorError:
        full = isinstance(problem, OSError) and problem.errno in FULL
        return (StoreFull if full else StoreError)(
            f"could not {what} {path}" + (": the disk is full" if full else ""),
            sandbox=self.layout.id,
            answer=str(problem),
            fix="Free some space there, or choose another state_dir."
            if full
            else "See that state_dir is a directory that this task's user may write.",
        )


def list_ids(state_root: str = STATE_ROOT, run_root: str = RUN_ROOT) -> list[str]:
    """The ids of all sandboxes that left a trace on this host, sorted: recorded ones, and run directories without a record.

    :raises StoreError: this user may not look
    """
    found: set[str] = set()
    for option, root in (("state_dir", os.path.join(state_root, "sandboxes")), ("run_dir", run_root)):
        try:
            with os.scandir(root) as entries:
                found.update(
                    entry.name
                    for entry in entries
                    if SANDBOX_ID.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
                )
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as problem:
            raise StoreError(
                f"the sandboxes in {root} cannot be listed",
                option=option,
                wanted=root,
                answer=str(problem),
                fix="Run the task as the user whose sandboxes they are, with become where that is root.",
            ) from problem
    return sorted(found)


def now() -> str:
    """The time, as records keep it: UTC, ISO 8601, seconds."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _make_directories(path: str) -> list[str]:
    """Make a directory and its parents, private; returns those that are new."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    made = []
    for directory in reversed(missing):
        try:
            os.mkdir(directory, 0o700)
            os.chmod(directory, 0o700)  # Whatever the umask.
            made.append(directory)
        except FileExistsError:
            if not os.path.isdir(directory):
                raise
        except FileNotFoundError:
            break  # A task that removed its sandbox took the parent away; the caller tries again.
    return made


def _remove_empty(directories: list[str]) -> None:
    """Remove those of the directories that are empty, deepest first."""
    for directory in sorted(set(directories), key=len, reverse=True):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
