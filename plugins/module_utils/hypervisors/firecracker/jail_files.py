# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files in a jail. Its user can write to its root directory and everything below, so all of it goes through `untrusted/files.py`.

The jail's own directory, in which that root lies, and all directories above it are root's and closed to others (`jailer.check_base`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Iterator

from ...errors import ConfigError, HostError
from ...untrusted.files import PATH_ONLY, Directory
from .state import Jail

#: What a file is called in a jail until it is complete.
DRAFT = ".new-"
#: Bytes of Firecracker's log that are kept when its jail goes.
KEPT_LOG = 1 << 20
#: Why a file cannot be linked and has to be mounted or copied: another file system, overlayfs, too many names, no links there.
NOT_LINKABLE = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)


@contextlib.contextmanager
def opened(jail: Jail) -> Iterator[Directory]:
    """The jail's root directory.

    :raises FileNotFoundError: there is no jail
    """
    with Directory.open(jail.root) as root:
        yield root


def make(jail: Jail) -> None:
    """Make the empty jail, root's alone. The directory of all jails has been checked.

    :raises HostError: it is there already, or cannot be made
    """
    try:
        _make_parents(os.path.join(jail.base, jail.program))
        with Directory.open(os.path.join(jail.base, jail.program)) as jails, jails.make_directory(jail.id) as own:
            own.make_directory("root").close()
    except OSError as error:
        raise HostError("the jail cannot be made", wanted=jail.directory, answer=str(error)) from error


def _make_parents(path: str) -> None:
    """Make the directories that are missing, closed to all others whatever the umask is."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for directory in reversed(missing):
        with contextlib.suppress(FileExistsError):  # Another task makes a jail in this moment.
            os.mkdir(directory, 0o700)
            os.chmod(directory, 0o700)


def make_file(jail: Jail, name: str, size: int = 0) -> None:
    """An empty file in the jail that its user can write to."""
    with opened(jail) as root:
        os.close(root.create(name, 0o600, jail.uid, jail.gid, size))


def make_log(jail: Jail, name: str) -> None:
    """An empty file beside the jail's root directory, which its user writes to under another name in there.

    So nobody reads a log through a name that the jail's user can exchange, and it fills no other file system than the jail does.
    """
    with Directory.open(jail.directory) as own, opened(jail) as root:
        descriptor = own.create(name, 0o600, jail.uid, jail.gid)
        try:
            root.link(descriptor, name)
        finally:
            os.close(descriptor)


def make_directory(jail: Jail, name: str) -> Directory:
    """A new directory in the jail that its user can write to; what had that name is removed."""
    with opened(jail) as root:
        root.remove(name)
        return root.make_directory(name, 0o700, jail.uid, jail.gid)


def allows(status: os.stat_result, jail: Jail, bits: int) -> bool:
    """May the jail's user do that (bits 4 to read, 2 to write) with a file?"""
    shift = 6 if status.st_uid == jail.uid else 3 if status.st_gid == jail.gid else 0
    return (status.st_mode >> shift) & bits == bits


def check_disk(jail: Jail, path: str, option: str = "devices") -> None:
    """Refuse a disk that the jail's user could not write to. The owner of a user's file is never changed.

    :raises ConfigError: says which user that is
    """
    status = os.stat(path)
    if stat.S_ISREG(status.st_mode) and not is_volume(path) and not allows(status, jail, 6):
        raise ConfigError(
            f"the jail's user {jail.uid} (group {jail.gid}) may not write to this disk",
            option=option,
            wanted=path,
            fix=f"Give it to that user (chown {jail.uid}:{jail.gid}), name its owner with jailer_uid and jailer_gid, or attach it read_only.",
        )


def is_volume(path: str) -> bool:
    """Whether a file is the disk of a volume (`resources/volumes.py`): its directory is ours and closed to others, and has the volume's note."""
    directory, name = os.path.split(path)
    try:
        status = os.lstat(directory)
        note = os.lstat(os.path.join(directory, "volume.json"))
    except OSError:
        return False
    return (
        name == "disk.raw" and stat.S_IMODE(status.st_mode) == 0o700 and {status.st_uid, note.st_uid} == {os.geteuid()}
    )


