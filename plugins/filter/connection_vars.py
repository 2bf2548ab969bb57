# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: connection_vars
short_description: The variables that a host's connection reads
version_added: 1.0.0
description:
  - Returns those of a host's variables that its connection plugin, its shell and its way to become root read, and its Python.
  - The connection plugin P(kata.hypervisor.sandbox#connection) reaches a guest through its host with them.
positional: _input
options:
  _input:
    description: The variables of a host, such as C(hostvars['host1']).
    type: dict
    required: true
author:
  - The kata.hypervisor authors (@kata-hypervisor)
"""

EXAMPLES = r"""
# In the group variables of sandboxes that are listed in a static inventory
ansible_connection: kata.hypervisor.sandbox
kata_sandbox_id: "{{ inventory_hostname }}"
kata_sandbox_host: host1.example.com
kata_sandbox_host_vars: "{{ hostvars[kata_sandbox_host] | kata.hypervisor.connection_vars }}"
"""

RETURN = r"""
_value:
  description: The variables by name.
  type: dict
"""

from typing import Any, Callable, Mapping

from ansible_collections.kata.hypervisor.plugins.plugin_utils.host_connection import connection_variables


def connection_vars(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The filter."""
    return connection_variables(variables)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"connection_vars": connection_vars}
