# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that is killed right before one of its changes to the file system."""

from __future__ import annotations

import os
import pathlib
import sys
from typing import Any, Callable, Optional

KILLED = 137

#: Audit events (PEP 578) of calls that change files, and which of their arguments are the path and the directory that it is relative to.
CHANGES = {
    "os.rename": (1, 3),
    "os.remove": (0, 1),
    "os.mkdir": (0, 2),
    "os.rmdir": (0, 1),
    "os.truncate": (0, None),
    "os.link": (1, 3),
}


def run_killed(root: pathlib.Path, before_change: int, work: Callable[[], Any]) -> int:
    """Work in a process that is killed right before its n-th change below a directory; returns the process's exit code."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            _kill_before_change(str(root), before_change)
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _changed_path(arguments: tuple[Any, ...], path: int, directory: Optional[int]) -> str:
    """The path of an audit event, from its arguments of these numbers."""
    place = arguments[directory] if directory is not None else -1
    return os.path.join(
        os.readlink(f"/proc/self/fd/{place}") if isinstance(place, int) and place >= 0 else "/", str(arguments[path])
    )


def _kill_before_change(root: str, number: int) -> None:
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "open":
            path, flags = arguments[0], arguments[2]
            changes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
            # The event does not name the directory of a relative path; nothing but our own directories is changed so.
            path = os.path.join(root, str(path))
        else:
            changes, path = event in CHANGES, _changed_path(arguments, *CHANGES[event]) if event in CHANGES else ""
        if changes and str(path).startswith(root):
            count += 1
            if count == number:
                os._exit(KILLED)

    sys.addaudithook(hook)
