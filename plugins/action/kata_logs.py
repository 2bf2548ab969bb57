# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of kata_logs: the module reads logs, and with `follow` the terminal shows what is added to them."""

from __future__ import annotations

import os
import re
from typing import Any

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import printable
from ansible_collections.kata.hypervisor.plugins.plugin_utils.host_terminal import READY_SECONDS, host_program
from ansible_collections.kata.hypervisor.plugins.plugin_utils.terminal import TerminalError, write
from ansible_collections.kata.hypervisor.plugins.plugin_utils.terminal_action import TerminalAction

#: The facts with the paths of logs, by the names of logs.
LOGS = {"console": "console_log", "vmm": "vmm_log"}
#: A line that is longer than this is printed in pieces, bytes.
LONGEST_LINE = 8192
_HEAD = re.compile(rb"([0-9]+)\.([a-z]+) ([0-9]+)\n")


class ActionModule(TerminalAction):
    """Shows logs."""

    MODULE = "kata_logs"

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Read the logs, or follow them until the run is interrupted."""
        arguments = dict(self._task.args)
        follow = arguments.get("follow", False)
        answer = self.ask(task_vars, **arguments)
        if answer.get("failed") or answer.get("unreachable") or self._task.check_mode:
            return answer
        if str(follow).lower() in ("true", "yes", "1", "on"):
            try:
                self._follow(answer["logs"], int(arguments.get("lines", 50)))
            except TerminalError as problem:
                return {"failed": True, "msg": f"The logs cannot be followed: {problem}."}
        return answer

    def _follow(self, logs: list[dict[str, Any]], lines: int) -> None:
        host = str(self._connection._play_context.remote_addr or "")
        files = {
            f"{number}.{name}": (f"{host} {one['id']} {name}", one[f"{name}_path"])
            for number, one in enumerate(logs)
            for name in LOGS
            if one.get(f"{name}_path")
        }
        if not files:
            raise TerminalError("no sandbox that was chosen has a log")
        words = [f"{key}={path}" for key, (_title, path) in files.items()]
        # What the process that the user started prints to: a terminal, a pipe or a file.
        output = os.open(f"/proc/{os.getppid()}/fd/1", os.O_WRONLY | os.O_NOCTTY | os.O_APPEND | os.O_CLOEXEC)
        program = host_program(self, self.interpreter, ["follow", str(lines), *words])
        try:
            first = program.wait_until_ready(READY_SECONDS)
            pieces = Pieces({key: title for key, (title, _path) in files.items()})
            program.join(None, first, lambda data: write(output, pieces.text_of(data).encode()))
        finally:
            program.close()
            os.close(output)


class Pieces:
    """From what the program on the host prints to lines that are safe to print.

    :param titles: what each line begins with, by the name of its log
    """

    def __init__(self, titles: dict[str, str]) -> None:
        self.titles = titles
        self._data = b""
        self._begun: dict[str, bytes] = dict.fromkeys(titles, b"")

    def text_of(self, data: bytes) -> str:
        """The complete lines in what was printed until now.

        :raises TerminalError: it is not what the program prints
        """
        self._data += data
        text = []
        while True:
            head = _HEAD.match(self._data)
            if head is None:
                if len(self._data) > 64 or b"\n" in self._data:
                    raise TerminalError("the program on the host printed something else than logs")
                return "".join(text)
            name, size = f"{head[1].decode()}.{head[2].decode()}", int(head[3])
            if name not in self.titles or size > 1 << 20:
                raise TerminalError("the program on the host printed something else than logs")
            if len(self._data) < head.end() + size:
                return "".join(text)
            piece, self._data = self._data[head.end() : head.end() + size], self._data[head.end() + size :]
            text += self._lines(name, piece)

    def _lines(self, name: str, piece: bytes) -> list[str]:
        *complete, rest = (self._begun[name] + piece).split(b"\n")
        if len(rest) > LONGEST_LINE:
            complete, rest = [*complete, rest], b""
        self._begun[name] = rest
        return [f"{self.titles[name]}| {printable(_text(line), lines=False)}\n" for line in complete]


def _text(line: bytes) -> str:
    return line.rstrip(b"\r").decode("utf-8", "replace")
