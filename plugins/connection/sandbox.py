# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: sandbox
short_description: Run tasks in the guest of a VM sandbox, through its host
version_added: 1.0.0
description:
  - Runs tasks in the guest of a sandbox, as root. The guest needs no network, no ssh server and no password.
  - The guest is reached through its host, with the host's own connection, such as ssh or local. On the host the guest agent's port and the data
    channels of the VM lead into the guest.
  - The guest must run the QEMU guest agent, which must be allowed to run programs, and have a POSIX shell. On Firecracker it must have C(python3) or
    C(socat) too.
  - The inventory plugin P(kata.hypervisor.sandboxes#inventory) sets all variables of this connection.
author:
  - The kata.hypervisor authors (@kata-hypervisor)
notes:
  - The user in the guest is root. Use C(become_user) to become another one.
  - The connection needs the rights of the user who runs the sandboxes on the host, usually root. If the user that Ansible logs in with is another
    one, set C(ansible_become) for the host, or O(host_become).
  - Strategy plugins of mitogen replace connections by their own and cannot use this one. Use a strategy of Ansible's for plays on guests.
options:
  sandbox_id:
    description: The id of the sandbox.
    type: str
    required: true
    vars:
      - name: kata_sandbox_id
  sandbox_host:
    description:
      - The name of the host in the inventory, for messages.
      - If neither this nor O(host_vars) is set, the sandbox is one of the controller.
    type: str
    vars:
      - name: kata_sandbox_host
  host_vars:
    description:
      - The variables of the host's own connection.
      - Set it to C({{ hostvars[kata_sandbox_host] | kata.hypervisor.connection_vars }}).
    type: dict
    default: {}
    vars:
      - name: kata_sandbox_host_vars
  host_become:
    description:
      - Whether to become root on the host. By default the variable C(ansible_become) of the host decides.
    type: bool
    vars:
      - name: kata_sandbox_host_become
  state_dir:
    description: The directory of the sandboxes' records on the host. The default is that of M(kata.hypervisor.kata_sandbox).
    type: str
    vars:
      - name: kata_sandbox_state_dir
  run_dir:
    description: The directory of sockets and logs on the host. The default is that of M(kata.hypervisor.kata_sandbox).
    type: str
    vars:
      - name: kata_sandbox_run_dir
  guest_password:
    description: A password of the guest, which this connection does not need. If it is set, the host does not get it.
    type: str
    vars:
      - name: ansible_password
      - name: ansible_ssh_pass
      - name: ansible_ssh_password
  guest_become_password:
    description: A password of the guest to become another user, which root does not need. If it is set, the host does not get it.
    type: str
    vars:
      - name: ansible_become_password
      - name: ansible_become_pass
  connection_timeout:
    description: Seconds until the guest must have answered before each command.
    type: int
    default: 60
    vars:
      - name: kata_sandbox_connection_timeout
  command_timeout:
    description:
      - Seconds until a command must have ended. It is ended then, with its child processes.
      - By default there is no limit. The keyword C(timeout) of a task limits it too.
    type: int
    vars:
      - name: kata_sandbox_command_timeout
"""

import copy
import os
import secrets
from typing import Any

from ansible import context as cli
from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import printable
from ansible_collections.kata.hypervisor.plugins.module_utils.guest.files import (
    BLOCK,
    append_command,
    has_checksum,
    move_command,
    new_part_command,
    read_command,
    remove_command,
)
from ansible_collections.kata.hypervisor.plugins.plugin_utils.host_connection import HostConnection
from ansible_collections.kata.hypervisor.plugins.plugin_utils.host_program import HostProgramError, HostPrograms

display = Display()

PROGRAM = "engine.guest_program"
#: Bytes of a file that are sent or read at once. They are in memory here and on the host.
PART = 512 * BLOCK


class Connection(ConnectionBase):
    """A guest, reached through its host."""

    transport = "kata.hypervisor.sandbox"
    has_pipelining = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._host: HostConnection | None = None

    def _connect(self) -> Connection:
        """Nothing: the host's connection is made by the first command."""
        self._connected = True
        return self

    def _programs(self) -> HostPrograms:
        if self._host is None:
            self._host = HostConnection(
                self.get_option("host_vars") or {}, self._context_of_host(), self.get_option("host_become")
            )
        return HostPrograms(self._host, self._host.python)

    def _context_of_host(self) -> Any:
        """The task's context without the user and passwords that the play or the variables of the guest have set; those of the command line stay."""
        context = copy.copy(self._play_context)
        context.remote_user = (cli.CLIARGS or {}).get("remote_user")
        if self.get_option("guest_password") is not None:
            context.password = ""
        if self.get_option("guest_become_password") is not None:
            context.become_pass = ""
        return context

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Run a command in the guest. Returns its exit code and both outputs.

        :raises AnsibleConnectionFailure: the guest or the host cannot be reached
        """
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        return self._run(cmd, in_data or b"")

    def _run(self, cmd: str, data: bytes, most: int | None = None) -> tuple[int, bytes, bytes]:
        """See `exec_command`.

        :param most: bytes of standard output that the guest may send; None for any number. With it, the standard error has nothing that programs of the host
            say, such as ssh with -vvv, or sudo where it cannot resolve the name of the host
        """
        sandbox = self.get_option("sandbox_id")
        display.vvv(f"EXEC in the guest of {sandbox}: {cmd}", host=self.get_option("sandbox_host"))
        request = {
            "id": sandbox,
            "command": cmd,
            "size": len(data),
            "state_dir": self.get_option("state_dir"),
            "run_dir": self.get_option("run_dir"),
            "connect_timeout": self.get_option("connection_timeout"),
            "timeout": self.get_option("command_timeout"),
            "most": most,
        }
        try:
            done = self._programs().run(PROGRAM, request, data)
        except HostProgramError as error:
            where = self.get_option("sandbox_host") or "the controller"
            raise AnsibleConnectionFailure(f"sandbox {sandbox} on {where}: {error}") from error
        if "error" in done.ending:
            # The guest was reached if the command was refused, or took too long.
            reached = done.ending["error"].get("kind") in ("ConfigError", "CommandTimeout")
            problem = AnsibleError if reached else AnsibleConnectionFailure
            raise problem(done.ending["error"]["msg"])
        errors = done.ending.get("errors")
        return int(done.ending["code"]), done.stdout, done.stderr if errors is None else errors.encode()

    def put_file(self, in_path: str, out_path: str) -> None:
        """Copy a file from the controller into the guest."""
        super().put_file(in_path, out_path)
        display.vvv(f"PUT {in_path} to {out_path}", host=self.get_option("sandbox_id"))
        if not os.path.exists(in_path):
            raise AnsibleFileNotFound(f"file or module does not exist: {in_path}")
        part = f"{out_path}.{secrets.token_hex(8)}"
        try:
            self._must(new_part_command(part))
            size = 0
            with open(in_path, "rb") as source:
                while data := source.read(PART):
                    said = self._must(append_command(part), data)[0]
                    self._check(has_checksum(said, data), out_path, said)
                    size += len(data)
            self._must(move_command(part, out_path, size))
        except BaseException:
            self._clean(part)
            raise

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Copy a file from the guest to the controller."""
        super().fetch_file(in_path, out_path)
        display.vvv(f"FETCH {in_path} to {out_path}", host=self.get_option("sandbox_id"))
        with open(out_path, "wb") as target:
            block = 0
            while True:
                data, said = self._must(read_command(in_path, block, PART // BLOCK), most=PART)
                self._check(has_checksum(said, data), in_path, said)
                target.write(data)
                if len(data) < PART:
                    break
                block += PART // BLOCK

    def _must(self, command: str, data: bytes = b"", most: int = BLOCK) -> tuple[bytes, bytes]:
        """Both outputs of a command that must succeed."""
        code, stdout, stderr = self._run(command, data, most)
        if code or (data and stderr):
            raise AnsibleError(
                f"sandbox {self.get_option('sandbox_id')}: {printable(stderr[-1000:].decode('utf-8', 'replace')).strip()}"
            )
        return stdout, stderr

    def _check(self, right: bool, path: str, said: bytes) -> None:
        if not right:
            raise AnsibleError(
                f"sandbox {self.get_option('sandbox_id')}: {path} was changed on its way, or while it was read: its digest is wrong. "
                f"The guest said: {printable(said[-1000:].decode('utf-8', 'replace')).strip()}"
            )

    def _clean(self, part: str) -> None:
        try:
            self._run(remove_command(part), b"")
        except AnsibleError as problem:
            display.warning(f"{part} could not be removed from the guest: {problem}")

    def reset(self) -> None:
        """Connect again with the next command."""
        self.close()

    def close(self) -> None:
        """Close the host's connection."""
        if self._host is not None:
            self._host.close()
            self._host = None
        self._connected = False
