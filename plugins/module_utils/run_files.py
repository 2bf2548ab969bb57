# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The run directory of a sandbox and the logs in it."""

from __future__ import annotations

import contextlib
import os
import stat

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HostError

#: Permission to go through a directory, for its group and for everybody.
THROUGH = stat.S_IXGRP | stat.S_IXOTH


def make_run_dir(path: str, option: str = "run_dir", group: int | None = None) -> None:
    """The directory for sockets and logs, the owner's alone.

    :param option: the task's option that says where
    :param group: a group that may reach the files in it that it knows by name, and neither list nor make any
    :raises HostError: it cannot be made, or somebody else owns it
    """
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        owner = os.lstat(path)
        if owner.st_uid == os.geteuid() and not os.path.islink(path):
            os.chown(path, -1, os.getegid() if group is None else group)
            os.chmod(path, 0o700 if group is None else 0o710)
    except OSError as error:
        raise HostError(f"the directory {path} cannot be made", option=option, answer=str(error)) from error
    if owner.st_uid != os.geteuid() or not os.path.isdir(path) or os.path.islink(path):
        raise HostError(f"the directory {path} belongs to somebody else or is a link", option=option)


def let_through(path: str) -> None:
    """Let everybody reach, by its name, what lies below a directory of ours.

    :raises HostError: it is not ours
    """
    try:
        os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) | THROUGH)
    except OSError as error:
        raise HostError(f"the directory {path} cannot be opened to others", answer=str(error)) from error


def file_of(path: str, uid: int, gid: int) -> None:
    """A new, empty file for somebody who may not make one there.

    :raises HostError: it cannot be made
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.fchown(descriptor, uid, gid)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise HostError(f"the file {path} cannot be made", answer=str(error)) from error


def keep_previous(path: str) -> None:
    """Put the last run's log aside, so that a new one starts empty."""
    with contextlib.suppress(FileNotFoundError):
        os.replace(path, path + ".old")
