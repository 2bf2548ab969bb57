# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The jail of a Firecracker: who it is, what is in it, how it is entered, and how all of it is removed.

The jailer never removes anything, and will not enter a jail that is there already; both are done here.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
import shutil
import stat
import time

from ansible_collections.kata.hypervisor.plugins.module_utils.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, HostError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.dialect import can, dialect_for
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.endpoints import Version
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.state import Jail
from ansible_collections.kata.hypervisor.plugins.module_utils.params import serialize_params
from ansible_collections.kata.hypervisor.plugins.module_utils.programs import run

CGROUP_ROOT = "/sys/fs/cgroup"
MOUNT_INFO = "/proc/self/mountinfo"
#: The first of 2^28 uids that no distribution and no systemd hands out (systemd, UIDS-GIDS).
FIRST_UID = 0x70000000
UIDS = 1 << 28
#: The longest id that is kept as it is. The jailer takes letters, digits and hyphens, 64 at most.
KEPT_ID = re.compile(r"(?!.*--)[A-Za-z0-9-]{1,48}")
MOUNT_SECONDS = 10
CGROUP_SECONDS = 2.0


def jail_id(sandbox: str) -> str:
    """The sandbox's id in the jailer's alphabet; different ids stay different."""
    if KEPT_ID.fullmatch(sandbox):
        return sandbox
    readable = re.sub(r"[^A-Za-z0-9]+", "-", sandbox)[:24].strip("-")
    return f"{readable}--{hashlib.sha256(sandbox.encode()).hexdigest()[:32]}"


def plan_jail(config: HypervisorConfig, sandbox: str, base: str, program: str) -> Jail:
    """The jail that a sandbox is going to have, with a user of its own unless the task names one. Changes nothing."""
    name = jail_id(sandbox)
    uid = config.jailer_uid or free_uid(sandbox, os.path.join(base, program), name)
    return Jail(base, program, name, uid, config.jailer_gid or uid)


def find_jail(base: str, sandbox: str) -> Jail | None:
    """The jail that a sandbox has left below a directory, whatever the program's name was; None where there is none."""
    for directory in glob.glob(os.path.join(glob.escape(base), "*", jail_id(sandbox))):
        program = os.path.basename(os.path.dirname(directory))
        with contextlib.suppress(OSError):
            owner = os.lstat(os.path.join(directory, "root"))
            return Jail(base, program, jail_id(sandbox), owner.st_uid, owner.st_gid)
    return None


def free_uid(sandbox: str, jails: str, own: str) -> int:
    """A uid that is always the same for a sandbox, unless another jail has it already."""
    taken = set()
    for root in glob.glob(os.path.join(glob.escape(jails), "*", "root")):
        if os.path.basename(os.path.dirname(root)) != own:
            with contextlib.suppress(OSError):
                taken.add(os.lstat(root).st_uid)
    number = int.from_bytes(hashlib.sha256(sandbox.encode()).digest()[:8], "big")
    return next(uid for uid in (FIRST_UID + (number + step) % UIDS for step in range(UIDS)) if uid not in taken)


def argv(config: HypervisorConfig, jailer: str, firecracker: str, version: Version, jail: Jail, arguments: list[str]) -> list[str]:
    """The jailer's whole command line.

    :param arguments: Firecracker's own
    """
    old = dialect_for(version).old_jailer
    words = [jailer, "--id", jail.id]
    if tuple(version) < (1, 0):
        words += ["--node", "0"]
    if old:
        words += ["--seccomp-level", "2"]
    words += ["--exec-file", firecracker, "--uid", str(jail.uid), "--gid", str(jail.gid), "--chroot-base-dir", jail.base]
    if config.network_namespace:
        words += ["--netns", config.network_namespace]
    if can(version, "cgroup_version"):
        words += ["--cgroup-version", str(cgroup_version())]
    for setting in serialize_params(config.jailer_cgroups):
        words += ["--cgroup", setting]
    for limit in serialize_params(config.jailer_limits):
        words += ["--resource-limit", limit]
    if can(version, "pid_namespace"):
        words.append("--new-pid-ns")
    return words if old else [*words, "--", *arguments]


