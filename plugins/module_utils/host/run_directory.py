# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create and remove the run directory of a sandbox and the logs in it."""

from __future__ import annotations

import contextlib
import os
import stat

from ..errors import HostError
from ..untrusted.files import Directory, check_parents

#: The permission to enter a directory, for its group and for all users.
THROUGH = stat.S_IXGRP | stat.S_IXOTH
#: Mode of the directories above run directories.
ABOVE = 0o755


def make_run_dir(path: str, option: str = "run_dir", group: int | None = None) -> None:
    """Create the directory for sockets and logs. No other user can create or rename files in it. Its mode does not depend on the umask.

    :param option: the task's option that names the directory
    :param group: a group that may open files in it by name, but not list or create them
    :raises HostError: it cannot be created, or another user owns it
    """
    check_parents(os.path.dirname(path), option)
    try:
        _make_directories(path)
        with Directory.open(path) as directory:
            owner = os.fstat(directory.descriptor).st_uid
            if owner == os.geteuid():
                os.fchown(directory.descriptor, -1, os.getegid() if group is None else group)
                os.fchmod(directory.descriptor, 0o700 if group is None else 0o710)
    except OSError as error:
        raise HostError(
            f"the directory {path} must belong to the user of the task and must not be a link",
            option=option,
            answer=str(error),
        ) from error
    if owner != os.geteuid():
        raise HostError(
            f"the directory {path} must belong to the user of the task and must not be a link",
            option=option,
            answer=f"it belongs to user {owner}",
        )


def _make_directories(path: str) -> None:
    """Create a directory and its missing parents. Their modes do not depend on the umask."""
    missing = []
    while not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    for directory in reversed(missing):
        with contextlib.suppress(FileExistsError):  # Another task creates it at this moment.
            os.mkdir(directory, 0o700)
            os.chmod(directory, 0o700 if directory == missing[0] else ABOVE)


def allow_traversal(path: str) -> None:
    """Let all users enter a directory of ours, so that they can open files below it by name.

    :raises HostError: it is not ours
    """
    try:
        with Directory.open(path) as directory:
            os.fchmod(directory.descriptor, stat.S_IMODE(os.fstat(directory.descriptor).st_mode) | THROUGH)
    except OSError as error:
        raise HostError(
            f"the directory {path} cannot be made accessible to the VMM's user", answer=str(error)
        ) from error


def create_owned_file(path: str, uid: int, gid: int) -> None:
    """Create an empty file for another user who may not create files there.

    :raises HostError: it cannot be created
    """
    try:
        with Directory.open(os.path.dirname(path)) as directory:
            directory.unlink(os.path.basename(path))
            os.close(directory.create(os.path.basename(path), 0o600, uid, gid))
    except OSError as error:
        raise HostError(f"the file {path} cannot be created", answer=str(error)) from error


def rotate_log(path: str) -> None:
    """Rename the last run's log, so that the new one starts empty."""
    name = os.path.basename(path)
    with contextlib.suppress(FileNotFoundError), Directory.open(os.path.dirname(path)) as directory:
        directory.rename(name, directory, f"{name}.old")


def remove_run_dir(path: str) -> None:
    """Remove a run directory with its content. Idempotent. Links are removed and not followed.

    :raises HostError: something cannot be removed
    """
    try:
        with Directory.open(os.path.dirname(path)) as parent:
            parent.remove(os.path.basename(path))
    except FileNotFoundError:
        return
    except OSError as error:
        raise HostError(f"the directory {path} cannot be removed", answer=str(error)) from error
