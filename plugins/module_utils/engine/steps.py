# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan is made of: steps, each one driver operation, and what the sandbox is meant to be afterwards. Values only."""

from __future__ import annotations

import dataclasses
from typing import Any

#: What was being done while a step is taken; the record says it before the step begins.
PHASE_OF = {
    "create": "",
    "update": "",
    "recreate": "stopping",
    "cleanup": "stopping",
    "stop": "stopping",
    "discard": "",
    "start": "starting",
    "restore": "restoring",
    "resume": "resuming",
    "resize_vcpus": "resizing",
    "resize_memory": "resizing",
    "plug": "plugging",
    "unplug": "plugging",
    "modify": "plugging",
    "pause": "pausing",
    "save": "saving",
    "remove": "removing",
    "autostart": "",
}


@dataclasses.dataclass(frozen=True)
class Step:
    """One operation.

    :param name: a key of PHASE_OF, and of the engine's operations
    :param text: what it does, for people
    :param arguments: what the operation needs to know
    """

    name: str
    text: str
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def phase(self) -> str:
        """What the record says while the step is taken."""
        return PHASE_OF[self.name]


@dataclasses.dataclass
class Plan:
    """What will be done, and what the sandbox is meant to be afterwards.

    :param before: the state and everything that will change, as it is
    :param after: the same, as it will be
    :param desired: the state to record: started, paused, stopped or saved; empty when the sandbox is removed
    :param options: the options to record
    :param defaults: what else is in force
    """

    steps: list[Step] = dataclasses.field(default_factory=list)
    before: dict[str, Any] = dataclasses.field(default_factory=dict)
    after: dict[str, Any] = dataclasses.field(default_factory=dict)
    desired: str = ""
    hypervisor: str = ""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    defaults: dict[str, Any] = dataclasses.field(default_factory=dict)
    devices: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def actions(self) -> list[str]:
        """The steps for people."""
        return [step.text for step in self.steps]

    def has(self, *names: str) -> bool:
        """Whether one of these steps is taken."""
        return any(step.name in names for step in self.steps)

    def only_ends(self) -> bool:
        """Whether nothing is made or changed: a VM is ended and things are removed."""
        return all(step.name in ("stop", "cleanup", "discard", "autostart", "remove") for step in self.steps)

    def add(self, name: str, text: str = "", **arguments: Any) -> None:
        """Append a step."""
        self.steps.append(Step(name, text or name, arguments))


def brief(value: Any) -> str:
    """A value in an action's text."""
    return " ".join(map(str, value)) if isinstance(value, list) else "none" if value in ("", None) else str(value)