def cgroup_version(root: str = CGROUP_ROOT) -> int:
    """2 where the unified hierarchy is mounted, else 1. The jailer believes in 1 until it is told."""
    return 2 if os.path.exists(os.path.join(root, "cgroup.controllers")) else 1


def check_base(base: str) -> None:
    """Refuse a place for jails that others could tamper with, or in which nothing could run (CVE-2026-1386).

    :raises HostError: part of the path is a link, belongs to somebody else, or others may write to it; or its file system is mounted nodev or noexec
    """
    trusted = {0, os.geteuid()}
    path = ""
    status = os.lstat("/")
    for part in base.strip("/").split("/"):
        path = f"{path}/{part}"
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            path = os.path.dirname(path) or "/"
            break
        except OSError as error:
            raise HostError("this place for jails cannot be used", option="chroot_base_dir", wanted=base, answer=str(error)) from error
        problem = ""
        if stat.S_ISLNK(status.st_mode):
            problem = "is a symbolic link"
        elif not stat.S_ISDIR(status.st_mode):
            problem = "is not a directory"
        elif status.st_uid not in trusted:
            problem = f"belongs to user {status.st_uid}"
        elif status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
            problem = "can be written to by others"
        if problem:
            raise HostError(
                f"jails are not safe below {path}: it {problem}",
                option="chroot_base_dir",
                wanted=base,
                fix="Choose a directory that is root's alone, all the way up.",
            )
    flags = os.statvfs(path).f_flag
    if flags & (os.ST_NODEV | os.ST_NOEXEC):
        raise HostError(
            f"{path} is mounted nodev or noexec; a jail has devices and a program in it", option="chroot_base_dir", wanted=base
        )


def make(jail: Jail) -> None:
    """Make the empty jail, root's alone.

    :raises HostError: it is there already, or cannot be made
    """
    check_base(jail.base)
    try:
        os.makedirs(os.path.join(jail.base, jail.program), mode=0o700, exist_ok=True)
        os.mkdir(jail.directory, 0o700)
        os.mkdir(jail.root, 0o700)
    except OSError as error:
        raise HostError("the jail cannot be made", wanted=jail.directory, answer=str(error)) from error


