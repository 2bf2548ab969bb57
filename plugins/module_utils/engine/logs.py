# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logs of sandboxes: what guests printed on their consoles, and what VMMs reported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import ConfigError, printable
from ..host.processes import tail
from ..hypervisors import new_hypervisor
from ..options.spec import SandboxSpec
from .batch import observe_many
from .sandbox import DriverFactory

#: The most lines of a log, and the most bytes that they are searched in.
MOST_LINES = 10_000
MOST_BYTES = 1 << 20

#: The facts with the paths of logs, by the names of logs.
LOGS = {"console": "console_log", "vmm": "vmm_log"}


def read_logs(
    where: SandboxSpec,
    patterns: Sequence[str] = ("*",),
    selector: str = "",
    lines: int = 50,
    factory: DriverFactory = new_hypervisor,
) -> list[dict[str, Any]]:
    """The last lines of the logs of this host's sandboxes, printable, and the paths of the logs.

    :param where: a spec with the directories; its id is not used
    :param patterns: shell patterns of ids
    :param selector: only sandboxes whose labels it selects
    :raises ConfigError: the number of lines or the selector cannot be used
    """
    if not 1 <= lines <= MOST_LINES:
        raise ConfigError(f"must be a number from 1 to {MOST_LINES}", option="lines", wanted=lines)
    return [_logs_of(facts, lines) for facts in observe_many(where, patterns, selector=selector, factory=factory)]


def _logs_of(facts: dict[str, Any], lines: int) -> dict[str, Any]:
    found: dict[str, Any] = {"id": facts["id"]}
    for name, fact in LOGS.items():
        path = facts.get(fact) or ""
        found[name] = (
            [printable(line, lines=False) for line in tail(path, lines, MOST_BYTES).splitlines()] if path else []
        )
        found[f"{name}_path"] = path
    return found
