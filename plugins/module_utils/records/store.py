# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered of a sandbox: one JSON record each, replaced whole or not at all, by one writer at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from typing import Any

from ..errors import HostError, HypervisorError, LockTimeout, StoreError
from ..options.declarations import HYPERVISORS
from ..untrusted.answers import AnswerError, Anything, ListOf, MapOf, Number, Record, Text, brief, checked, parsed
from ..untrusted.files import Directory, UntrustedFile, check_parents
from .layout import RUN_ROOT, SANDBOX_ID, STATE_ROOT, SandboxLayout

#: Version of the record's form. A record of a newer one is refused, never guessed at.
SCHEMA = 1

COLLECTION_VERSION = "1.0.0"

#: What was being done when the record was written. Anything but SETTLED in a record that nobody holds the lock of means that
#: the task was killed there.
SETTLED = ""
PHASES = (
    SETTLED,
    "starting",
    "stopping",
    "pausing",
    "resuming",
    "resizing",
    "plugging",
    "saving",
    "restoring",
    "removing",
)

#: The most that a record may have, bytes: a metadata service's contents are in it.
MOST_BYTES = 16 * 1024 * 1024

#: Directory of a VM's saved state, beside its record.
SAVED = "saved"

#: The file of spare space, and how large it is at least, bytes.
SPARE = "spare"
SPARE_BYTES = 16384

#: Errors of a disk without space.
FULL = (errno.ENOSPC, errno.EDQUOT)

#: What the name of a record that is being written ends in.
DRAFT = ".new"

#: Seconds between two tries to get the lock.
LOCK_POLL = 0.05


@dataclasses.dataclass
class SandboxRecord:
    """What we last did with a sandbox.

    :param options: the options that tasks have given, by name
    :param defaults: the values that the driver filled in at creation for options nobody gave
    :param devices: the devices that tasks have listed (see `device_options.py`)
    :param desired: the state a task asked for last: started, paused, stopped or saved
    :param phase: one of PHASES
    :param driver: what `Hypervisor.save` gave
    :param saved_state: directory of the VM's saved state, empty when there is none
    :param memory_reached_mb: MiB the driver reached when it was asked for options' `memory_mb`: it may round up to a block
    :param template: of a template, where its memory is and what it was made from (see `template.py`)
    :param console_start: size of the console's log at the last start, in bytes
    :param run_dir: the task's `run_dir`: the VM's sockets and logs are below it; empty in records of earlier versions
    """

    id: str
    hypervisor: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    defaults: dict[str, Any] = dataclasses.field(default_factory=dict)
    devices: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    desired: str = "stopped"
    phase: str = SETTLED
    driver: dict[str, Any] = dataclasses.field(default_factory=dict)
    saved_state: str = ""
    memory_reached_mb: int = 0
    console_start: int = 0
    template: dict[str, Any] = dataclasses.field(default_factory=dict)
    run_dir: str = ""
    created: str = ""
    changed: str = ""
    collection_version: str = COLLECTION_VERSION
    schema: int = SCHEMA

    def effective(self) -> dict[str, Any]:
        """The options in force: what was given, over what was filled in."""
        return {**self.defaults, **self.options}


#: What each field of a record can hold. The driver's state and the options have shapes of their own, which their owners check.
_DEVICE = Anything(depth=40, most=100_000)
_FILE = Record({"option": Text(64), "path": Text(4096), "is": Text(8192), "sha512": Text(128)})
SHAPES: dict[str, Any] = {
    "id": Text(64),
    "hypervisor": Text(choices=HYPERVISORS),
    "options": MapOf(Anything(depth=8, most=100_000)),
    "defaults": MapOf(Anything(depth=8, most=100_000)),
    "devices": ListOf(MapOf(_DEVICE, most=64)),
    "desired": Text(choices=("started", "paused", "stopped", "saved")),
    "phase": Text(choices=PHASES),
    "driver": MapOf(Anything(depth=16, most=1_000_000)),
    "saved_state": Text(4096),
    "memory_reached_mb": Number(0, 2**32),
    "console_start": Number(0, 2**63 - 1),
    "template": Record(
        {}, {"memory": Text(4096, pattern="/.*/memory"), "memory_is": Text(8192), "files": ListOf(_FILE, most=64)}
    ),
    "run_dir": Text(4096),
    "created": Text(64),
    "changed": Text(64),
    "collection_version": Text(64),
    "schema": Number(1, SCHEMA),
}


def unusable_record(why: str, sandbox_id: str, path: str, fix: str = "") -> StoreError:
    """The error about a record that cannot be used."""
    return StoreError(
        f"its record {path} {why}",
        sandbox=sandbox_id,
        fix=fix
        or "Nothing was changed. Restore the file from a backup, or remove the sandbox with its VM (state: absent).",
    )


