# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user that a VMM runs as where that is not the task's own, and what that user may open."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from typing import NamedTuple

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError, ConfigError, HostError

#: Prints the number of each file that may not be used: C(sh -c TEST sh MODE PATH MODE PATH...).
TEST = 'n=0; while [ $# -gt 0 ]; do case $1 in *r*) [ -r "$2" ];; esac && case $1 in *w*) [ -w "$2" ];; esac &&'
TEST += ' case $1 in *x*) [ -x "$2" ];; esac || echo $n; n=$((n + 1)); shift 2; done'
TEST_SECONDS = 30
MODES = {"r": "read", "w": "write to", "x": "enter or execute"}


@dataclasses.dataclass(frozen=True)
class User:
    """A user of the host.

    :param groups: all groups, the first one too
    """

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


class Wanted(NamedTuple):
    """A file that a user must be able to use.

    :param option: the task's option that names it
    :param modes: of the letters r, w and x
    """

    option: str
    path: str
    modes: str = "r"


def user_named(name: str, option: str = "vmm_user") -> User | None:
    """The user of that name; None where it is nobody else than the one who asks.

    :raises ConfigError: there is no such user
    :raises HostError: only root can become somebody else
    """
    import pwd

    if not name:
        return None
    try:
        known = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(
            "the host has no such user", option=option, wanted=name, fix="Make it first (role kata.hypervisor.kata_host makes kata-vmm)."
        ) from None
    if known.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise HostError("only root can run a VMM as another user", option=option, wanted=name, fix="Run the task with become.")
    return User(name, known.pw_uid, known.pw_gid, tuple(os.getgrouplist(name, known.pw_gid)))


def check_access(user: User | None, wanted: list[Wanted]) -> None:
    """Refuse files that the user may not use, asked of the kernel as that user. Without a user, nothing is asked.

    :raises AssetError: names the first such file
    """
    if user is None or not wanted:
        return
    words = [word for file in wanted for word in (file.modes, file.path)]
    done = subprocess.run(
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
    for number in done.stdout.split():
        file = wanted[int(number)]
        raise AssetError(
            f"the user {user.name} may not {' and '.join(MODES[mode] for mode in file.modes)} this",
            option=file.option,
            wanted=file.path,
            fix="Give that user access to it and to the directories above it (chmod, chgrp or setfacl), or choose another vmm_user.",
        )


def nearest_directory(path: str) -> str:
    """The directory itself, or the first above it that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path
