# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user that a VMM runs as, and which files that user may open.

If a task of root sets no user, each sandbox has a uid of its own, which no other sandbox has and which owns no file of the host.
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from typing import NamedTuple

from ..errors import AssetError, ConfigError, HostError
from .processes import uid_of

#: A shell script that prints the index of each file that may not be used: `sh -c TEST sh MODE PATH MODE PATH...`.
TEST = 'n=0; while [ $# -gt 0 ]; do case $1 in *r*) [ -r "$2" ];; esac && case $1 in *w*) [ -w "$2" ];; esac &&'
TEST += ' case $1 in *x*) [ -x "$2" ];; esac || echo $n; n=$((n + 1)); shift 2; done'
TEST_SECONDS = 30
#: The first of 2^28 uids that neither distributions nor systemd assign (systemd, UIDS-GIDS). Jails use uids of this range too.
FIRST_UID = 0x70000000
UIDS = 1 << 28
MODES = {"r": "read", "w": "write to", "x": "enter or execute"}


class User(NamedTuple):
    """A user of the host.

    :param groups: all groups, including the primary one
    """

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]

    @property
    def is_own(self) -> bool:
        """Whether it is the uid of one sandbox only."""
        return is_own_uid(self.uid)


def is_own_uid(uid: int) -> bool:
    """Whether a uid is in the range of sandboxes."""
    return FIRST_UID <= uid < FIRST_UID + UIDS


def own_user(sandbox: str, uid: int, nodes: tuple[str, ...] = ()) -> User:
    """The user of one sandbox only. Its group has the same number.

    :param nodes: device nodes that the VMM opens by name; the user is in the groups that may use them
    """
    groups = [uid]
    for node in nodes:
        with contextlib.suppress(OSError):
            found = os.stat(node)
            if found.st_mode & 0o060 == 0o060 and found.st_gid:
                groups.append(found.st_gid)
    return User(f"of sandbox {sandbox}", uid, uid, tuple(dict.fromkeys(groups)))


def own_uid(run_dir: str, jails: str, recorded: int = 0) -> int:
    """The uid of one sandbox only: the recorded one, or one that is computed from its directory. If another sandbox has it by now, the next free one.

    :param run_dir: run directory of the sandbox; the directories beside it belong to the groups of running sandboxes
    :param jails: directory of the host's jails
    :param recorded: its uid before, 0 for none
    """
    import glob
    import hashlib
    import itertools

    taken: set[int] = set()
    for pattern, own in (
        (os.path.join(glob.escape(os.path.dirname(run_dir)), "*"), run_dir),
        (os.path.join(glob.escape(jails), "*", "*", "root"), ""),
    ):
        for path in glob.glob(pattern):
            with contextlib.suppress(OSError):
                if path != own:
                    taken.add(os.lstat(path).st_gid)
    start = int.from_bytes(hashlib.sha256(os.fsencode(run_dir)).digest()[:8], "big")
    first = (recorded,) if is_own_uid(recorded) else ()
    candidates = itertools.chain(first, (FIRST_UID + (start + step) % UIDS for step in range(UIDS)))
    return next(uid for uid in candidates if uid not in taken and not has_processes(uid))


def has_processes(uid: int) -> bool:
    """Whether a user has processes that have not ended."""
    try:
        # The kernel answers at once if there are none, while a search of all processes takes some milliseconds.
        os.getpriority(os.PRIO_USER, uid)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return uid in owners_of_processes().values()


def owners_of_processes() -> dict[int, int]:
    """The real uid of every process that has not ended, by its pid."""
    owners = {int(name): uid_of(int(name)) for name in os.listdir("/proc") if name.isdigit()}
    return {pid: uid for pid, uid in owners.items() if uid >= 0}


def denied(modes: str) -> str:
    """A text for denied modes, such as "read and write to"."""
    return " and ".join(MODES[mode] for mode in modes)


def may_use(user: User, path: str, modes: str) -> bool:
    """Whether a user may use a file by its path, judged by the modes of the file and of the directories above. Changes nothing.

    :param modes: some of the letters r, w and x
    """
    above = os.path.dirname(os.path.realpath(path))
    try:
        while True:
            if not _allows(user, os.stat(above), "x"):
                return False
            if above == "/":
                return _allows(user, os.stat(path), modes)
            above = os.path.dirname(above)
    except OSError:
        return False


def _allows(user: User, status: os.stat_result, modes: str) -> bool:
    shift = 6 if status.st_uid == user.uid else 3 if status.st_gid in user.groups else 0
    wanted = sum({"r": stat.S_IROTH, "w": stat.S_IWOTH, "x": stat.S_IXOTH}[mode] for mode in set(modes))
    return (status.st_mode >> shift) & wanted == wanted


class Wanted(NamedTuple):
    """A file that a user must be able to use.

    :param option: the task's option that names it
    :param modes: some of the letters r, w and x
    """

    option: str
    path: str
    modes: str = "r"


def user_named(name: str, option: str = "vmm_user") -> User | None:
    """The host's user of that name, or None if it is the current user.

    :raises ConfigError: the user does not exist
    :raises HostError: it is another user, and the task does not run as root
    """
    if not name:
        return None
    import pwd

    try:
        known = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(
            "the user does not exist on the host",
            option=option,
            wanted=name,
            fix="Create it first (the role kata.hypervisor.kata_host creates kata-vmm).",
        ) from None
    if known.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise HostError(
            "only root can run a VMM as another user", option=option, wanted=name, fix="Run the task with become."
        )
    return User(name, known.pw_uid, known.pw_gid, tuple(os.getgrouplist(name, known.pw_gid)))


def check_access(user: User | None, wanted: list[Wanted]) -> None:
    """Refuse files that the user may not use. A process of that user asks the kernel. Without a user, nothing is checked.

    :raises AssetError: the user may not use a file; the error names the first one
    """
    if user is None or not wanted:
        return
    words = [word for file in wanted for word in (file.modes, file.path)]
    try:
        done = subprocess.run(  # pylint: disable=ansible-bad-function  # run_command needs a module, and waits for the end
            ["/bin/sh", "-c", TEST, "sh", *words],
            user=user.uid,
            group=user.gid,
            extra_groups=list(user.groups),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TEST_SECONDS,
            check=False,
        )
        denied_ones = [wanted[int(number)] for number in done.stdout.split()]
    except (OSError, ValueError, IndexError, subprocess.SubprocessError) as problem:
        raise HostError(
            f"the rights of the user {user.name} to the sandbox's files cannot be determined",
            option="vmm_user",
            wanted=user.name,
            answer=str(problem),
            fix="Check whether one of them is on a file system that does not answer.",
        ) from problem
    for file in denied_ones:
        raise AssetError(
            f"the user {user.name} must be able to {denied(file.modes)} this",
            option=file.option,
            wanted=file.path,
            fix="Give that user access to it and to the directories above it (chmod, chgrp or setfacl), or choose another vmm_user.",
        )
