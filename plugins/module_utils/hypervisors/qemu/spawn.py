# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Launch: from a command line to a QEMU that answers on its monitor, or to nothing at all."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from typing import Callable

from ...errors import DeadlineExceeded, LaunchError
from ...host.processes import ProcessIdentity, identify, tail
from ...host.spawn import spawn_detached
from ...host.users import User
from .qmp import QmpClient, QmpConnectionError

#: Seconds after a broken handshake in which a dying QEMU's exit code is waited for.
EXIT_GRACE = 2.0


def launch(
    argv: list[str],
    log: str,
    monitor: str,
    listeners: list[socket.socket],
    inherited: tuple[int, ...],
    started: Callable[[ProcessIdentity | None], None],
    timeout: float,
    wrapper: list[str] | None = None,
    user: User | None = None,
) -> QmpClient:
    """Start QEMU and shake hands. On failure no process is left.

    :param log: file for QEMU's words
    :param monitor: path of the control monitor's socket
    :param listeners: sockets that QEMU inherits, the control monitor's among them
    :param inherited: further descriptors that it inherits
    :param started: told who QEMU is as soon as it runs
    :param timeout: seconds until the handshake
    :param wrapper: a supervisor's command, see `common/scope.py`
    :param user: whom QEMU shall run as, None for ourselves
    :raises LaunchError: QEMU ended; with its exit code, command line and last words
    :raises DeadlineExceeded: it runs and does not answer
    """
    try:
        descriptors = (*(listener.fileno() for listener in listeners), *inherited)
        child = spawn_detached(argv, log, descriptors, wrapper=wrapper, user=user)
    except OSError as error:
        raise LaunchError("QEMU cannot be run", argv=argv, answer=str(error), log=log) from error
    try:
        started(identify(child.pid))
        for listener in listeners:
            listener.close()
        try:
            return QmpClient(monitor, timeout)
        except QmpConnectionError as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(EXIT_GRACE)
            raise _launch_error(child, argv, log, str(error)) from error
        except DeadlineExceeded as error:
            if child.poll() is not None:
                raise _launch_error(child, argv, log, str(error)) from error
            raise DeadlineExceeded(
                f"QEMU did not answer on its monitor within {timeout:g} s",
                answer=tail(log),
                log=log,
                fix="Give it more time (option timeout), or look into its log.",
            ) from error
    except BaseException:
        child.kill()
        child.wait()
        raise


def _launch_error(child: subprocess.Popen[bytes], argv: list[str], log: str, symptom: str) -> LaunchError:
    code = child.poll()
    how = (
        "does not speak QMP"
        if code is None
        else f"ended with exit code {code}"
        if code >= 0
        else f"was killed by signal {-code}"
    )
    words = tail(log, 10).strip()
    return LaunchError(f"QEMU {how}", exit_code=code, argv=argv, answer=words or symptom, log=log)
