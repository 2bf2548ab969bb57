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


#: Seconds that systemd-run gets to create a unit.
SUPERVISOR_SECONDS = 10.0


#: Seconds to wait until systemd has removed the unit of a process that has ended.
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

    The process gets a session of its own, three redirected standard streams, no inherited descriptors but `pass_fds`, and / as its directory.
    Without any of these the process dies with the task, or the task hangs until the process ends.

    :param log_path: the file that its standard output and error are appended to
    :param wrapper: a command that executes `argv` in the same process and changes the user, see `hypervisors/common/scope.py`
    :param user: the user that the process runs as, None for ours
    :raises OSError: the program cannot be run
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
        # systemd removes the unit of a VMM a moment after its process has ended.
        if "already" not in words or time.monotonic() > patience:
            return child
        time.sleep(0.05)


def open_log(path: str) -> int:
    """Open a private log for appending; it is created if it does not exist. Returns the descriptor.

    :raises OSError: it cannot be opened, or is not a regular file
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
    """Wait until a process executes a program that is not in `before`, or has ended.

    :raises OSError: neither happened in time; the process has been killed
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
    """Start a process. If its wrapper changes the user `later`, it gets the user's groups already here, since systemd-run does not set them."""
    switch: dict[str, Any] = {}
    if user is not None:
        switch = {"extra_groups": list(user.groups), **({} if later else {"user": user.uid, "group": user.gid})}
    log = open_log(log_path)
    try:
        return subprocess.Popen(  # pylint: disable=ansible-bad-function  # run_command needs a module, and waits for the end
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
