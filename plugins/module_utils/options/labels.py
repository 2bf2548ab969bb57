# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Labels of sandboxes, and selectors that choose sandboxes by their labels. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import ConfigError

LABEL_NAME = re.compile(r"[A-Za-z0-9._/-]{1,63}")
#: The longest value of a label, characters.
MOST_VALUE = 256
#: The most labels of a sandbox.
MOST_LABELS = 64
#: The most requirements of a selector.
MOST_REQUIREMENTS = 64


class Requirement(NamedTuple):
    """One part of a selector.

    :param name: the label's name
    :param value: the value to compare with; None asks only whether the label exists
    :param negated: whether the comparison must fail
    """

    name: str
    value: str | None
    negated: bool

    def accepts(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels meet it. A label that does not exist differs from every value."""
        found = self.name in labels if self.value is None else labels.get(self.name) == self.value
        return found is not self.negated


def checked_labels(name: str, value: Any) -> dict[str, str]:
    """The labels that a task sets, sorted by name. A number becomes its text.

    :param name: the option's name
    :raises ConfigError: they are not labels
    """
    if not isinstance(value, Mapping):
        raise ConfigError("must be a dictionary of names and values", option=name, wanted=value)
    if len(value) > MOST_LABELS:
        raise ConfigError(f"must have at most {MOST_LABELS} labels", option=name, wanted=len(value))
    labels = {_checked_name(label, name): _checked_value(label, text, name) for label, text in value.items()}
    if len(labels) != len(value):
        raise ConfigError("must not have the same label twice", option=name, wanted=sorted(map(str, value)))
    return dict(sorted(labels.items()))


def parse_selector(text: Any, name: str = "selector") -> tuple[Requirement, ...]:
    """The requirements of a selector: `tier=web`, `env!=prod`, `owner`, `!owner`, all of which must be met if commas are between them.

    An empty selector has none, and selects every sandbox.

    :param name: the option's name
    :raises ConfigError: it is not a selector
    """
    if not isinstance(text, str):
        raise ConfigError("must be text", option=name, wanted=text, fix="Write a selector such as tier=web,!owner.")
    if not text.strip():
        return ()
    parts = text.split(",")
    if len(parts) > MOST_REQUIREMENTS:
        raise ConfigError(f"must have at most {MOST_REQUIREMENTS} parts", option=name, wanted=len(parts))
    return tuple(_requirement(part.strip(), text, name) for part in parts)


def selects(selector: Sequence[Requirement], labels: Mapping[str, str]) -> bool:
    """Whether labels meet all requirements of a selector."""
    return all(requirement.accepts(labels) for requirement in selector)


def _requirement(part: str, text: str, option: str) -> Requirement:
    if not part:
        raise ConfigError(
            "must not have an empty part between its commas",
            option=option,
            wanted=text,
            fix="Write a selector such as tier=web,!owner.",
        )
    label, equals, value = part.partition("=")
    if not equals:
        negated = part.startswith("!")
        return Requirement(_checked_name(part[negated:].strip(), option), None, negated)
    negated = label.endswith("!")
    if negated:
        label = label[:-1]
    elif value.startswith("="):
        value = value[1:]  # Kubernetes accepts == too.
    label = _checked_name(label.strip(), option)
    return Requirement(label, _checked_value(label, value.strip(), option), negated)


def _checked_name(label: Any, option: str) -> str:
    if not isinstance(label, str) or not LABEL_NAME.fullmatch(label):
        raise ConfigError(
            "the name of a label must be 1 to 63 of the characters A-Z a-z 0-9 . _ / -", option=option, wanted=label
        )
    return str(label)


def _checked_value(label: str, value: Any, option: str) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.isprintable() or len(value) > MOST_VALUE:
        fix = (
            "Put it in quotes: YAML reads true, yes, on and their opposites as values, not as text."
            if isinstance(value, bool)
            else ""
        )
        raise ConfigError(
            f"the value of label {label} must be printable text of at most {MOST_VALUE} characters",
            option=option,
            wanted=value,
            fix=fix,
        )
    return str(value)
