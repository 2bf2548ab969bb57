# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter kata.hypervisor.sandbox_table."""

from __future__ import annotations

DOCUMENTATION = r"""
name: sandbox_table
short_description: Format sandboxes as a table
version_added: 1.0.0
author:
  - The kata.hypervisor authors (@kata-hypervisor)
description:
  - Formats a list of sandboxes as the lines of a table with a heading. Columns are as wide as their widest cell; numbers are aligned to the right.
  - The column V(labels), and one such as V(network.address), whose key is inside of another value, are omitted if no sandbox has it.
  - Anything that is not a list of sandboxes is returned unchanged, so the result of P(kata.hypervisor.query#filter) can be passed on in any case.
positional: columns
options:
  _input:
    description: Sandboxes, as M(kata.hypervisor.kata_sandbox_info) or P(kata.hypervisor.fleet_sandboxes#filter) returns them.
    type: raw
    required: true
  columns:
    description: The keys of a sandbox to show, in their order. A sandbox without the key has an empty cell. A dot leads to a key inside of a value.
    type: list
    elements: str
    default: [host, id, hypervisor, state, vcpus, memory_mb, network.address, network.ports, labels, changed_at]
"""

EXAMPLES = r"""
- name: Show the sandboxes of a host
  ansible.builtin.debug:
    msg: "{{ info.sandboxes | kata.hypervisor.sandbox_table(['id', 'state', 'pid']) }}"
"""

RETURN = r"""
_value:
  description: The lines of the table, or the input where it is not a list of sandboxes.
  type: raw
  sample:
    - "ID     STATE     PID"
    - "web-1  started  4711"
    - "web-2  stopped     0"
"""

from typing import Any, Callable, Sequence

from ansible_collections.kata.hypervisor.plugins.plugin_utils.sandbox_columns import COLUMNS, table_lines


def sandbox_table(sandboxes: Any, columns: Sequence[str] = COLUMNS) -> Any:
    """The lines of the table; what is not a list of sandboxes as it is."""
    lines = table_lines(sandboxes, columns)
    return sandboxes if lines is None else lines


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"sandbox_table": sandbox_table}
