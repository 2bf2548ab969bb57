# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The root disk of a sandbox: a writable disk of its own, made from an image that is never written to.

    STATE_DIR/root-disk.json     what the disk is and what it is based on; written before the disk is created
    STATE_DIR/root.qcow2         QEMU: only what differs from the image. Its header names no file: the driver names the image to QEMU at each start
    STATE_DIR/root.raw           VMMs that read raw files: a copy that shares the image's blocks where the file system can do that

The caller holds the sandbox's lock. A task that is killed leaves a draft at most, which the next one replaces.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from typing import Any

from ..errors import AssetError, ConfigError, HostError, StateError
from ..host import qcow2, sparse_files
from ..host.atomic_files import put_in_place, replace_file, sync, write_problem
from ..host.digests import file_mark
from ..host.programs import QEMU_IMG_PACKAGES, installed_program, run
from ..host.units import MIB
from ..provisioning.image_users import DISK_RECORD, RECORD, note_state_root, read_disk_record
from ..records.layout import SandboxLayout
from ..records.record import SAVED
from ..untrusted.answers import AnswerError, checked
from .space import allocated, check_copy, thin_warning

#: The name of a disk that is not complete yet.
DRAFT = ".new-root-disk"
#: Seconds that qemu-img gets to create or to resize a disk. Neither takes longer for a larger disk.
QEMU_IMG_SECONDS = 60
FORMATS = ("qcow2", "raw")
OPTION, IMAGE = "root_disk_mb", "image"


@dataclasses.dataclass(frozen=True)
class RootDisk:
    """The root disk of one sandbox.

    :param path: the disk's file
    :param format: qcow2 (an overlay on the base) or raw (a copy of the base)
    :param base: the image that it was made from, without links in its path
    :param base_format: qcow2 or raw
    :param base_identity: what tells the base from another file, and from itself after a change, see `identity_of`
    :param size_mb: MiB
    """

    path: str
    format: str
    base: str
    base_format: str
    base_identity: str
    size_mb: int

    @property
    def needs_base(self) -> bool:
        """Whether the base is read while the VM runs."""
        return self.format == "qcow2"

    def as_record(self) -> dict[str, Any]:
        """The disk as a JSON-able value."""
        return dataclasses.asdict(self)

    @classmethod
    def from_record(cls, value: Any) -> RootDisk:
        """The disk from what `as_record` made.

        :raises AnswerError: it is something else
        """
        return cls(**checked(RECORD, value, "the record of the root disk"))


def disk_path(layout: SandboxLayout, disk_format: str) -> str:
    """Where a sandbox's root disk is."""
    return os.path.join(layout.state_dir, f"root.{disk_format}")


