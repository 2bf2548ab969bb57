# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of kata_asset.

It brings a file of the controller to the host, but only when the host does not have it installed, and shows how far a download is.
"""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

#: How often a user is shown how far a download is.
PROGRESS_SECONDS = 10
MODULE = "kata.hypervisor.kata_asset"

display = Display()


class ActionModule(ActionBase):
    """Runs the module, with a source of the controller put where it can read it."""

    TRANSFERS_FILES = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Ask the host what it needs, bring that, and run the module."""
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if not arguments.get("src") or boolean(arguments.get("remote_src", False), strict=False):
            return self._download(arguments, task_vars)
        try:
            source = self._find_needle("files", arguments["src"])
        except AnsibleError as problem:
            raise AnsibleActionFail(
                f"There is no such file on the controller: {arguments['src']}. {problem}"
            ) from problem
        checking = self._task.check_mode
        self._task.check_mode = True
        try:
            foretold = self._execute_module(MODULE, arguments, task_vars=task_vars)
        finally:
            self._task.check_mode = checking
        if checking or foretold.get("failed"):
            return foretold
        try:
            if foretold.get("needs_source"):
                arguments["src"] = self._transfer_file(
                    source, self._connection._shell.join_path(self._connection._shell.tmpdir, "asset")
                )
            return self._execute_module(MODULE, {**arguments, "remote_src": True}, task_vars=task_vars)
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)

    def _download(self, arguments: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        """Run the module; while it downloads, again and again, with a line for the user each time."""
        while True:
            result = self._execute_module(
                MODULE, {"download_seconds": PROGRESS_SECONDS, **arguments}, task_vars=task_vars
            )
            if "unfinished" not in result or arguments.get("download_seconds"):
                return result
            received, total = (int(result["unfinished"][key]) for key in ("received", "total"))
            share = f" of {total >> 20} MiB ({100 * received // total} %)" if total else " MiB"
            thing = f"{arguments.get('name')} {arguments.get('version')}"
            display.display(f"{(task_vars or {}).get('inventory_hostname', 'host')}: {thing}: {received >> 20}{share}")
