# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an option is declared: once, on the field of the configuration that carries it.

A field of `config.HypervisorConfig` made with `option` knows the task option's name and aliases, its type and unit, and what a
change to it costs for each hypervisor. Argument specs (`arguments.py`), comparison and diff (`engine/planner.py`) are made from that.
"""

from __future__ import annotations

import builtins
import dataclasses
import enum
from collections.abc import Mapping  # isinstance() is much faster than with that of typing.
from typing import Any


class Cost(enum.IntEnum):
    """What a change of an option needs on a sandbox that exists, cheapest first."""

    LIVE = 0
    RESTART = 1
    RECREATE = 2
    #: This hypervisor does not have the option: a task that sets it fails.
    UNSUPPORTED = 3


@dataclasses.dataclass(frozen=True)
class Option:
    """One task option.

    :param name: the option's name in a task
    :param attribute: the field of HypervisorConfig that carries it
    :param aliases: other names a task may use (Kata's TOML keys among them)
    :param type: Ansible's type (str, int, bool, path, list, dict)
    :param unit: MiB, bytes, seconds, count or empty
    :param choices: the values allowed, or None
    :param elements: type of a list's elements
    :param cost: what a change costs: one cost, or one by hypervisor
    :param only: the hypervisors that have it; None is all
    :param default: the value for a new sandbox if the task omits it, or one by hypervisor; None leaves it to the hypervisor
    """

    name: str
    attribute: str
    aliases: tuple[str, ...] = ()
    type: str = "str"
    unit: str = ""
    choices: tuple[Any, ...] | None = None
    elements: str | None = None
    cost: Cost | Mapping[str, Cost] = Cost.RESTART
    only: tuple[str, ...] | None = None
    default: Any = None

    def default_for(self, hypervisor: str) -> Any:
        """The value for a new sandbox of this hypervisor if the task omits it; None if there is none."""
        if self.cost_for(hypervisor) is Cost.UNSUPPORTED:
            return None
        return self.default.get(hypervisor) if isinstance(self.default, Mapping) else self.default

    def cost_for(self, hypervisor: str) -> Cost:
        """What a change costs on this hypervisor; a restart unless declared."""
        if self.only is not None and hypervisor not in self.only:
            return Cost.UNSUPPORTED
        return self.cost if isinstance(self.cost, Cost) else self.cost.get(hypervisor, Cost.RESTART)


def option(
    zero: Any = None,
    name: str = "",
    *aliases: str,
    type: str = "str",
    unit: str = "",
    choices: tuple[Any, ...] | None = None,
    elements: str | None = None,
    cost: Cost | Mapping[str, Cost] = Cost.RESTART,
    only: tuple[str, ...] | None = None,
    default: Any = None,
) -> Any:
    """A dataclass field that is also a task option (without a name: a field only drivers and tests set).

    :param zero: the field's value when the option is not given (a type, such as `list`, makes a new one each time)
    :param only: the hypervisors that have it; for the others the cost is UNSUPPORTED
    """
    metadata = {}
    if name:
        metadata["option"] = {
            "name": name,
            "aliases": aliases,
            "type": type,
            "unit": unit,
            "choices": choices,
            "elements": elements,
            "cost": cost,
            "only": only,
            "default": default,
        }
    if isinstance(zero, builtins.type):
        return dataclasses.field(default_factory=zero, metadata=metadata)  # pylint: disable=invalid-field-call
    return dataclasses.field(default=zero, metadata=metadata)  # pylint: disable=invalid-field-call


#: What `options_of` has returned, by class.
_OPTIONS: dict[Any, tuple[Option, ...]] = {}


def options_of(config_class: Any) -> tuple[Option, ...]:
    """The options declared on a configuration class, in the order of its fields."""
    if config_class not in _OPTIONS:
        fields = [one for one in dataclasses.fields(config_class) if one.metadata.get("option")]
        _OPTIONS[config_class] = tuple(Option(attribute=one.name, **one.metadata["option"]) for one in fields)
    return _OPTIONS[config_class]
