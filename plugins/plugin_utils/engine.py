# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of `module_utils/delivery/engine_copy.py`: what a host keeps of this collection, how it gets there, and how tasks run from it."""

from __future__ import annotations

import base64
import fcntl
import functools
import json
import os
from typing import Any, Callable

import ansible.module_utils
from ansible import constants as C
from ansible.errors import AnsibleError
from ansible.module_utils.common import json as ansible_json
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.release import __version__

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
    """The files of an engine, by path below the copy's directory: those of the collection, and what its modules import of Ansible."""
    files = {"ansible/__init__.py": f"__version__ = {__version__!r}\n".encode()}
    roots = [(os.path.join(PLUGINS, package), package) for package in PACKAGES]
    roots.append((next(iter(ansible.module_utils.__path__)), "ansible/module_utils"))
    for root, name in roots:
        for directory, directories, names in os.walk(root):
            # Ansible's modules that gather facts; they are most of it, and no module here gathers any.
            directories[:] = [one for one in directories if (name, one) != ("ansible/module_utils", "facts")]
            for path in (os.path.join(directory, one) for one in names if one.endswith(".py")):
                with open(path, "rb") as stream:
                    files[os.path.join(name, os.path.relpath(path, root))] = stream.read()
    return files


def engine_digest() -> str:
    """The digest of the engine of this run of Ansible."""
    with open(_once_in_a_run("digest", lambda: digest_of(engine_files()).encode()), encoding="ascii") as stream:
        return stream.read()


def engine_archive() -> str:
    """The path of an archive with the files of the engine of this run of Ansible.

    :raises AnsibleError: a file has been changed since the run began
    """
    return _once_in_a_run("engine.zip", _archive)


def _archive() -> bytes:
    files = engine_files()
    if digest_of(files) != engine_digest():
        raise AnsibleError("The files of kata.hypervisor have been changed while Ansible runs. Run it again.")
    return archive_of(files)


def _once_in_a_run(name: str, make: Callable[[], bytes]) -> str:
    """The path of a file that is made when it is first needed.

    Each task of each host has a process of its own, and to read the files of an engine takes longer than all else that the controller does for a task.
    The file is in the temporary directory of this run, where Ansible keeps the modules that it sends too: one run uses one version of the collection for all
    hosts, and the next run reads all files again.
    """
    path = os.path.join(C.DEFAULT_LOCAL_TMP, f"kata-hypervisor-{name}")
    if os.path.exists(path):
        return path
    with open(f"{path}.lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            with open(f"{path}.new", "wb") as stream:
                stream.write(make())
            os.rename(f"{path}.new", path)
    return path


@functools.lru_cache(maxsize=1)
def _engine_copy() -> str:
    """The code that finds and checks the copy on the host."""
    with open(os.path.join(PLUGINS, "module_utils/delivery/engine_copy.py"), encoding="utf-8") as stream:
        return stream.read()


def _as_json(options: dict[str, Any]) -> str:
    """The options of a task as JSON, as Ansible writes them for a module: vaulted text is decrypted."""
    if hasattr(ansible_json, "get_module_encoder"):
        encoder = ansible_json.get_module_encoder("legacy", ansible_json.Direction.CONTROLLER_TO_MODULE)
        return json.dumps(options, cls=encoder)
    # Before ansible-core 2.19.
    return json.dumps(options, cls=ansible_json.AnsibleJSONEncoder, vault_to_text=True)


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
        arguments = {
            "digest": engine_digest(),
            "engine_copy": _engine_copy(),
            "run": self._module_name(),
            # In Base64, since Ansible replaces words in the text of the module, and these are the user's.
            "options": base64.b64encode(_as_json(dict(self._task.args)).encode()).decode(),
        }
        answer = self._execute_module(ENGINE, arguments, task_vars=task_vars)
        if not answer.get("can_install") or self._task.check_mode:
            return answer
        if not self._connection._shell.tmpdir:
            self._make_tmp_path()
        try:
            archive = self._connection._shell.join_path(self._connection._shell.tmpdir, "engine.zip")
            self._transfer_file(engine_archive(), archive)
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