def make_file(jail: Jail, name: str, size: int = 0) -> None:
    """An empty file in the jail that its user can write to."""
    descriptor = os.open(jail.path(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, size)
        os.fchown(descriptor, jail.uid, jail.gid)
    finally:
        os.close(descriptor)


def make_directory(jail: Jail, name: str) -> str:
    """A directory in the jail that its user can write to; returns where the host sees it."""
    os.mkdir(jail.path(name), 0o700)
    os.chown(jail.path(name), jail.uid, jail.gid)
    return jail.path(name)


def allows(status: os.stat_result, jail: Jail, bits: int) -> bool:
    """May the jail's user do that (bits 4 to read, 2 to write) with a file?"""
    shift = 6 if status.st_uid == jail.uid else 3 if status.st_gid == jail.gid else 0
    return (status.st_mode >> shift) & bits == bits


def check_disk(jail: Jail, path: str, option: str = "devices") -> None:
    """Refuse a disk that the jail's user could not write to. The owner of a user's file is never changed.

    :raises ConfigError: says which user that is
    """
    status = os.stat(path)
    if stat.S_ISREG(status.st_mode) and not allows(status, jail, 6):
        raise ConfigError(
            f"the jail's user {jail.uid} (group {jail.gid}) may not write to this disk",
            option=option,
            wanted=path,
            fix=f"Give it to that user (chown {jail.uid}:{jail.gid}), name its owner with jailer_uid and jailer_gid, or attach it read_only.",
        )


def bring(jail: Jail, source: str, name: str, read_only: bool, shared: bool = False, pid: int = 0) -> None:
    """Let the jail have a file or a block device of the host's: linked where that is safe, else copied or mounted.

    What is read only and might be written to by the jail's user, or not read, is copied; a disk to write to on another file system is
    bind-mounted; of a block device a node is made.

    :param shared: it is never copied, since it is the same for many
    :param pid: who lives in the jail already, and sees what is mounted there now only where the host shares its mounts (mount_namespaces(7))

    :raises HostError: it cannot be done
    """
    source = os.path.realpath(source)
    target = jail.path(name)
    try:
        status = os.stat(source)
        if stat.S_ISBLK(status.st_mode):
            os.mknod(target, stat.S_IFBLK | (0o400 if read_only else 0o600), status.st_rdev)
            os.chown(target, jail.uid, jail.gid)
            return
        if not read_only or (allows(status, jail, 4) and not allows(status, jail, 2)):
            if status.st_dev == os.stat(jail.root).st_dev:
                os.link(source, target)
                return
            if shared or not read_only:
                _mount(jail, source, name)
                if pid and not os.path.samefile(f"/proc/{pid}/root/{name}", source):
                    drop(jail, name)
                    raise HostError(
                        "this lies on another file system than the jail, and this host's mounts are not seen in a jail that runs",
                        option="devices",
                        wanted=source,
                        fix=f"Move it to the file system of {jail.base}, or restart the sandbox (disruption: restart).",
                    )
                return
        shutil.copyfile(source, target)
        os.chmod(target, 0o400)
        os.chown(target, jail.uid, jail.gid)
    except OSError as error:
        raise HostError(f"{source} cannot be brought into the jail", wanted=source, answer=str(error)) from error


def _mount(jail: Jail, source: str, name: str) -> None:
    make_file(jail, name)
    run(["mount", "--bind", source, jail.path(name)], MOUNT_SECONDS).checked()


def drop(jail: Jail, name: str) -> None:
    """Take out of the jail what L(bring) brought into it."""
    for mount in mounts_below(jail.path(name)):
        run(["umount", "--lazy", mount], MOUNT_SECONDS).checked()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(jail.path(name))


def mounts_below(path: str) -> list[str]:
    """Mount points at or below a path, the deepest first (proc(5), mountinfo; blanks are written as octal numbers)."""
    found = []
    with open(MOUNT_INFO, encoding="utf-8", errors="surrogateescape") as stream:
        for line in stream:
            point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), line.split()[4])
            if point == path or point.startswith(path.rstrip("/") + "/"):
                found.append(point)
    return sorted(found, key=len, reverse=True)


def remove(jail: Jail) -> None:
    """Remove the whole jail: mounts, cgroups, files. Idempotent. Nothing outside of it is followed into.

    :raises HostError: something is still in use
    """
    for mount in mounts_below(jail.directory):
        run(["umount", "--lazy", mount], MOUNT_SECONDS).checked()
    for group in cgroups(jail):
        _remove_cgroup(group)
    if os.path.lexists(jail.directory):
        try:
            shutil.rmtree(jail.directory)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise HostError("the jail cannot be removed", wanted=jail.directory, answer=str(error)) from error
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(jail.directory))


def _remove_cgroup(path: str) -> None:
    """Remove a cgroup; the kernel may hold it for a moment after its last process has ended."""
    deadline = time.monotonic() + CGROUP_SECONDS
    while True:
        try:
            os.rmdir(path)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if time.monotonic() >= deadline:
                raise HostError("a cgroup of the jail cannot be removed", wanted=path, answer=str(error)) from error
        time.sleep(0.01)


def cgroups(jail: Jail, root: str = CGROUP_ROOT) -> list[str]:
    """The cgroups that the jailer made for a jail: one in each of version 1's hierarchies, or one in version 2's."""
    places = [root, *sorted(glob.glob(os.path.join(glob.escape(root), "*")))]
    return [path for path in (os.path.join(place, jail.program, jail.id) for place in places) if os.path.isdir(path)]