def give(jail: Jail, path: str, read_only: bool = False) -> None:
    """Let the jail's user read and write a file of ours, in a directory that is closed to others; what is read only is ours and can be read by all jails.

    :raises HostError: it is not a regular file, or its owner cannot be changed
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise HostError("must be a regular file", wanted=path)
            if read_only:
                os.fchown(descriptor, os.geteuid(), os.getegid())
            else:
                os.fchown(descriptor, jail.uid, jail.gid)
            os.fchmod(descriptor, 0o644 if read_only else 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise HostError("the jail's user cannot get this file", wanted=path, answer=str(error)) from error


def bring(jail: Jail, source: str, name: str, read_only: bool, shared: bool = False, pid: int = 0) -> None:
    """Let the jail have a file or a block device of the host's: linked where that is safe, else copied or mounted.

    What is read only and might be written to by the jail's user, or not read, is copied; a disk to write to that cannot be linked is
    bind-mounted; of a block device a node is made. What has that name in the jail already is replaced, and stays when this fails.

    :param shared: it is never copied, since it is the same for many
    :param pid: who lives in the jail already, and sees what is mounted there now only where the host shares its mounts (mount_namespaces(7))

    :raises HostError: it cannot be done
    """
    source = os.path.realpath(source)
    try:
        held = os.open(source, PATH_ONLY)
        try:
            with opened(jail) as root:
                root.remove(DRAFT + name)
                if not _bring_draft(jail, root, held, name, read_only, shared):
                    _mount(jail, root, held, name, source, pid)
                    return
                _drop(jail, root, name)
                root.rename(DRAFT + name, root, name)
        finally:
            os.close(held)
    except OSError as error:
        raise HostError(f"{source} cannot be brought into the jail", wanted=source, answer=str(error)) from error


def _bring_draft(jail: Jail, root: Directory, held: int, name: str, read_only: bool, shared: bool) -> bool:
    """Make a node, link or copy under a draft's name; False where the file has to be mounted."""
    status = os.fstat(held)
    if stat.S_ISBLK(status.st_mode):
        root.make_node(DRAFT + name, stat.S_IFBLK, status.st_rdev, 0o400 if read_only else 0o600, jail.uid, jail.gid)
        return True
    if not read_only or (allows(status, jail, 4) and not allows(status, jail, 2)):
        try:
            root.link(held, DRAFT + name)
            return True
        except OSError as error:
            if error.errno not in NOT_LINKABLE:
                raise
        if shared or not read_only:
            return False
    from ...host import sparse_files

    content = os.open(f"/proc/self/fd/{held}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        copy = root.create(DRAFT + name)
        try:
            sparse_files.copy_data(content, copy)
            os.fchmod(copy, 0o400)
            os.fchown(copy, jail.uid, jail.gid)
        finally:
            os.close(copy)
    finally:
        os.close(content)
    return True


def _mount(jail: Jail, root: Directory, held: int, name: str, source: str, pid: int) -> None:
    """Mount a file, once it is known that who lives in the jail sees the mount."""
    from ...host import mounts

    for place in (DRAFT + name, name) if pid else (name,):
        _drop(jail, root, place)
        descriptor = root.create(place, 0o600, jail.uid, jail.gid)
        try:
            mounts.bind(held, descriptor)
        finally:
            os.close(descriptor)
        if pid and not _sees(pid, place, os.fstat(held)):
            _drop(jail, root, place)
            raise HostError(
                "this cannot be linked into the jail, and this host's mounts are not seen in a jail that runs",
                option="devices",
                wanted=source,
                fix=f"Move it to the file system of {jail.base}, or restart the sandbox (disruption: restart).",
            )
        if place != name:
            _drop(jail, root, place)


def _sees(pid: int, name: str, wanted: os.stat_result) -> bool:
    """Is a file in the root directory of a process the wanted one?"""
    with Directory.open(f"/proc/{pid}/root/.") as root:
        found = root.status(name)
    return found is not None and os.path.samestat(found, wanted)


def drop(jail: Jail, name: str) -> None:
    """Take out of the jail what `bring` brought into it. Idempotent."""
    with contextlib.suppress(FileNotFoundError), opened(jail) as root:
        _drop(jail, root, name)


def _drop(jail: Jail, root: Directory, name: str) -> None:
    from ...host import mounts

    mounts.remove_below(jail.directory, jail.path(name))
    root.remove(name)


def remove(jail: Jail) -> None:
    """Remove all of the jail's files and mounts. Idempotent. Nothing outside of it is followed into.

    :raises HostError: something is still in use
    """
    from ...host import mounts

    try:
        with contextlib.suppress(FileNotFoundError), opened(jail) as root:
            root.close_to_others()
        mounts.remove_below(jail.directory, jail.directory)
        with Directory.open(os.path.dirname(jail.directory)) as jails:
            jails.remove(jail.id)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise HostError("the jail cannot be removed", wanted=jail.directory, answer=str(error)) from error
    if os.path.lexists(jail.directory):
        raise HostError(
            "the jail cannot be removed",
            wanted=jail.directory,
            fix="Something adds files to it: end it, and run the task again.",
        )
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(jail.directory))


def recorded_pid(jail: Jail) -> int:
    """The pid in the jail's pid file, 0 when there is none. Whoever can write to the jail can write another one."""
    try:
        with opened(jail) as root:
            return int(root.read(f"{jail.program}.pid", limit=16))
    except (OSError, ValueError, HostError):
        return 0


def tail(jail: Jail, name: str, size: int) -> bytes:
    """The last bytes of a file in the jail, empty when the file does not exist."""
    try:
        with opened(jail) as root:
            return root.tail(name, size)
    except OSError:
        return b""


def keep_log(jail: Jail, name: str, target: str) -> None:
    """Keep the end of a log whose jail is about to go. An earlier version of the engine had it in the jail."""
    if not os.path.lexists(jail.directory):
        return
    try:
        with Directory.open(jail.directory) as own:
            beside = own.status(name) is not None
            words = own.tail(name, KEPT_LOG) if beside else tail(jail, name, KEPT_LOG)
    except OSError:
        return
    if not beside and not words:
        return
    with contextlib.suppress(OSError), Directory.open(os.path.dirname(target)) as directory:
        directory.remove(os.path.basename(target))
        with open(directory.create(os.path.basename(target)), "wb") as stream:
            stream.write(words)