def find_root_disk(layout: SandboxLayout) -> RootDisk | None:
    """The root disk that a sandbox has, with its size as it is now; None if it has none, or if its creation was not finished.

    :raises AssetError: the disk is there and its description is not, or the other way round, or one of them cannot be read
    """
    path = os.path.join(layout.state_dir, DISK_RECORD)
    fix = "Restore it from a backup, or remove the sandbox with its disk (state: absent)."
    try:
        recorded = read_disk_record(layout.state_dir)
        if recorded is None:
            lost = [name for name in (disk_path(layout, kind) for kind in FORMATS) if os.path.lexists(name)]
            if lost:
                raise AssetError("the root disk must have a description beside it", wanted=path, fix=fix)
            return None
        disk = RootDisk(**recorded)
        if disk.path != disk_path(layout, disk.format):
            raise AssetError("the description of the root disk must name this sandbox's own disk", wanted=path, fix=fix)
        if not os.path.lexists(disk.path):
            return None
        return dataclasses.replace(disk, size_mb=qcow2.disk_size(disk.path, disk.format) // MIB)
    except (AnswerError, OSError, qcow2.NotQcow2) as problem:
        raise AssetError("the root disk cannot be read", wanted=path, answer=str(problem), fix=fix) from problem


# --- the base ----------------------------------------------------------------------------------------------------------


def identity_of(base: str) -> str:
    """Inode, size and time of change of an image, or the number of a block device, and the digest with which it was installed, if it was.

    The number of the file system is not in it, since a reboot may change that.

    :raises AssetError: there is no such image
    """
    from ..provisioning.installed_images import recorded_digest

    marks = file_mark(base)
    if marks.startswith("missing"):
        raise AssetError("the image does not exist", option=IMAGE, wanted=base, answer=marks)
    digest = recorded_digest(base)
    return marks + (f", sha256 {digest}" if digest else "")


def check_base(disk: RootDisk) -> None:
    """Refuse to start from a disk whose base is missing, or is not what it was when the disk was created. Nothing is changed.

    An image that was installed again with the same content is taken; its digest is computed only then.

    :raises AssetError: says what must be done
    """
    if not disk.needs_base:
        return
    marks, _comma, digest = disk.base_identity.partition(", sha256 ")
    now = file_mark(disk.base)
    if now == marks:
        return
    if digest and not now.startswith("missing"):
        from ..host.digests import file_digest

        if file_digest(disk.base, option=IMAGE) == digest:
            return
    wanted = f"the one with sha256 {digest}" if digest else f"the file that had {marks}"
    raise AssetError(
        f"the image that the root disk is based on must be as it was: it had {marks}, and now it is {now}",
        option=IMAGE,
        wanted=disk.base,
        fix=f"Put the image back ({wanted}). The sandbox's own data in {disk.path} is unchanged and cannot be read without it."
        " To give the data up, remove the sandbox and create it again.",
    )


def _size_of_base(base: str, base_format: str) -> int:
    """The size of the disk in an image, bytes.

    :raises AssetError: it cannot be used as an image of this format
    """
    qcow2.check_disk(base, True, IMAGE)
    qcow2.check_image(base, base_format, IMAGE)
    try:
        size = qcow2.disk_size(base, base_format)
    except (OSError, qcow2.NotQcow2) as problem:
        raise AssetError("the image cannot be read", option=IMAGE, wanted=base, answer=str(problem)) from problem
    if not size:
        raise AssetError("the image must not be empty", option=IMAGE, wanted=base)
    return size


# --- plan --------------------------------------------------------------------------------------------------------------


def plan_root_disk(
    layout: SandboxLayout, base: str, base_format: str, disk_format: str, size_mb: int = 0, replaces: bool = False
) -> list[str]:
    """Check that a sandbox can have this root disk, or has it. Changes nothing. Returns warnings.

    :param base_format: raw or qcow2
    :param disk_format: what the VMM reads: qcow2 or raw
    :param size_mb: MiB; 0 for the size that it has, or that the image has
    :param replaces: a disk that is there now is removed before this one is created
    :raises ConfigError: the disk would be smaller than the image, or than it is; or it is a disk of another image
    :raises AssetError: the image cannot be used
    :raises HostError: a program is missing, or there is not enough space for a copy
    """
    there = None if replaces else find_root_disk(layout)
    if there is not None:
        _check_same(there, base, disk_format, size_mb)
        return thin_warning(layout.state_dir, size_mb * MIB, OPTION) if size_mb > there.size_mb else []
    size = _wanted_size(base, base_format, disk_format, size_mb)
    if disk_format == "qcow2":
        installed_program("qemu-img", QEMU_IMG_PACKAGES)
    else:
        check_copy(base, layout.state_dir, OPTION)
    return thin_warning(layout.state_dir, size * MIB, OPTION)


def _check_same(disk: RootDisk, base: str, disk_format: str, size_mb: int) -> None:
    from ..provisioning.kept_images import built_path

    if built_path(os.path.realpath(disk.base)) != os.path.realpath(base) or disk.format != disk_format:
        raise ConfigError(
            f"the sandbox has a root disk based on {disk.base}, in the format {disk.format}",
            option=IMAGE,
            wanted=base,
            fix="Remove the sandbox with its disk and create it again, or name that image.",
        )
    if size_mb and size_mb < disk.size_mb:
        raise _too_small(
            f"the root disk has {disk.size_mb} MiB, and a disk is never made smaller", disk.size_mb, size_mb
        )


def _too_small(message: str, least: int, wanted: int) -> ConfigError:
    return ConfigError(message, option=OPTION, wanted=wanted, fix=f"Set {OPTION} to at least {least}.")


def _wanted_size(base: str, base_format: str, disk_format: str, size_mb: int) -> int:
    """The size of a new disk, MiB."""
    if disk_format == "raw" and base_format != "raw":
        raise ConfigError(
            f"this hypervisor reads raw disks, and the image is in the format {base_format}",
            option="image_format",
            wanted=base_format,
            fix="Convert the image with the module kata_disk_image, or let the role kata_image do it.",
        )
    least = -(-_size_of_base(base, base_format) // MIB)
    if size_mb and size_mb < least:
        raise _too_small(f"the image has {least} MiB, and its disk must not be smaller", least, size_mb)
    return size_mb or least


# --- create, grow, remove ----------------------------------------------------------------------------------------------


def create_root_disk(
    layout: SandboxLayout, base: str, base_format: str, disk_format: str, size_mb: int = 0
) -> RootDisk:
    """Create a sandbox's root disk. The one that it has is returned as it is. The parameters are those of `plan_root_disk`, and so are the errors.

    :raises HostError: the disk is full, or the file cannot be written
    """
    there = find_root_disk(layout)
    if there is not None:
        _check_same(there, base, disk_format, 0)
        return there
    size = _wanted_size(base, base_format, disk_format, size_mb)
    # A link such as `current` leads to another version after an upgrade.
    image = os.path.realpath(base)
    disk = RootDisk(disk_path(layout, disk_format), disk_format, image, base_format, identity_of(image), size)
    draft = os.path.join(layout.state_dir, DRAFT)
    try:
        _drop(draft)
        with _staying(disk) as base:
            # First the note: from now on, the image stays installed.
            disk = dataclasses.replace(disk, base=base)
            if disk.needs_base:
                note_state_root(image, layout.state_root)
            _write_record(layout, disk)
        if disk_format == "qcow2":
            _make_overlay(draft, size)
        else:
            _make_copy(disk.base, draft, size, layout.state_dir)
        put_in_place(draft, disk.path)
    except BaseException as problem:
        for path in (draft, disk.path, os.path.join(layout.state_dir, DISK_RECORD)):
            _drop(path)
        if isinstance(problem, OSError):
            raise write_problem(problem, "the root disk cannot be created", disk.path, OPTION) from problem
        raise
    return disk


def _staying(disk: RootDisk) -> contextlib.AbstractContextManager[str]:
    """The path under which the base of a new disk stays."""
    from ..provisioning.built_files import BuiltFile
    from ..provisioning.kept_images import kept_base

    if disk.needs_base and BuiltFile(disk.base).note():
        return kept_base(disk.base)
    return contextlib.nullcontext(disk.base)


def _drop(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _write_record(layout: SandboxLayout, disk: RootDisk) -> None:
    path = os.path.join(layout.state_dir, DISK_RECORD)
    data = (json.dumps(disk.as_record(), indent=1, sort_keys=True) + "\n").encode()
    replace_file(path, data, 0o600, f"{path}.new")


def _make_overlay(draft: str, size_mb: int) -> None:
    """An empty qcow2 file. What is not written in it is read from the image, which the driver names to QEMU; the header names nothing."""
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    os.chmod(draft, 0o600)
    _qemu_img("create", "-q", "-f", "qcow2", draft, str(size_mb * MIB))


def _make_copy(base: str, draft: str, size_mb: int, directory: str) -> None:
    """A copy of the image, which shares its blocks where the file system can do that."""
    source = os.open(base, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    target = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(target, 0o600)
        if not sparse_files.share_data(source, target):
            check_copy(base, directory, OPTION, shared=False)
            (sparse_files.copy_device if qcow2.is_block(source) else sparse_files.copy_data)(source, target)
        os.ftruncate(target, size_mb * MIB)
    finally:
        os.close(target)
        os.close(source)


def _qemu_img(*arguments: str) -> None:
    program = installed_program("qemu-img", QEMU_IMG_PACKAGES)
    run([program, *arguments], QEMU_IMG_SECONDS).raise_on_failure()


def grow_root_disk(disk: RootDisk, size_mb: int) -> RootDisk:
    """Grow a disk while its VM is off. A disk that has this size is returned as it is. Its file system grows in the guest.

    :raises ConfigError: it would become smaller
    :raises StateError: a VM uses it, or was saved with it
    :raises HostError: it cannot be written
    """
    from ..host.block_devices import Use, check_free

    path = disk.path
    try:
        now = qcow2.disk_size(path, disk.format)
        if size_mb * MIB < now:
            least = -(-now // MIB)
            raise _too_small(f"the root disk has {least} MiB, and a disk is never made smaller", least, size_mb)
        check_free(Use(path, True, "the root disk"), option=OPTION)
        if size_mb * MIB > now and os.path.isdir(os.path.join(os.path.dirname(path), SAVED)):
            raise StateError(
                "the sandbox was saved with its disk as it is",
                option=OPTION,
                wanted=size_mb,
                fix="Start the sandbox first, or give the saved state up (state: stopped, disruption: restart).",
            )
        if size_mb * MIB > now:
            if disk.format == "qcow2":
                _check_own_header(path)
                _qemu_img("resize", "-q", "-f", "qcow2", path, str(size_mb * MIB))
            else:
                os.truncate(path, size_mb * MIB)
            sync(path)
    except (OSError, qcow2.NotQcow2) as problem:
        problem = problem if isinstance(problem, OSError) else OSError(str(problem))
        raise write_problem(problem, "the root disk cannot be grown", path, OPTION) from problem
    grown = dataclasses.replace(disk, size_mb=size_mb)
    directory = os.path.dirname(path)
    if read_disk_record(directory):
        data = (json.dumps(grown.as_record(), indent=1, sort_keys=True) + "\n").encode()
        replace_file(os.path.join(directory, DISK_RECORD), data, 0o600, os.path.join(directory, f"{DISK_RECORD}.new"))
    return grown


def _check_own_header(path: str) -> None:
    """Refuse an overlay whose header names other files. None that we made does: a VMM that its guest took over could have written that."""
    descriptor = qcow2.open_disk(path, True, OPTION)
    try:
        qcow2.check_open_image(descriptor, path, "qcow2", OPTION)
    finally:
        os.close(descriptor)


def remove_root_disk(layout: SandboxLayout) -> bool:
    """Remove a sandbox's root disk, with everything that an unfinished creation left. Idempotent. Returns whether there was one.

    :raises StateError: a VM uses it
    :raises HostError: it cannot be removed
    """
    from ..host.block_devices import Use, check_free

    disks = [path for path in (disk_path(layout, kind) for kind in FORMATS) if os.path.lexists(path)]
    for path in disks:
        check_free(Use(path, True, "the root disk"), option=OPTION)
    base = _recorded_base(layout)
    try:
        # Last the note, which keeps the image.
        for path in (
            *disks,
            *(os.path.join(layout.state_dir, name) for name in (DRAFT, f"{DISK_RECORD}.new", DISK_RECORD)),
        ):
            _drop(path)
        if os.path.isdir(layout.state_dir):
            sync(layout.state_dir)
    except OSError as problem:
        raise HostError("the root disk cannot be removed", wanted=layout.state_dir, answer=str(problem)) from problem
    if base:
        from ..provisioning.kept_images import remove_unused

        remove_unused(base)
    return bool(disks)


def _recorded_base(layout: SandboxLayout) -> str:
    """The base of a disk that is about to be removed, as far as that can be known."""
    try:
        return str((read_disk_record(layout.state_dir) or {}).get("base", ""))
    except (AnswerError, OSError):
        return ""


def used_mb(disk: RootDisk) -> int:
    """MiB that the disk takes on the host; blocks that it shares with its image are counted too."""
    return -(-allocated(disk.path) // MIB)
