# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans and their steps. Values only: `planner.py` makes plans, and `operations.py` runs their steps."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple


class StepKind(NamedTuple):
    """What all steps of one name have in common. `operations.py` has the function that runs them.

    :param phase: the record's phase while the step runs, one of `records.record.PHASES`
    :param needs: the capability that the VM needs for it, empty for none
    :param text: the text shown to users unless the plan has a more exact one; empty for the step's name
    """

    phase: str = ""
    needs: str = ""
    text: str = ""


#: All kinds of steps, by name.
STEPS = {
    "create": StepKind(),
    "update": StepKind(),
    "recreate": StepKind("stopping"),
    "cleanup": StepKind("stopping"),
    "stop": StepKind("stopping"),
    "discard": StepKind(text="discard the saved state"),
    "provide": StepKind(),
    "release": StepKind(),
    "start": StepKind("starting"),
    "restore": StepKind("restoring", "save"),
    "resume": StepKind("resuming", "pause"),
    "resize_vcpus": StepKind("resizing"),
    "resize_memory": StepKind("resizing"),
    "resize_disk": StepKind("resizing", "disk_resize"),
    "plug": StepKind("plugging"),
    "unplug": StepKind("plugging"),
    "modify": StepKind("plugging"),
    "pause": StepKind("pausing", "pause"),
    "save": StepKind("saving", "save"),
    "remove": StepKind("removing"),
    "autostart": StepKind(),
}

#: Steps that only end a VM or remove something.
ENDING_STEPS = ("stop", "cleanup", "discard", "autostart", "release", "remove")


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of a plan.

    :param name: a key of STEPS
    :param text: the text shown to users
    :param arguments: the arguments of the step's function
    """

    name: str
    text: str
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def phase(self) -> str:
        """The record's phase while the step runs."""
        return STEPS[self.name].phase

    @property
    def needs(self) -> str:
        """The capability that the VM needs for the step, empty for none."""
        return STEPS[self.name].needs


@dataclasses.dataclass
class Plan:
    """The steps of a task, and what the sandbox should be afterwards.

    :param before: the state and everything that will change, before the steps
    :param after: the same, after the steps
    :param desired: the state to record: started, paused, stopped or saved; empty when the sandbox is removed
    :param options: the options to record
    :param defaults: the defaults in force for options that are not set
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
        """The texts of the steps."""
        return [step.text for step in self.steps]

    def has(self, *names: str) -> bool:
        """Whether the plan has one of these steps."""
        return any(step.name in names for step in self.steps)

    def only_ends(self) -> bool:
        """Whether the plan only ends a VM or removes something."""
        return all(step.name in ENDING_STEPS for step in self.steps)

    def add(self, name: str, text: str = "", **arguments: Any) -> None:
        """Append a step.

        :param text: the text shown to users; if empty, the text in STEPS or the name
        """
        self.steps.append(Step(name, text or STEPS[name].text or name, arguments))


def brief(value: Any) -> str:
    """A short form of a value, for the text of an action. Of a list of named things, it has the names."""
    if isinstance(value, list):
        return (
            " ".join(str(item.get("name", item)) if isinstance(item, dict) else str(item) for item in value) or "none"
        )
    return "none" if value in ("", None) else str(value)
