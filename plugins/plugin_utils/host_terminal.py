# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the program `host/terminal_program.py` on a task's host, through the host's own connection, with a terminal."""

from __future__ import annotations

import base64
import os
import secrets
import shlex
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.common.text.converters import to_bytes
from ansible.plugins.action import ActionBase

from ansible_collections.kata.hypervisor.plugins.plugin_utils.engine import PLUGINS
from ansible_collections.kata.hypervisor.plugins.plugin_utils.terminal import Program, TerminalError

PROGRAM = os.path.join(PLUGINS, "module_utils", "host", "terminal_program.py")
SSH = ("ssh", "ansible.builtin.ssh")
LOCAL = ("local", "ansible.builtin.local")
#: Seconds for the connection, become and the program to be ready.
READY_SECONDS = 60.0


def host_program(action: ActionBase, interpreter: str, arguments: Sequence[str]) -> Program:
    """The program on the host, started.

    :param interpreter: the host's Python
    :param arguments: those after the marker, the operation first
    :raises TerminalError: the host's connection cannot carry a terminal
    """
    marker = f"<kata-{secrets.token_hex(16)}>"
    with open(PROGRAM, "rb") as stream:
        text = base64.b64encode(zlib.compress(stream.read(), 9)).decode()
    code = f"import base64,zlib;exec(compile(zlib.decompress(base64.b64decode('{text}')),'terminal_program','exec'))"
    operation, *rest = arguments
    command = shlex.join([interpreter, "-c", code, operation, marker, *rest])
    connection = action._connection
    become = connection.become
    if become is not None and (action.get_become_option("become_user") != action._get_remote_user()):
        command = become.build_become_command(command, connection._shell)
    argv, keep = _argv(connection, command)
    program = Program(argv, marker.encode(), _answer(become), keep)
    _send_password(connection, keep)
    return program


def _argv(connection: Any, command: str) -> tuple[list[bytes], tuple[int, ...]]:
    """The arguments of a program that runs a command on the host with a terminal, and the descriptors that it inherits."""
    kind = connection.transport
    if kind in LOCAL:
        return [b"/bin/sh", b"-c", to_bytes(command)], ()
    if kind not in SSH:
        raise TerminalError(f"the connection of the host must be ssh or local to carry a terminal, and it is {kind}")
    connection.host = connection.get_option("host") or connection._play_context.remote_addr
    # A tilde at the start of a line belongs to the guest, not to ssh.
    words = connection._build_command(
        connection.get_option("ssh_executable"), "ssh", "-tt", "-e", "none", connection.host, command
    )
    return [to_bytes(word) for word in words], connection.sshpass_pipe or ()


def _send_password(connection: Any, keep: Sequence[int]) -> None:
    """Give sshpass the password of the connection."""
    if keep:
        password = connection.get_option("password") or connection._play_context.password
        os.close(keep[0])
        os.write(keep[1], to_bytes(password) + b"\n")
        os.close(keep[1])


def _answer(become: Any) -> Any:
    """A function that answers the question of become for its password, once."""
    asked: list[bool] = []

    def answer(printed: bytes) -> bytes:
        if become is None or asked or not become.prompt or not become.check_password_prompt(printed):
            return b""
        asked.append(True)
        password = become.get_option("become_pass")
        if not password:
            raise TerminalError("become asks for a password on the host: set ansible_become_password")
        return to_bytes(password) + b"\n"

    return answer


def interpreter_of(answer: Mapping[str, Any], variables: Mapping[str, Any]) -> str:
    """The host's Python: the one that its variables name, else the one that Ansible has found there."""
    facts = {**(variables.get("ansible_facts") or {}), **(answer.get("ansible_facts") or {})}
    named = str(variables.get("ansible_python_interpreter") or "")
    return (
        named
        if named and not named.startswith("auto")
        else str(facts.get("discovered_interpreter_python") or "python3")
    )
