# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give the consoles of a guest the size of the user's terminal, through the guest's agent. A serial line cannot tell it.

Where the guest has no agent, its consoles keep their size.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping
from typing import Any

from ansible_collections.kata.hypervisor.plugins.plugin_utils.host_connection import (
    HostConnection,
    connection_variables,
)
from ansible_collections.kata.hypervisor.plugins.plugin_utils.host_program import HostPrograms

PROGRAM = "engine.guest_program"
#: Seconds for the guest to answer, and for the command.
CONNECT_SECONDS, COMMAND_SECONDS = 10, 10
COMMAND = 'for name in $(cat /sys/class/tty/console/active); do stty rows {rows} cols {columns} <"/dev/$name"; done'


class GuestWindow:
    """The size of a guest's consoles. Each change is made by a process of its own, one after the other, so that nobody waits for a guest.

    :param sandbox: the sandbox's id, and its directories where the task names them
    :param variables: those of the task
    :param connection: the task's connection to the host
    :param python: the host's Python
    """

    def __init__(self, sandbox: Mapping[str, Any], variables: Mapping[str, Any], connection: Any, python: str) -> None:
        self._sandbox = dict(sandbox)
        self._variables = variables
        self._connection = connection
        self._python = python
        self._size = (0, 0)
        self._child = 0

    def fit(self, rows: int, columns: int) -> None:
        """Begin to give the consoles this size, unless they have it or a change is under way."""
        if self._child and os.waitpid(self._child, os.WNOHANG) == (0, 0):
            return
        self._child = 0
        if (rows, columns) == self._size or not rows or not columns:
            return
        self._size = (rows, columns)
        self._child = os.fork()
        if self._child == 0:
            try:
                nowhere = os.open(os.devnull, os.O_RDWR)
                for descriptor in range(3):
                    os.dup2(nowhere, descriptor)
                self._change()
            finally:
                os._exit(0)

    def _change(self) -> None:
        become = True if self._connection.become is not None else None
        host = HostConnection(connection_variables(self._variables), self._connection._play_context, become)
        request = {
            **self._sandbox,
            "command": COMMAND.format(rows=self._size[0], columns=self._size[1]),
            "size": 0,
            "connect_timeout": CONNECT_SECONDS,
            "timeout": COMMAND_SECONDS,
            "most": 4096,
        }
        HostPrograms(host, self._python).run(PROGRAM, request)

    def close(self) -> None:
        """End a change that is under way."""
        if self._child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGTERM)
            os.waitpid(self._child, 0)
            self._child = 0
