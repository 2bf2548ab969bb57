# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the actions `kata_console` and `kata_logs` share: they ask the host about sandboxes, and run a program there with a terminal."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import DIRECTORY_SPEC
from ansible_collections.kata.hypervisor.plugins.plugin_utils.engine import EngineAction
from ansible_collections.kata.hypervisor.plugins.plugin_utils.host_terminal import interpreter_of


class TerminalAction(EngineAction):
    """An action with options of its own, that runs a module of another name on the host."""

    _supports_async = False
    #: The module that the host runs.
    MODULE = "kata_sandbox_info"
    #: The options of the action, without the directories.
    OPTIONS: ClassVar[dict[str, dict[str, Any]]] = {}
    interpreter = "python3"

    def _module_name(self) -> str:
        return self.MODULE

    def options(self) -> dict[str, Any]:
        """The options of the task, validated."""
        _result, options = self.validate_argument_spec(argument_spec={**self.OPTIONS, **DIRECTORY_SPEC})
        return dict(options)

    def ask(self, task_vars: Any, **arguments: Any) -> dict[str, Any]:
        """The host's answer to `MODULE`. Finds the host's Python too."""
        given = self._task.args
        self._task.args = arguments
        try:
            answer = super().run(None, task_vars)
        finally:
            self._task.args = given
        self.interpreter = str(self._templar.template(interpreter_of(answer, task_vars or {})))
        return answer
