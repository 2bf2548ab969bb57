# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the content of a built image for the root disks that are based on it, when the file is built again.

    DIRECTORY/guest.img                    the built file
    DIRECTORY/.kept/NUMBER-guest.img       a hard link to what it was; removed with the last root disk that is based on it

Versions of an asset have directories of their own and need no second name.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import Iterator

from ..host.atomic_files import make_directories
from .image_users import image_users

KEPT = ".kept"


@contextlib.contextmanager
def kept_base(path: str) -> Iterator[str]:
    """The path under which a built image stays: its second name, or its own path if no link can be made, such as by a user who does not own it.

    Who is based on it must be recorded in this block.

    :param path: without links
    """
    directory, name = os.path.split(path)
    kept = ""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            stack.enter_context(_locked(os.path.join(directory, KEPT), create=True))
            status = os.stat(path)
            # The file's own numbers, since it can be replaced at this moment.
            link = os.path.join(directory, KEPT, f"{status.st_ino:x}.{status.st_mtime_ns:x}-{name}")
            if not os.path.lexists(link):
                os.link(path, link)
            if os.path.samestat(os.stat(link), status):
                kept = link
        yield kept or path


def built_path(base: str) -> str:
    """The path of the built file that an image was, for a second name; any other path as it is."""
    directory, name = os.path.split(base)
    if os.path.basename(directory) != KEPT:
        return base
    return os.path.join(os.path.dirname(directory), name.partition("-")[2])


def remove_unused(path: str) -> None:
    """Remove the second names of a built file that no root disk is based on.

    :param path: of the built file, or one of the second names
    """
    directory, name = os.path.split(built_path(path))
    kept = os.path.join(directory, KEPT)
    with contextlib.suppress(OSError), _locked(kept):
        used = {os.path.realpath(user.base) for user in image_users(directory)}
        for entry in os.listdir(kept):
            if entry.partition("-")[2] == name and os.path.join(os.path.realpath(kept), entry) not in used:
                os.unlink(os.path.join(kept, entry))
        os.rmdir(kept)


def users_of_built(path: str) -> list[str]:
    """The sandboxes whose root disks are based on a built file, or on what it was."""
    path = os.path.realpath(path)
    return sorted({user.sandbox for user in image_users(path) if built_path(os.path.realpath(user.base)) == path})


@contextlib.contextmanager
def _locked(directory: str, create: bool = False) -> Iterator[None]:
    """Hold a lock on a directory.

    :raises OSError: it does not exist, or cannot be created
    """
    while True:
        if create:
            make_directories(directory)
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            if create:
                continue  # Another task has just removed it.
            raise
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # It may have been removed, and created again, while we waited.
            if os.path.isdir(directory) and os.path.samestat(os.fstat(descriptor), os.lstat(directory)):
                yield
                return
        finally:
            os.close(descriptor)
