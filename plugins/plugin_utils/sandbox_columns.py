# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sandboxes as the lines of a table. Pure."""

from __future__ import annotations

from typing import Any, Sequence

#: The headings of columns whose key is not a heading.
HEADINGS = {"changed_at": "SINCE", "memory_mb": "MEMORY MiB"}
#: The columns of a table of sandboxes. The last one says since when.
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
#: Those of a fleet's table, and the order in which they are left out where the table is too wide.
FLEET_COLUMNS = (*COLUMNS[:-1], "age")
LEFT_OUT = ("labels", "network.ports", "hypervisor", "vcpus", "memory_mb", "age", "network.address", "host")
GAP = "  "


def table_lines(sandboxes: Any, columns: Sequence[str]) -> list[str] | None:
    """The lines of the table; None for what is not a list of sandboxes."""
    if not is_list_of_sandboxes(sandboxes):
        return None
    return _lines([_cells(column, sandboxes) for column in _shown(sandboxes, columns)])


def table_that_fits(sandboxes: Any, width: int) -> list[str] | None:
    """The lines of a fleet's table; None for what is not a list of sandboxes.

    :param width: columns of the terminal, 0 for no limit
    """
    if not is_list_of_sandboxes(sandboxes):
        return None
    cells = {column: _cells(column, sandboxes) for column in _shown(sandboxes, FLEET_COLUMNS)}
    for column in LEFT_OUT:
        if not width or sum(len(found[0]) + len(GAP) for found in cells.values()) - len(GAP) <= width:
            break
        cells.pop(column, None)
    lines = _lines(list(cells.values()))
    return [f"{line[: width - 1]}…" if width and len(line) > width else line for line in lines]


def is_list_of_sandboxes(value: Any) -> bool:
    """Whether a value is a list of which each item is a sandbox."""
    return isinstance(value, (list, tuple)) and all(isinstance(item, dict) and "state" in item for item in value)


def _shown(sandboxes: Sequence[dict[str, Any]], columns: Sequence[str]) -> list[str]:
    return [
        column for column in columns if not _may_be_omitted(column) or any(_value(one, column) for one in sandboxes)
    ]


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
    return [GAP.join(row).rstrip() for row in zip(*columns)]
