# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of `module_utils/delivery/engine_copy.py`: what a host keeps of this collection, how it gets there, and how tasks run from it."""

from __future__ import annotations

import functools
import os
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

from ansible_collections.kata.hypervisor.plugins.module_utils.delivery.engine_copy import (
    PACKAGES,
    archive_of,
    digest_of,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError

#: The options whose YAML the controller checks: hosts have no parser.
CLOUD_CONFIGS = ("user_data", "vendor_data", "network_config")
ENGINE = "kata.hypervisor.kata_engine"
#: A host's variable; false keeps nothing on it.
KEEP = "kata_hypervisor_keep_engine"
PLUGINS = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def engine_files() -> dict[str, bytes]:
    """The files of an engine, by path below the collection's plugins."""
    files = {}
    for package in PACKAGES:
        for directory, _directories, names in os.walk(os.path.join(PLUGINS, package)):
            for name in names:
                if name.endswith(".py"):
                    path = os.path.join(directory, name)
                    with open(path, "rb") as stream:
                        files[os.path.relpath(path, PLUGINS)] = stream.read()
    return files


@functools.lru_cache(maxsize=1)
def engine() -> tuple[str, dict[str, bytes]]:
    """The digest of an engine, and its files. They are read once in a process."""
    files = engine_files()
    return digest_of(files), files


class EngineAction(ActionBase):
    """Runs the module that the task names. If no copy can be kept, the module is sent as usual."""

    _supports_async = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Run the module, the short way where the host's copy allows it."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        try:
            self.check_arguments(self._task.args)
        except HypervisorError as problem:
            return {"failed": True, "changed": False, "msg": str(problem), **problem.as_result()}
        answer = self._answer(task_vars, variables)
        if answer.get("failed") and isinstance(answer.get("msg"), str):
            from ansible_collections.kata.hypervisor.plugins.plugin_utils.unknown_options import with_suggestions

            answer["msg"] = with_suggestions(answer["msg"])
        return answer

    def _answer(self, task_vars: Any, variables: dict[str, Any]) -> dict[str, Any]:
        """The module's answer."""
        if not self._task.async_val and boolean(self._templar.template(variables.get(KEEP, True)), strict=False):
            answer = self._from_copy(variables)
            if not answer.pop("engine_missing", False):
                return answer
        module = f"kata.hypervisor.{self._module_name()}"
        return self._execute_module(module, dict(self._task.args), task_vars=task_vars, wrap_async=self._task.async_val)

    def check_arguments(self, arguments: dict[str, Any]) -> None:
        """Refuse arguments that only the controller can judge.

        :raises HypervisorError: one is wrong
        """

    def _module_name(self) -> str:
        return str(self._task.action).rpartition(".")[2]

    def _from_copy(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """The module's answer, or `engine_missing`."""
        digest, files = engine()
        arguments = {"digest": digest, "run": self._module_name(), "options": dict(self._task.args)}
        answer = self._execute_module(ENGINE, arguments, task_vars=task_vars)
        if not answer.get("can_install") or self._task.check_mode:
            return answer
        if not self._connection._shell.tmpdir:
            self._make_tmp_path()
        try:
            archive = self._connection._shell.join_path(self._connection._shell.tmpdir, "engine.zip")
            self._transfer_data(archive, archive_of(files))
            self._fixup_perms2((self._connection._shell.tmpdir, archive))
            return self._execute_module(ENGINE, {**arguments, "archive": archive}, task_vars=task_vars)
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)


def check_cloud_configs(arguments: Any) -> None:
    """Refuse a sandbox whose user data, vendor data or network configuration is not what cloud-init reads.

    :param arguments: the options of one sandbox; anything else is judged by the module
    :raises HypervisorError: the error names the option and the line, and never shows a secret
    """
    if isinstance(arguments, dict) and any(arguments.get(name) for name in CLOUD_CONFIGS):
        from ansible_collections.kata.hypervisor.plugins.plugin_utils.cloud_config import check_identity

        given = {name: arguments[name] for name in CLOUD_CONFIGS if arguments.get(name)}
        check_identity(given, str(arguments.get("id", arguments.get("name", ""))))
