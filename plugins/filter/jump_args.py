# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter kata.hypervisor.jump_args."""

from __future__ import annotations

DOCUMENTATION = r"""
name: jump_args
short_description: Arguments of ssh that lead through a host to its sandboxes
version_added: 1.0.0
author:
  - The kata.hypervisor authors (@kata-hypervisor)
description:
  - From the variables of a host, makes the arguments with which ssh connects to a sandbox through this host, with the host's own user, port and key.
  - A host with a C(local) connection is the controller itself, so there are none.
  - P(kata.hypervisor.sandboxes#inventory) uses it for sandboxes with O(kata.hypervisor.sandboxes#inventory:connection=ssh).
options:
  _input:
    description: The variables of the host, such as C(hostvars['host1']).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the arguments
  ansible.builtin.debug:
    msg: "{{ hostvars['host1'] | kata.hypervisor.jump_args }}"
"""

RETURN = r"""
_value:
  description: The arguments, quoted for the variable C(ansible_ssh_common_args).
  type: str
  sample: -o 'ProxyCommand=ssh -p 22 -l admin -W [%h]:%p host1.example.com'
"""

import shlex
from typing import Any, Callable, Mapping

from ansible.errors import AnsibleFilterError

#: Connections of hosts that ssh on the controller can take too.
OVER_SSH = ("ssh", "smart", "ansible.builtin.ssh", "paramiko", "paramiko_ssh", "ansible.builtin.paramiko_ssh")
LOCAL = ("local", "ansible.builtin.local")


def jump_args(variables: Mapping[str, Any]) -> str:
    """The arguments for ssh to connect through the host with these variables.

    :raises AnsibleFilterError: the host's connection is not one that ssh can take
    """
    name = _first(variables, "inventory_hostname")
    connection = _first(variables, "ansible_connection") or "ssh"
    if connection in LOCAL:
        return ""
    if connection not in OVER_SSH:
        raise AnsibleFilterError(
            f"The connection of host {name} must be ssh or local for sandboxes with connection: ssh, and it is {connection}. "
            "Use connection: agent in the inventory source."
        )
    command = [_first(variables, "ansible_ssh_executable") or "ssh"]
    for option, names in (
        ("-p", ("ansible_port", "ansible_ssh_port")),
        ("-l", ("ansible_user", "ansible_ssh_user")),
        ("-i", ("ansible_private_key_file", "ansible_ssh_private_key_file")),
    ):
        value = _first(variables, *names)
        if value:
            command += [option, value]
    for arguments in ("ansible_ssh_common_args", "ansible_ssh_extra_args"):
        command += shlex.split(_first(variables, arguments))
    host = _first(variables, "ansible_host", "ansible_ssh_host") or name
    # ssh replaces %h and %p, and a percent sign of our own is written twice. The brackets are for addresses of IPv6.
    before, after = (" ".join(map(shlex.quote, part)).replace("%", "%%") for part in (command, ["--", host]))
    return "-o " + shlex.quote(f"ProxyCommand={before} -W [%h]:%p {after}")


def _first(variables: Mapping[str, Any], *names: str) -> str:
    """The first of these variables that is set, as text; empty where none is."""
    for name in names:
        value = variables.get(name)
        if value not in (None, ""):
            return str(value)
    return ""


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"jump_args": jump_args}
