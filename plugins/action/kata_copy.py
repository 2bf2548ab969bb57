# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of kata_copy: a file of the controller is brought to the host, and the module runs from the host's copy of the engine."""

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.kata.hypervisor.plugins.plugin_utils.engine import EngineAction


class ActionModule(EngineAction):
    """Runs the module of this name."""

    TRANSFERS_FILES = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Bring the file to the host, and run the module."""
        arguments = self._task.args
        on_controller = arguments.get("src") and not any(
            boolean(arguments.get(name, False), strict=False) for name in ("remote_src", "from_guest")
        )
        if not on_controller:
            return super().run(tmp, task_vars)
        try:
            source = self._find_needle("files", arguments["src"])
            # Of a file that is encrypted with ansible-vault, the content is copied.
            readable = self._loader.get_real_file(source)
        except AnsibleError as problem:
            raise AnsibleActionFail(
                f"The file must exist on the controller: {arguments['src']}. {problem}"
            ) from problem
        if not self._connection._shell.tmpdir:
            self._make_tmp_path()
        directory = self._connection._shell.tmpdir
        try:
            copied = self._transfer_file(
                readable, self._connection._shell.join_path(directory, os.path.basename(source))
            )
            self._fixup_perms2((directory, copied))
            self._task.args = {**arguments, "src": copied, "remote_src": True}
            return super().run(tmp, task_vars)
        finally:
            self._loader.cleanup_tmp_file(readable)
            self._task.args = arguments
            self._remove_tmp_path(directory)
