# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection to a host, made of the variables that the inventory has for it, beside the connection of the task that runs."""

from __future__ import annotations

import copy
import secrets
import shlex
import tempfile
from typing import Any, Mapping

from ansible import constants as C
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.loader import become_loader, connection_loader, shell_loader

#: The variables that say which plugins reach a host, and its Python.
ALWAYS = (
    "inventory_hostname",
    "ansible_connection",
    "ansible_become",
    "ansible_become_method",
    "ansible_python_interpreter",
    "ansible_shell_type",
)
DEFAULT_CONNECTION, DEFAULT_METHOD = "ssh", "sudo"
SUCCESS = b"BECOME-SUCCESS-"


def connection_variables(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a host's variables that its connection, its shell and its way to become root read.

    :param variables: all of them, such as `hostvars[host]`
    """
    names = [name for name in ALWAYS if name in variables]
    found = {name: variables[name] for name in names}
    for kind, plugin, loader in (
        ("connection", _connection_name(found), connection_loader),
        ("shell", str(found.get("ansible_shell_type") or "sh"), shell_loader),
        ("become", _method(found), become_loader),
    ):
        # The variables of a plugin are known from when it is loaded.
        loaded = loader.get(plugin, class_only=True)
        for name in C.config.get_plugin_vars(kind, getattr(loaded, "_load_name", plugin)):
            if name in variables:
                found[name] = variables[name]
    return found


def _connection_name(variables: Mapping[str, Any]) -> str:
    name = str(variables.get("ansible_connection") or DEFAULT_CONNECTION)
    return DEFAULT_CONNECTION if name == "smart" else name


def _method(variables: Mapping[str, Any]) -> str:
    return str(variables.get("ansible_become_method") or DEFAULT_METHOD)


class HostConnection:
    """A connection to a host, as its variables say.

    :param variables: see `connection_variables`; empty for the controller itself
    :param play_context: of the task that runs; its user and its passwords must be those of hosts
    :param become: whether to become root on the host; None for what the variables say
    :raises AnsibleError: a plugin does not exist
    """

    def __init__(self, variables: Mapping[str, Any], play_context: Any, become: bool | None = None) -> None:
        self.variables = dict(variables)
        name = _connection_name(self.variables) if self.variables else "local"
        self.name = name.rpartition(".")[2]
        context = copy.copy(play_context)
        # The plugins read what the play says of guests here; the host's variables replace it.
        context.become = False
        self.plugin = connection_loader.get(name, context, None)
        if self.plugin is None:
            raise AnsibleError(f"the connection plugin {name!r} of the host was not found")
        keys = {"timeout": context.timeout}
        if context.remote_user:
            keys["remote_user"] = context.remote_user
        if context.password:
            keys["password"] = context.password
        self.plugin.set_options(task_keys=keys, var_options=self.variables)
        self.plugin._shell.set_options(var_options=self.variables)
        wanted = self.variables.get("ansible_become", False) if become is None else become
        self._become = self._become_plugin(context) if boolean(wanted, strict=False) else None
        self.plugin.set_become_plugin(self._become)

    def _become_plugin(self, context: Any) -> Any:
        method = _method(self.variables)
        plugin = become_loader.get(method)
        if plugin is None:
            raise AnsibleError(f"the become plugin {method!r} of the host was not found")
        keys = {"become_pass": context.become_pass} if context.become_pass else {}
        plugin.set_options(task_keys=keys, var_options=self.variables)
        return plugin

    @property
    def takes_input(self) -> bool:
        """Whether a command can be given its standard input."""
        return self.name == "local" or bool(getattr(self.plugin, "has_pipelining", False))

    @property
    def python(self) -> str:
        """The Python of the host."""
        named = str(self.variables.get("ansible_python_interpreter") or "")
        return "python3" if not named or named.startswith("auto") else named

    def run(self, words: list[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        """Run a program on the host, as the user that its variables say. Returns its exit code and both outputs.

        :raises AnsibleConnectionFailure: the host cannot be reached
        """
        if stdin and not self.takes_input:
            return self._run_with_file(words, stdin)
        return self._run(shlex.join(words), stdin)

    def _run(self, command: str, stdin: bytes, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        become = self._become if sudoable else None
        if become is not None:
            command = become.build_become_command(command, self.plugin._shell)
            if not self.takes_input:
                self._without_terminal(become)
        code, stdout, stderr = self.plugin.exec_command(command, in_data=stdin or None, sudoable=become is not None)
        stdout, stderr = bytes(stdout), bytes(stderr)
        if stdout.startswith(SUCCESS):
            stdout = stdout.partition(b"\n")[2]
        if code == 255 and not stdout and self.name == "ssh":
            raise AnsibleConnectionFailure(f"the host cannot be reached: {stderr[-1000:].decode('utf-8', 'replace')}")
        return code, stdout, stderr

    def _without_terminal(self, become: Any) -> None:
        """Keep the plugin from using a terminal, which would change bytes."""
        if become.expect_prompt():
            raise AnsibleError(
                f"the connection {self.name} of the host cannot answer the password prompt of {become.name} without a terminal; "
                "let the user become root without a password, or use ansible_connection: ssh"
            )
        self.plugin.set_option("pty", False)

    def _run_with_file(self, words: list[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        """For connections that cannot send a standard input: it is put into a file on the host first."""
        directory = f"/tmp/kata-{secrets.token_hex(16)}"  # noqa: S108 -- nobody can guess it, and it must not exist
        code, _stdout, stderr = self._run(f"umask 077 && mkdir {directory}", b"", sudoable=False)
        if code:
            raise AnsibleConnectionFailure(f"{directory} cannot be created on the host: {stderr.decode()}")
        try:
            with tempfile.NamedTemporaryFile() as local:
                local.write(stdin)
                local.flush()
                self.plugin.put_file(local.name, f"{directory}/input")
            return self._run(f"{shlex.join(words)} <{directory}/input", b"")
        finally:
            self._run(f"rm -rf {directory}", b"", sudoable=False)

    def close(self) -> None:
        """Close it. What ssh keeps open for the next task stays open."""
        self.plugin.close()
