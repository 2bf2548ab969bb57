# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start a process that outlives the task."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any, Collection

from ..untrusted.files import Directory, UntrustedFile
from .processes import identify, tail

if TYPE_CHECKING:
    from .users import User


#: Seconds that the supervisor gets to make a unit.
SUPERVISOR_SECONDS = 10.0


#: Seconds that the unit of a process which has ended may take to go away.
UNIT_GONE_SECONDS = 3.0


def spawn_detached(
    argv: list[str],
    log_path: str,
    pass_fds: tuple[int, ...] = (),
    env: dict[str, str] | None = None,
    wrapper: list[str] | None = None,
    user: User | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process that outlives this one and its ssh session.

    A session of its own, all three standard streams redirected, no inherited descriptors but `pass_fds`, and / as its directory:
    each of them is needed, or the process dies with the task, or the task hangs until the process ends.

    :param log_path: file that takes its standard output and error (appended)
    :param wrapper: a command that ends in becoming `argv`, see `supervision.py`; it also becomes the user
    :param user: whom the process shall run as, None for ourselves
    :raises OSError: the program can't be run
    """
    if not wrapper:
        return _spawn(argv, log_path, pass_fds, env, user)
    patience = time.monotonic() + UNIT_GONE_SECONDS
    while True:
        before = os.path.getsize(log_path) if os.path.exists(log_path) else 0
        child = _spawn([*wrapper, *argv], log_path, pass_fds, env, user, later=True)
        _wait_for_exec(
            child,
            {os.path.realpath(word) for word in wrapper if os.path.isabs(word)},
            time.monotonic() + SUPERVISOR_SECONDS,
        )
        if child.poll() is None:
            return child
        words = tail(log_path, size=max(1, os.path.getsize(log_path) - before))
        # The unit of a VMM that has just ended goes away a moment later than its process.
        if "already" not in words or time.monotonic() > patience:
            return child
        time.sleep(0.05)


def open_log(path: str) -> int:
    """A descriptor that appends to a log, which is made where there is none; the owner's alone.

    :raises OSError: it cannot be opened, or its name is taken by something else than a file
    """
    with Directory.open(os.path.dirname(path)) as directory:
        name = os.path.basename(path)
        with contextlib.suppress(FileExistsError):
            os.close(directory.create(name))
        try:
            return directory.open_file(name, os.O_WRONLY | os.O_APPEND)
        except UntrustedFile as error:
            raise OSError(errno.EINVAL, str(error)) from error


def _wait_for_exec(child: subprocess.Popen[bytes], before: Collection[str], deadline: float) -> None:
    """Wait until a process runs another program than those before, or has ended.

    :raises OSError: neither happened; the process is gone then
    """
    while child.poll() is None:
        identity = identify(child.pid)
        if identity is not None and identity.executable not in before:
            return
        if time.monotonic() > deadline:
            child.kill()
            child.wait()
            raise OSError(f"systemd-run must create the unit within {SUPERVISOR_SECONDS:g} s")
        time.sleep(0.002)


def _spawn(
    argv: list[str],
    log_path: str,
    pass_fds: tuple[int, ...],
    env: dict[str, str] | None,
    user: User | None,
    later: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a process; one that becomes the user only `later` has that user's groups already, which a supervisor does not set."""
    switch: dict[str, Any] = {}
    if user is not None:
        switch = {"extra_groups": list(user.groups), **({} if later else {"user": user.uid, "group": user.gid})}
    log = open_log(log_path)
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            close_fds=True,
            pass_fds=pass_fds,
            start_new_session=True,
            cwd="/",
            env=env,
            **switch,
        )
    finally:
        os.close(log)
