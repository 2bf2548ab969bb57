# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of kata_asset.

It copies a file of the controller to the host, but only if the file is not installed on the host. It shows the progress of a download and of a copy.
"""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

from ansible_collections.kata.hypervisor.plugins.plugin_utils.progress import progress_shown, show_progress

#: Seconds between two lines that show the progress of a download.
PROGRESS_SECONDS = 10
MODULE = "kata.hypervisor.kata_asset"


class ActionModule(ActionBase):
    """Runs the module, after copying a source of the controller to the host."""

    TRANSFERS_FILES = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Find out what the host lacks, copy that, and run the module."""
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if not arguments.get("src") or boolean(arguments.get("remote_src", False), strict=False):
            return self._download(arguments, task_vars)
        try:
            source = self._find_needle("files", arguments["src"])
        except AnsibleError as problem:
            raise AnsibleActionFail(
                f"The file must exist on the controller: {arguments['src']}. {problem}"
            ) from problem
        checking = self._task.check_mode
        self._task.check_mode = True
        try:
            predicted = self._execute_module(MODULE, arguments, task_vars=task_vars)
        finally:
            self._task.check_mode = checking
        if checking or predicted.get("failed"):
            return predicted
        try:
            with progress_shown(f"{_host(task_vars)}: {_asset(arguments)}"):
                if predicted.get("needs_source"):
                    arguments["src"] = self._transfer_file(
                        source, self._connection._shell.join_path(self._connection._shell.tmpdir, "asset")
                    )
                return self._execute_module(MODULE, {**arguments, "remote_src": True}, task_vars=task_vars)
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)

    def _download(self, arguments: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        """Run the module until the download has ended, in parts, and print a line after each part."""
        while True:
            result = self._execute_module(
                MODULE, {"download_seconds": PROGRESS_SECONDS, **arguments}, task_vars=task_vars
            )
            if "unfinished" not in result or arguments.get("download_seconds"):
                return result
            received, total = (int(result["unfinished"][key]) for key in ("received", "total"))
            share = f" of {total >> 20} MiB ({100 * received // total} %)" if total else " MiB"
            show_progress(f"{_host(task_vars)}: {_asset(arguments)}: {received >> 20}{share}")


def _host(task_vars: Any) -> str:
    return str((task_vars or {}).get("inventory_hostname", "host"))


def _asset(arguments: dict[str, Any]) -> str:
    return f"{arguments.get('name')} {arguments.get('version')}"
