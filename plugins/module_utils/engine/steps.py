# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan is made of: steps, each one operation of a driver, and what the sandbox should be afterwards. Values only."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple


class StepKind(NamedTuple):
    """What holds for every step of one name. `operations.py` has the function that does it.

    :param phase: what the record says while the step is taken, one of `records.record.PHASES`
    :param needs: the capability that a VM needs for it, empty where every VM can be taken through it
    :param text: what it does, for people, where the plan has nothing more exact to say; empty for the step's name
    """

    phase: str = ""
    needs: str = ""
    text: str = ""


#: All steps that there are.
STEPS = {
    "create": StepKind(),
    "update": StepKind(),
    "recreate": StepKind("stopping"),
    "cleanup": StepKind("stopping"),
    "stop": StepKind("stopping"),
    "discard": StepKind(text="discard the saved state"),
    "start": StepKind("starting"),
    "restore": StepKind("restoring", "save"),
    "resume": StepKind("resuming", "pause"),
    "resize_vcpus": StepKind("resizing"),
    "resize_memory": StepKind("resizing"),
    "plug": StepKind("plugging"),
    "unplug": StepKind("plugging"),
    "modify": StepKind("plugging"),
    "pause": StepKind("pausing", "pause"),
    "save": StepKind("saving", "save"),
    "remove": StepKind("removing"),
    "autostart": StepKind(),
}

#: Steps that end a VM and remove things, and create or change nothing.
ENDING_STEPS = ("stop", "cleanup", "discard", "autostart", "remove")


@dataclasses.dataclass(frozen=True)
class Step:
    """One operation.

    :param name: a key of STEPS
    :param text: what it does, for people
    :param arguments: what the operation needs to know
    """

    name: str
    text: str
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def phase(self) -> str:
        """What the record says while the step is taken."""
        return STEPS[self.name].phase

    @property
    def needs(self) -> str:
        """The capability that a VM needs for it, empty for none."""
        return STEPS[self.name].needs


@dataclasses.dataclass
class Plan:
    """What will be done, and what the sandbox should be afterwards.

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
        """Whether nothing is created or changed: a VM is ended and things are removed."""
        return all(step.name in ENDING_STEPS for step in self.steps)

    def add(self, name: str, text: str = "", **arguments: Any) -> None:
        """Append a step.

        :param text: what it does, for people; the text of STEPS, or the name, where it is empty
        """
        self.steps.append(Step(name, text or STEPS[name].text or name, arguments))


def brief(value: Any) -> str:
    """A value in an action's text."""
    return " ".join(map(str, value)) if isinstance(value, list) else "none" if value in ("", None) else str(value)
