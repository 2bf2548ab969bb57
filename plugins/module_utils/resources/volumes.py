# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes: disks that outlive sandboxes.

    STATE_ROOT/volumes/NAME/disk.raw         the disk; it takes only what is written to it
    STATE_ROOT/volumes/NAME/volume.json      what was created
    STATE_ROOT/volumes/NAME/users.json       the sandboxes that have it, running or not

A volume is created and formatted as a draft and then renamed, so none is ever formatted half or twice. A volume is used through its name, by one
sandbox that writes or by many that read: `claim_volume` records that, which holds for sandboxes that are stopped, paused or saved, too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import time
from typing import Any, Iterable, Iterator, Mapping

from ..errors import ConfigError, HostError, StateError
from ..host.atomic_files import (
    draft_directory,
    locked,
    make_directories,
    put_in_place,
    remove_drafts,
    replace_file,
    sync,
    write_problem,
)
from ..host.programs import installed_program, run
from ..host.units import MIB
from ..options.resource_options import FILESYSTEMS, VOLUME_NAME
from ..records.layout import SandboxLayout
from ..records.record import SAVED
from ..untrusted.answers import AnswerError, Flag, MapOf, Number, Record, Text, checked, parsed
from .space import allocated, thin_warning

DISK, NOTE, USERS = "disk.raw", "volume.json", "users.json"
#: What the name of a note ends in while it is written.
DRAFT_END = ".new"
#: The largest size of a note, bytes, and how long to wait for another task that works on the host's volumes, seconds.
MOST_NOTE, LOCK_SECONDS = 1 << 20, 60.0
#: Seconds to create a file system. It does not take longer for a larger disk, but the host may be slow.
MKFS_SECONDS = 300
DEVICE_PREFIX = "vol-"
#: What a guest sees of a serial number, bytes, and the hypervisors whose disks have one.
MOST_SERIAL, WITH_SERIAL = 20, ("qemu", "acrn", "mock")
#: The largest disk, MiB (16 TiB, the largest file of ext4).
MOST_MB = 16 << 20


@dataclasses.dataclass(frozen=True)
class FileSystem:
    """How a file system is made.

    :param packages: that have the program
    :param label: the option for the label, the longest one in bytes, and what it can have
    :param least_mb: the smallest disk, MiB
    """

    program: str
    packages: str
    words: tuple[str, ...]
    label: tuple[str, int, str]
    least_mb: int


_ANY = r"[!-~]([ -~]*[!-~])?"
FILE_SYSTEMS = {
    "ext4": FileSystem("mkfs.ext4", "e2fsprogs", ("-q", "-F", "-E", "nodiscard"), ("-L", 16, _ANY), 2),
    "xfs": FileSystem("mkfs.xfs", "xfsprogs", ("-q", "-f", "-K"), ("-L", 12, r"[!-~]+"), 300),
    "btrfs": FileSystem(
        "mkfs.btrfs", "btrfs-progs (Debian, Ubuntu, Fedora)", ("-q", "-f", "-K"), ("-L", 255, _ANY), 114
    ),
    "vfat": FileSystem("mkfs.vfat", "dosfstools", ("-F", "32"), ("-n", 11, r"[A-Z0-9_-]+"), 34),
}
NONE = "none"
#: What a task can request, declared with the options.
CHOICES = FILESYSTEMS

_NOTE = Record(
    {"name": Text(28), "filesystem": Text(choices=CHOICES), "label": Text(255)},
    {"size_mb": Number(1, MOST_MB), "created": Text(32)},
)
#: By the sandbox's id: whether it only reads the volume, and whether the volume stays when the sandbox gives it up.
_USERS = MapOf(Record({"read_only": Flag(), "keep": Flag()}))


@dataclasses.dataclass(frozen=True)
class VolumeRequest:
    """What a task says of a volume. Zero, empty and None are "as it is", and for a new volume the default.

    :param size_mb: MiB; a new volume needs it
    :param filesystem: one of CHOICES; a new volume gets ext4
    :param label: of the file system; a new one gets the volume's name if that can be a label
    :param read_only: the sandbox only reads it
    :param keep: it stays when its sandbox is removed
    """

    name: str
    size_mb: int = 0
    filesystem: str = ""
    label: str | None = None
    read_only: bool = False
    keep: bool = True