def parse_record(text: str, sandbox_id: str, path: str) -> SandboxRecord:
    """The record in a text.

    :raises StoreError: it is truncated, garbled, another sandbox's, or of a newer version of the collection
    """

    def unusable(why: str, fix: str = "") -> StoreError:
        return unusable_record(why, sandbox_id, path, fix)

    try:
        value = parsed(text, "the record", MOST_BYTES)
    except AnswerError as problem:
        raise unusable(f"is not complete JSON ({problem.message})") from problem
    if not isinstance(value, dict) or not isinstance(value.get("schema"), int):
        raise unusable("is not a sandbox's record")
    if value["schema"] > SCHEMA:
        raise unusable(
            f"was written by kata.hypervisor {brief(value.get('collection_version'))} in form {value['schema']}, newer than {SCHEMA}, all this version knows",
            "Nothing was changed. Use that version of the collection or a later one.",
        )
    for name, entry in value.items():
        if name not in SHAPES:
            raise unusable(f"has an unknown field {brief(name)}")
        try:
            checked(Record({name: SHAPES[name]}), {name: entry}, "it")
        except AnswerError as problem:
            raise unusable(f"has a field that cannot be used: {problem.message.partition(': ')[2]}") from problem
    if value.get("id") != sandbox_id or not value.get("hypervisor"):
        raise unusable("is another sandbox's, or names no hypervisor")
    if not all(isinstance(device.get(name), str) for device in value.get("devices", []) for name in ("id", "type")):
        raise unusable("lists a device without an id or a type")
    if value.get("saved_state") and value["saved_state"] != os.path.join(os.path.dirname(path), SAVED):
        raise unusable(f"names a saved state that is not its own, {brief(value['saved_state'])}")
    return SandboxRecord(**value)


def salvage_record(text: str, sandbox_id: str, hypervisor: str) -> SandboxRecord:
    """What can still be used of a record that `parse_record` refuses; for a task that removes the sandbox.

    :param hypervisor: the one to assume where the record names none
    """
    try:
        value = parsed(text, "the record", MOST_BYTES)
    except AnswerError:
        value = {}
    usable: dict[str, Any] = {}
    for name, entry in value.items() if isinstance(value, dict) else ():
        with contextlib.suppress(AnswerError):
            if name in SHAPES and name not in ("id", "schema", "saved_state", "phase", "desired"):
                usable[name] = checked(SHAPES[name], entry, name)
    usable["devices"] = [
        device
        for device in usable.get("devices", [])
        if isinstance(device.get("id"), str) and isinstance(device.get("type"), str)
    ]
    usable.setdefault("hypervisor", hypervisor)
    return SandboxRecord(id=sandbox_id, **usable)


class StoreFull(StoreError):
    """There is no space left for a record."""


class Store:
    """The record and the lock of one sandbox.

    Beside the record lies a file of spare space, which is given up when the disk is full: a VM can be ended and put down as stopped all the same.
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
        :raises HostError: somebody else could have written it
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
        """Refuse directories that others can write to: who writes a record says which processes and files are the sandbox's, and who
        can exchange the run directory says where the VMM's sockets and logs lead.

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
        data = json.dumps(dataclasses.asdict(record), indent=1, sort_keys=True).encode()
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
        path = self.layout.record_path
        draft = path + DRAFT
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            with open(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fchmod(descriptor, 0o600)
                os.fsync(descriptor)
            os.replace(draft, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise
        _fsync_directory(self.layout.state_dir)

    def _give_up_spare(self) -> bool:
        """Remove the spare space; False when there is none."""
        try:
            os.unlink(os.path.join(self.layout.state_dir, SPARE))
        except OSError:
            return False
        return True

    def _keep_spare(self, size: int) -> None:
        """Have spare space, where there is room for it.

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
        """Remove what stands where the record should be and is not a file.

        :raises StoreError: it cannot be removed
        """
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
            with contextlib.suppress(OSError):  # A full disk does not undo the removal.
                _fsync_directory(directory)
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
            # The one before us may have removed the file while we waited: then what we hold is nobody's lock.
            if os.fstat(descriptor).st_ino == os.stat(path).st_ino:
                with contextlib.suppress(OSError):
                    if shared:
                        return descriptor
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, b"%d\n" % os.getpid())
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
            f"another task, process {holder or 'unknown'}, has been working on it for more than {timeout:g} seconds",
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
            fix="Make room there, or choose another state_dir."
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
    """Make a directory and its parents, private, and tell which are new."""
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


def _fsync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
