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
import stat
import time

from ...errors import HostError
from ...options.config import HypervisorConfig
from ...options.kernel_params import serialize_params
from . import jail_files
from .api.dialect import can, dialect_for
from .api.endpoints import Version
from .state import Jail

CGROUP_ROOT = "/sys/fs/cgroup"
#: The first of 2^28 uids that no distribution and no systemd hands out (systemd, UIDS-GIDS).
FIRST_UID = 0x70000000
UIDS = 1 << 28
#: The longest id that is kept as it is. The jailer takes letters, digits and hyphens, 64 at most.
KEPT_ID = re.compile(r"(?!.*--)[A-Za-z0-9-]{1,48}")
CGROUP_SECONDS = 2.0


def jail_id(sandbox: str) -> str:
    """The sandbox's id in the jailer's alphabet; different ids stay different."""
    if KEPT_ID.fullmatch(sandbox):
        return sandbox
    readable = re.sub(r"[^A-Za-z0-9]+", "-", sandbox)[:24].strip("-")
    digest = hashlib.sha256(sandbox.encode("utf-8", "backslashreplace")).hexdigest()
    return f"{readable}--{digest[:32]}"


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
    number = int.from_bytes(hashlib.sha256(sandbox.encode("utf-8", "backslashreplace")).digest()[:8], "big")
    return next(uid for uid in (FIRST_UID + (number + step) % UIDS for step in range(UIDS)) if uid not in taken)


def argv(
    config: HypervisorConfig, jailer: str, firecracker: str, version: Version, jail: Jail, arguments: list[str]
) -> list[str]:
    """The jailer's whole command line.

    :param arguments: Firecracker's own
    """
    old = dialect_for(version).old_jailer
    words = [jailer, "--id", jail.id]
    if tuple(version) < (1, 0):
        words += ["--node", "0"]
    if old:
        words += ["--seccomp-level", "2"]
    words += [
        "--exec-file",
        firecracker,
        "--uid",
        str(jail.uid),
        "--gid",
        str(jail.gid),
        "--chroot-base-dir",
        jail.base,
    ]
    if config.network_namespace:
        words += ["--netns", config.network_namespace]
    if can(version, "cgroup_version"):
        words += ["--cgroup-version", str(cgroup_version())]
    if can(version, "parent_cgroup"):
        words += ["--parent-cgroup", jail.cgroup_parent]
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
            raise HostError(
                "this place for jails cannot be used", option="chroot_base_dir", wanted=base, answer=str(error)
            ) from error
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
            f"{path} is mounted nodev or noexec; a jail has devices and a program in it",
            option="chroot_base_dir",
            wanted=base,
        )


def make(jail: Jail) -> None:
    """Make the empty jail, root's alone.

    :raises HostError: its place is not safe, it is there already, or it cannot be made
    """
    check_base(jail.base)
    jail_files.make(jail)


def remove(jail: Jail) -> None:
    """Remove the jail: mounts, cgroups, files. Idempotent. Nothing outside of it is followed into.

    :raises HostError: something is still in use
    """
    for group in cgroups(jail):
        _remove_cgroup(group)
    for parent in _places(jail.cgroup_parent):
        _remove_cgroup(parent)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(parent))  # The last one.
    jail_files.remove(jail)


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
    return [
        path for parent in (jail.cgroup_parent, jail.program) for path in _places(os.path.join(parent, jail.id), root)
    ]


def _places(group: str, root: str = CGROUP_ROOT) -> list[str]:
    """Where there is a cgroup of that name."""
    places = [root, *sorted(glob.glob(os.path.join(glob.escape(root), "*")))]
    return [path for path in (os.path.join(place, group) for place in places) if os.path.isdir(path)]