@dataclasses.dataclass(frozen=True)
class Volume:
    """A volume that exists.

    :param path: of its disk
    :param size_mb: MiB, as it is now
    """

    name: str
    path: str
    size_mb: int
    filesystem: str
    label: str
    created: str = ""

    def facts(self) -> dict[str, Any]:
        """What a module returns of it."""
        used = -(-allocated(self.path) // MIB) if os.path.lexists(self.path) else 0
        return {**dataclasses.asdict(self), "used_mb": used}


def volumes_dir(state_root: str) -> str:
    """The directory of the host's volumes."""
    return os.path.join(state_root, "volumes")


def check_name(name: Any, option: str = "name") -> str:
    """The name, if it can be one of a volume.

    :raises ConfigError: it cannot
    """
    if not isinstance(name, str) or not VOLUME_NAME.fullmatch(name):
        raise ConfigError(
            "must be a valid name of a volume",
            option=option,
            wanted=name,
            fix="Use 1 to 28 of the characters A-Z a-z 0-9 . _ -, and start with a letter or a digit.",
        )
    return name


def check_request(request: VolumeRequest) -> None:
    """Refuse values that no volume can have. Changes nothing, reads nothing.

    :raises ConfigError: names the option
    """
    check_name(request.name)
    if request.size_mb and not 1 <= request.size_mb <= MOST_MB:
        raise wrong_size(request.size_mb)
    if request.filesystem and request.filesystem not in CHOICES:
        raise ConfigError(f"must be one of {', '.join(CHOICES)}", option="filesystem", wanted=request.filesystem)
    if request.label:
        made = FILE_SYSTEMS.get(request.filesystem or "ext4")
        if made is None:
            raise ConfigError("a label needs a file system", option="label", wanted=request.label, fix="Omit label.")
        if not _can_be_label(made, request.label):
            raise ConfigError(
                f"must be a label of {request.filesystem or 'ext4'}: at most {made.label[1]} characters of {made.label[2]}",
                option="label",
                wanted=request.label,
            )


def wrong_size(size_mb: int) -> ConfigError:
    """The error about a size that no volume can have."""
    return ConfigError(f"must be from 1 to {MOST_MB}", option="size_mb", wanted=size_mb)


def _can_be_label(made: FileSystem, label: str) -> bool:
    return len(label) <= made.label[1] and re.fullmatch(made.label[2], label) is not None


def label_of(request: VolumeRequest) -> str:
    """The label that a new volume gets."""
    made = FILE_SYSTEMS.get(request.filesystem or "ext4")
    if request.label is not None or made is None:
        return request.label or ""
    return request.name if _can_be_label(made, request.name) else ""


# --- reading -----------------------------------------------------------------------------------------------------------


def find_volume(state_root: str, name: str) -> Volume | None:
    """A volume; None if there is none of this name.

    :raises HostError: what is there cannot be read as a volume
    """
    directory = os.path.join(volumes_dir(state_root), check_name(name))
    path = os.path.join(directory, DISK)
    try:
        note = _read(os.path.join(directory, NOTE), _NOTE)
        if note is None:
            return None
        size = os.stat(path).st_size
    except (OSError, AnswerError) as problem:
        raise HostError(
            f"volume {name} cannot be read",
            option="name",
            wanted=directory,
            answer=str(problem),
            fix="Restore its files from a backup, or remove the directory if you do not need what is in it.",
        ) from problem
    return Volume(name, path, size // MIB, note["filesystem"], note["label"], note.get("created", ""))


def new_volume(state_root: str, request: VolumeRequest) -> Volume:
    """The volume that `create_volume` would create."""
    path = os.path.join(volumes_dir(state_root), request.name, DISK)
    return Volume(request.name, path, request.size_mb, request.filesystem or "ext4", label_of(request))


def list_volumes(state_root: str) -> list[Volume]:
    """All volumes, sorted by name.

    :raises HostError: one cannot be read
    """
    return [volume for volume in (find_volume(state_root, name) for name in _names(state_root)) if volume]


def _names(state_root: str) -> list[str]:
    """The names of all volumes, sorted, readable or not."""
    try:
        return sorted(name for name in os.listdir(volumes_dir(state_root)) if VOLUME_NAME.fullmatch(name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as problem:
        raise HostError(
            "the volumes cannot be listed", wanted=volumes_dir(state_root), answer=str(problem)
        ) from problem


def _read(path: str, shape: Any) -> Any:
    try:
        with open(path, "rb") as stream:
            data = stream.read(MOST_NOTE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return checked(shape, parsed(data, path, MOST_NOTE), path)


# --- plan --------------------------------------------------------------------------------------------------------------


def plan_volume(state_root: str, request: VolumeRequest) -> list[str]:
    """Check that a volume can be what a task says. Changes nothing. Returns warnings.

    :raises ConfigError: it is another one, would become smaller, or a value is missing or impossible
    :raises HostError: a program is missing
    """
    check_request(request)
    there = find_volume(state_root, request.name)
    directory = volumes_dir(state_root)
    if there is not None:
        _check_same(there, request)
        grows = request.size_mb > there.size_mb
        return thin_warning(directory, request.size_mb * MIB, "size_mb") if grows else []
    if not request.size_mb:
        raise ConfigError(
            f"volume {request.name} does not exist yet, and a new one needs a size",
            option="size_mb",
            fix="Set size_mb.",
        )
    made = FILE_SYSTEMS.get(request.filesystem or "ext4")
    if made is not None:
        installed_program(made.program, made.packages)
        if request.size_mb < made.least_mb:
            raise ConfigError(
                f"must be at least {made.least_mb} for {request.filesystem or 'ext4'}",
                option="size_mb",
                wanted=request.size_mb,
            )
    return thin_warning(directory, request.size_mb * MIB, "size_mb")


def _check_same(volume: Volume, request: VolumeRequest) -> None:
    """Refuse what would destroy the content of a volume."""
    fix = "Omit it, or create a volume of another name and copy the data."
    if request.filesystem and request.filesystem != volume.filesystem:
        raise ConfigError(
            f"volume {volume.name} has {volume.filesystem}, and no volume is formatted twice",
            option="filesystem",
            wanted=request.filesystem,
            fix=fix,
        )
    if request.label is not None and request.label != volume.label:
        raise ConfigError(
            f"volume {volume.name} was created with the label {volume.label!r}, and no volume is formatted twice",
            option="label",
            wanted=request.label,
            fix="Omit it, or change the label in the guest.",
        )
    if request.size_mb and request.size_mb < volume.size_mb:
        raise ConfigError(
            f"volume {volume.name} has {volume.size_mb} MiB, and a volume is never made smaller",
            option="size_mb",
            wanted=request.size_mb,
            fix=f"Set size_mb to at least {volume.size_mb}, or omit it.",
        )


def grown(volume: Volume, size_mb: int) -> Volume:
    """What `grow_volume` will make of a volume."""
    return dataclasses.replace(volume, size_mb=size_mb)


# --- create, grow, remove ----------------------------------------------------------------------------------------------


def create_volume(state_root: str, request: VolumeRequest, sandbox: str = "") -> Volume:
    """Create a volume with its file system. One that exists is returned as it is; nothing of it is touched.

    :param sandbox: the id of the sandbox that has it from the start
    :raises HypervisorError: what `plan_volume` raises, or it cannot be written
    """
    with _locked(state_root):
        plan_volume(state_root, request)
        there = find_volume(state_root, request.name)
        if there is not None:
            return there
        directory = volumes_dir(state_root)
        try:
            with draft_directory(directory) as work:
                draft = os.path.join(work, request.name)
                os.mkdir(draft, 0o700)
                os.chmod(draft, 0o700)
                path = os.path.join(draft, DISK)
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                try:
                    os.fchmod(descriptor, 0o600)
                    os.ftruncate(descriptor, request.size_mb * MIB)
                finally:
                    os.close(descriptor)
                filesystem, label = request.filesystem or "ext4", label_of(request)
                if filesystem != NONE:
                    _format(path, filesystem, label)
                note = {"name": request.name, "filesystem": filesystem, "label": label, "created": _now()}
                _write(os.path.join(draft, NOTE), {**note, "size_mb": request.size_mb})
                if sandbox:
                    claim = {"read_only": request.read_only, "keep": request.keep}
                    _write(os.path.join(draft, USERS), {sandbox: claim})
                put_in_place(draft, os.path.join(directory, request.name))
        except OSError as problem:
            raise write_problem(problem, "the volume cannot be created", directory, "name") from problem
        return dataclasses.replace(new_volume(state_root, request), created=str(note["created"]))


def _format(path: str, filesystem: str, label: str) -> None:
    """Make a file system on the draft of a volume.

    :raises HostError: the program failed
    """
    made = FILE_SYSTEMS[filesystem]
    named = (made.label[0], label) if label else ()
    argv = [installed_program(made.program, made.packages), *made.words, *named, path]
    run(argv, MKFS_SECONDS).raise_on_failure()


def grow_volume(state_root: str, name: str, size_mb: int) -> Volume:
    """Grow a volume that no VM has open. One that has this size is returned as it is. Its file system grows in the guest.

    :raises ConfigError: there is none, or it would become smaller
    :raises StateError: a VM has it open, whose driver grows it (`Hypervisor.resize_disk`); or a VM was saved with it
    """
    with _locked(state_root):
        volume = find_volume(state_root, name)
        if volume is None:
            raise _unknown(state_root, name)
        _check_same(volume, VolumeRequest(name, size_mb))
        if size_mb > volume.size_mb:
            check_growable(state_root, volume)
            try:
                os.truncate(volume.path, size_mb * MIB)
                sync(volume.path)
            except OSError as problem:
                raise write_problem(problem, "the volume cannot be grown", volume.path, "size_mb") from problem
        return grown(volume, size_mb)


def check_growable(state_root: str, volume: Volume, to_come: Iterable[str] = ()) -> None:
    """Refuse to grow a volume that a VM has open, or that is part of a saved VM. Changes nothing.

    :param to_come: sandboxes that are about to have it
    :raises StateError: names the sandbox or the process
    """
    from ..host.block_devices import Use, check_free

    for user in {**users_of_volume(state_root, volume.name), **dict.fromkeys(to_come)}:
        if os.path.isdir(os.path.join(state_root, "sandboxes", user, SAVED)):
            raise StateError(
                f"sandbox {user} was saved with volume {volume.name} as it is",
                option="size_mb",
                wanted=volume.name,
                fix="Start that sandbox first.",
            )
    try:
        check_free(Use(volume.path, True, f"volume {volume.name}"), option="size_mb")
    except StateError as problem:
        problem.fix = (
            "Set size_mb in the option volumes of that sandbox, which grows the volume while it runs, or stop it."
        )
        raise


def remove_volume(state_root: str, name: str, force: bool = False, owner: str = "") -> bool:
    """Remove a volume with everything in it. Idempotent. Returns whether there was one.

    :param force: although a sandbox that does not run has it
    :param owner: the id of the sandbox that gives it up
    :raises StateError: a sandbox has it; the error names it
    """
    if not os.path.isdir(volumes_dir(state_root)):
        return False
    with _locked(state_root):
        directory = os.path.join(volumes_dir(state_root), check_name(name))
        if not os.path.lexists(directory):
            return False
        check_removable(state_root, name, force, owner)
        try:
            # It is gone at once; what a killed task leaves is a draft, which the next one removes.
            with draft_directory(volumes_dir(state_root)) as work:
                os.rename(directory, os.path.join(work, name))
                sync(volumes_dir(state_root))
        except OSError as problem:
            raise HostError(
                "the volume cannot be removed", option="name", wanted=directory, answer=str(problem)
            ) from problem
        return True


def check_removable(state_root: str, name: str, force: bool = False, owner: str = "") -> None:
    """Refuse to remove a volume that a sandbox has, or that a process has open. Changes nothing.

    :raises StateError: names the sandbox or the process
    """
    from ..host.block_devices import Use, check_free

    users = set(users_of_volume(state_root, name)) - {owner}
    if users and not force:
        raise StateError(
            f"sandbox {', '.join(sorted(users))} has volume {name}",
            option="name",
            wanted=name,
            fix="Detach it first (omit it in the sandbox's volumes), or remove that sandbox.",
        )
    path = os.path.join(volumes_dir(state_root), name, DISK)
    if os.path.lexists(path):
        check_free(Use(path, True, f"volume {name}"), option="name")


def tidy(state_root: str) -> None:
    """Remove what killed tasks have left of volumes that they created or removed.

    :raises HostError: it cannot be removed
    """
    try:
        remove_drafts(volumes_dir(state_root))
    except OSError as problem:
        raise HostError("the volumes cannot be read", wanted=volumes_dir(state_root), answer=str(problem)) from problem


def _unknown(state_root: str, name: str) -> ConfigError:
    there = ", ".join(volume.name for volume in list_volumes(state_root)) or "none"
    return ConfigError(
        "there is no volume of this name",
        option="name",
        wanted=name,
        answer=f"there are {there}",
        fix="Create it first.",
    )


@contextlib.contextmanager
def _locked(state_root: str) -> Iterator[None]:
    """Hold the lock of the host's volumes. Creates their directory.

    :raises LockTimeout: another task held it for too long
    :raises HostError: the directory cannot be created
    """
    directory = volumes_dir(state_root)
    with contextlib.ExitStack() as stack:
        try:
            make_directories(directory, 0o700)
            stack.enter_context(locked(os.path.join(directory, ".lock"), LOCK_SECONDS, "the volumes", "name"))
        except OSError as problem:
            raise write_problem(
                problem, "the directory of the volumes cannot be created", directory, "name"
            ) from problem
        yield


def _write(path: str, value: Mapping[str, Any]) -> None:
    replace_file(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode(), 0o600, path + DRAFT_END)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


# --- who has it --------------------------------------------------------------------------------------------------------


def users_of_volume(state_root: str, name: str) -> dict[str, bool]:
    """The sandboxes that have a volume, and whether each only reads it. A sandbox that is gone does not have it any more.

    :raises HostError: the list cannot be read
    """
    return {user: claim["read_only"] for user, claim in _claims(state_root, name).items()}


def _claims(state_root: str, name: str) -> dict[str, dict[str, bool]]:
    path = os.path.join(volumes_dir(state_root), check_name(name), USERS)
    try:
        listed = _read(path, _USERS) or {}
    except (OSError, AnswerError) as problem:
        raise HostError(
            "the list of a volume's sandboxes cannot be read",
            wanted=path,
            answer=str(problem),
            fix="Remove the file once you know that no sandbox has this volume.",
        ) from problem
    return _alive(state_root, listed)


def _alive(state_root: str, listed: dict[str, dict[str, bool]]) -> dict[str, dict[str, bool]]:
    """Without sandboxes that are gone: of a killed task, or removed by hand."""
    return {user: claim for user, claim in listed.items() if os.path.isdir(os.path.join(state_root, "sandboxes", user))}


def check_claim(layout: SandboxLayout, name: str, read_only: bool) -> None:
    """Refuse a volume that another sandbox has, unless both only read it. Changes nothing. A sandbox that is stopped or saved has it, too.

    :raises StateError: names the other sandbox
    """
    for user, reads in users_of_volume(layout.state_root, name).items():
        if user != layout.id and not (reads and read_only):
            raise StateError(
                f"sandbox {user} has volume {name}{' and writes to it' if not reads else ''}",
                option="volumes",
                wanted=name,
                fix="Detach it there first, or attach it read_only in both.",
            )


def claim_volume(layout: SandboxLayout, name: str, read_only: bool = False, keep: bool = True) -> None:
    """Record that a sandbox has a volume, before it is attached. Idempotent.

    :param keep: the volume stays when the sandbox gives it up
    :raises ConfigError: there is no such volume
    :raises StateError: see `check_claim`
    """
    with _locked(layout.state_root):
        if find_volume(layout.state_root, name) is None:
            raise _unknown(layout.state_root, name)
        check_claim(layout, name, read_only)
        _change_users(layout, name, {layout.id: {"read_only": read_only, "keep": keep}})


def release_volume(layout: SandboxLayout, name: str) -> None:
    """Record that a sandbox does not have a volume any more, after it was detached. Idempotent."""
    if not os.path.isdir(os.path.join(volumes_dir(layout.state_root), check_name(name))):
        return
    with _locked(layout.state_root):
        _change_users(layout, name, {})


def claims_of(layout: SandboxLayout) -> dict[str, dict[str, bool]]:
    """The volumes that a sandbox has, by name: whether it only reads it (`read_only`), and whether it stays (`keep`).

    A volume whose list of sandboxes cannot be read is none of them: it must not keep other sandboxes from being changed and removed.
    """
    claims = {}
    for name in _names(layout.state_root):
        with contextlib.suppress(HostError):
            claims[name] = _claims(layout.state_root, name).get(layout.id)
    return {name: claim for name, claim in claims.items() if claim is not None}


def _change_users(layout: SandboxLayout, name: str, now: dict[str, dict[str, bool]]) -> None:
    """Replace what is recorded of one sandbox, and drop sandboxes that are gone."""
    path = os.path.join(volumes_dir(layout.state_root), name, USERS)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + DRAFT_END)
        listed = _read(path, _USERS) or {}
        others = {user: reads for user, reads in _alive(layout.state_root, listed).items() if user != layout.id}
        users = {**others, **now}
        if users != listed:
            _write(path, users)
    except (OSError, AnswerError) as problem:
        raise HostError(
            "the list of a volume's sandboxes cannot be written", wanted=path, answer=str(problem)
        ) from problem


# --- as a device -------------------------------------------------------------------------------------------------------


def device_of(volume: Volume, read_only: bool = False, hypervisor: str = "qemu") -> dict[str, Any]:
    """A volume as a checked device. Its serial number is its name, cut to what a guest sees, if the hypervisor's disks have one."""
    from ..options.device_options import check_devices

    device: dict[str, Any] = {
        "id": DEVICE_PREFIX + volume.name,
        "type": "block",
        "file": volume.path,
        "format": "raw",
        "read_only": read_only,
    }
    if hypervisor in WITH_SERIAL:
        device["serial"] = volume.name[:MOST_SERIAL]
    if hypervisor in ("qemu", "mock") and not read_only:
        # What the guest discards is free on the host again.
        device["discard"] = True
    return check_devices([device])[0]


def refuse_own_files(layout: SandboxLayout, devices: Iterable[Mapping[str, Any]]) -> None:
    """Refuse devices of a task that are files of volumes or of sandboxes' root disks, by whatever name, link or loop device. Changes nothing.

    :param devices: checked devices, without those of `device_of`
    :raises ConfigError: names the device, and the volume or the sandbox
    """
    from ..host.block_devices import file_keys

    named = [(str(device["id"]), str(device["file"])) for device in devices if device.get("file")]
    if not named:
        return
    keys = {key: (identity, path) for identity, path in named for key in file_keys(path)}
    for what, path, fix in _own_files(layout.state_root):
        for key in file_keys(path):
            if key in keys:
                identity, file = keys[key]
                raise ConfigError(
                    f"device {identity} must not be the disk of {what}", option="devices", wanted=file, fix=fix
                )


def _own_files(state_root: str) -> Iterator[tuple[str, str, str]]:
    """The disks of all volumes and the root disks of all sandboxes: whose each is, its path, and what to do instead."""
    places = (
        (volumes_dir(state_root), (DISK,), "volume", "Name it in the option volumes."),
        (os.path.join(state_root, "sandboxes"), ("root.qcow2", "root.raw"), "sandbox", "Use a copy, or a volume."),
    )
    for directory, files, what, fix in places:
        for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else ():
            for file in files:
                path = os.path.join(directory, name, file)
                if os.path.lexists(path):
                    yield f"{what} {name}", path, fix
