# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter kata.hypervisor.fleet_sandboxes."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_sandboxes
short_description: List the sandboxes of many hosts
version_added: 1.0.0
author:
  - The kata.hypervisor authors (@kata-hypervisor)
description:
  - Collects what M(kata.hypervisor.kata_sandbox_info) returned on each host, and adds the name of the host to each sandbox.
  - Hosts without a result, such as unreachable ones, are left out.
positional: hosts, register
options:
  _input:
    description: The variables of all hosts, C(hostvars).
    type: dict
    required: true
  hosts:
    description: The names of the hosts, in the order of the list that is returned.
    type: list
    elements: str
    required: true
  register:
    description: The variable in which the hosts registered the result.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: List the sandboxes of each host
  kata.hypervisor.kata_sandbox_info:
  register: info

- name: Show how many sandboxes the fleet has
  ansible.builtin.debug:
    msg: "{{ hostvars | kata.hypervisor.fleet_sandboxes(ansible_play_hosts_all, 'info') | length }}"
  run_once: true
"""

RETURN = r"""
_value:
  description: The sandboxes, each with its host in C(host).
  type: list
  elements: dict
  sample:
    - {host: host1, id: web-1, state: started}
"""

from typing import Any, Callable, Iterable, Mapping


def fleet_sandboxes(hostvars: Mapping[str, Any], hosts: Iterable[str], register: str) -> list[dict[str, Any]]:
    """The sandboxes of all hosts that have a result."""
    return [
        {**sandbox, "host": str(host)}
        for host in hosts
        for sandbox in (hostvars[host].get(register) or {}).get("sandboxes") or []
    ]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"fleet_sandboxes": fleet_sandboxes}
