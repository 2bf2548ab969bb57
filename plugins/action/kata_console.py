# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of kata_console: it joins the user's terminal with the console of a sandbox."""

from __future__ import annotations

import glob
import os
from typing import Any, ClassVar

from ansible_collections.kata.hypervisor.plugins.plugin_utils.guest_window import GuestWindow
from ansible_collections.kata.hypervisor.plugins.plugin_utils.host_terminal import READY_SECONDS, host_program
from ansible_collections.kata.hypervisor.plugins.plugin_utils.terminal import (
    TerminalError,
    opened_terminal,
    raw,
    terminal_of,
    write,
)
from ansible_collections.kata.hypervisor.plugins.plugin_utils.terminal_action import TerminalAction

RUNNING = ("started", "paused")


class ActionModule(TerminalAction):
    """Attaches the terminal until the user detaches it or the VM ends."""

    OPTIONS: ClassVar[dict[str, dict[str, Any]]] = {
        "id": {"type": "str", "required": True, "aliases": ["name", "sandbox"]}
    }

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Attach."""
        options = self.options()
        identity = options.pop("id")
        if self._task.check_mode:
            return {"skipped": True, "msg": "A terminal is not attached in check mode."}
        try:
            # Before the host is asked, so that a run without a terminal fails at once.
            terminal = terminal_of(os.getppid())
            answer = self.ask(task_vars, ids=[glob.escape(identity)], **options)
            if answer.get("failed") or answer.get("unreachable"):
                return answer
            window = GuestWindow({"id": identity, **options}, task_vars or {}, self._connection, self.interpreter)
            ended = self._attach(terminal, identity, _console(identity, answer["sandboxes"]), window)
        except TerminalError as problem:
            return {"failed": True, "msg": f"sandbox {identity}: {problem}."}
        return {"changed": False, "ended": ended}

    def _attach(self, path: str, identity: str, console: tuple[str, str], window: GuestWindow) -> str:
        """Join the terminal with the console. Returns why it ended."""
        host = self._task_host()
        program = host_program(self, self.interpreter, ["attach", *console])
        terminal = opened_terminal(path)
        try:
            first = program.wait_until_ready(READY_SECONDS)
            write(terminal, f"Attached to the console of {identity} on {host}. Detach with Ctrl-].\r\n".encode())
            with raw(terminal):
                detached = program.join(terminal, first, lambda data: write(terminal, data), window.fit)
            write(terminal, b"\r\n")
        finally:
            window.close()
            program.close()
            os.close(terminal)
        return "detached" if detached else "the console was closed"

    def _task_host(self) -> str:
        return str(self._connection._play_context.remote_addr or "its host")


def _console(identity: str, sandboxes: list[dict[str, Any]]) -> tuple[str, str]:
    """The console of the sandbox, and the process id of its VMM.

    :raises TerminalError: it has none that a terminal can be attached to
    """
    if not sandboxes:
        raise TerminalError("the sandbox does not exist on this host")
    facts = sandboxes[0]
    if facts["state"] not in RUNNING:
        raise TerminalError(f"the sandbox must be started or paused, and it is {facts['state']}")
    if not facts.get("console"):
        log = facts.get("console_log")
        raise TerminalError(
            f"the hypervisor {facts.get('hypervisor')} has no console that a terminal can be attached to"
            + (f", and the playbook kata.hypervisor.logs shows its log {log}" if log else "")
        )
    return str(facts["console"]), str(facts.get("pid") or 0)
