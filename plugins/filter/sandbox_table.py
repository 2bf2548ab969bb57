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

#: The headings of columns whose key is not a heading.
HEADINGS = {"changed_at": "SINCE", "memory_mb": "MEMORY MiB"}
COLUMNS = (
    "host",
    "id",
    "hypervisor",
    "state",
    "vcpus",
    "memory_mb",
    "network.address",
    "network.ports",
    "labels",
    "changed_at",
)


def sandbox_table(sandboxes: Any, columns: Sequence[str] = COLUMNS) -> Any:
    """The lines of the table; what is not a list of sandboxes as it is."""
    if not isinstance(sandboxes, (list, tuple)) or not all(_is_sandbox(item) for item in sandboxes):
        return sandboxes
    shown = [
        column for column in columns if not _may_be_omitted(column) or any(_value(one, column) for one in sandboxes)
    ]
    return _lines([_cells(column, sandboxes) for column in shown])


def _is_sandbox(item: Any) -> bool:
    return isinstance(item, dict) and "state" in item


def _may_be_omitted(column: str) -> bool:
    return "." in column or column == "labels"


def _value(sandbox: dict[str, Any], column: str) -> Any:
    """The value of a column: a key, or keys with dots between them. A list is joined by commas, and so are labels."""
    found: Any = sandbox
    for key in column.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    if column == "labels" and isinstance(found, dict):
        return ",".join(f"{name}={value}" for name, value in found.items())
    return ",".join(map(str, found)) if isinstance(found, (list, tuple)) else found


def _cells(column: str, sandboxes: Sequence[dict[str, Any]]) -> list[str]:
    """A column's heading and its cells, all of the same width."""
    heading = HEADINGS.get(column, str(column).rpartition(".")[2].upper())
    values = ["" if value is None else value for value in (_value(sandbox, column) for sandbox in sandboxes)]
    width = max(len(str(value)) for value in [heading, *values])
    is_number = bool(values) and all(value == "" or _is_number(value) for value in values)
    align = str.rjust if is_number else str.ljust
    return [align(str(value), width) for value in [heading, *values]]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _lines(columns: list[list[str]]) -> list[str]:
    return ["  ".join(row).rstrip() for row in zip(*columns)]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"sandbox_table": sandbox_table}
