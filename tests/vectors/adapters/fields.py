# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a line's input. What is missing or null is empty, since Kata 1.x lists only what is not; what has another type is a typed error."""

from __future__ import annotations

import os
import pathlib
from typing import Any, Iterator

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, Unsupported
from ansible_collections.kata.hypervisor.plugins.module_utils.untrusted.answers import brief

#: Descriptors of one kind that a record of Kata 1.x's can hold: a tap has at most 256 queues.
MOST_DESCRIPTORS = 256


class Fields:
    """The values of an object by name.

    :raises ConfigError: it is no object
    """

    def __init__(self, values: Any) -> None:
        if values is not None and not isinstance(values, dict):
            raise ConfigError("this must be an object", wanted=brief(values))
        self.values: dict[str, Any] = values or {}

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def text(self, name: str, default: str = "") -> str:
        """A text.

        :raises ConfigError: it is something else
        """
        return str(self._of(name, str, default, "a text"))

    def number(self, name: str, default: int = 0, least: int | None = None, most: int | None = None) -> int:
        """A whole number.

        :raises ConfigError: it is something else, or out of its range
        """
        value = self._of(name, int, default, "an integer")
        if isinstance(value, bool):
            raise self._wrong(name, "an integer")
        if (least is not None and value < least) or (most is not None and value > most):
            raise self._wrong(name, f"a number from {least} to {most}")
        return int(value)

    def flag(self, name: str) -> bool:
        """True or false.

        :raises ConfigError: it is something else
        """
        return bool(self._of(name, bool, False, "true or false"))

    def table(self, name: str) -> Fields:
        """An object.

        :raises ConfigError: it is something else
        """
        return Fields(self._of(name, dict, {}, "an object"))

    def items(self, name: str) -> list[Any]:
        """A list.

        :raises ConfigError: it is something else
        """
        return list(self._of(name, list, [], "a list"))

    def texts(self, name: str) -> list[str]:
        """A list of texts.

        :raises ConfigError: it is something else
        """
        return [Fields({name: item}).text(name) for item in self.items(name)]

    def tables(self, name: str) -> Iterator[Fields]:
        """A list of objects.

        :raises ConfigError: it is something else
        """
        return (Fields(item) for item in self.items(name))

    def descriptors(self, name: str) -> int:
        """How many open files a record has.

        :raises ConfigError: no record has that many
        """
        return self.number(name, 0, 0, MOST_DESCRIPTORS)

    def _of(self, name: str, kind: type, default: Any, wanted: str) -> Any:
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, kind):
            raise self._wrong(name, wanted)
        return value

    def _wrong(self, name: str, wanted: str) -> ConfigError:
        return ConfigError(f"{name} must be {wanted}", wanted=brief(self.values[name]))


def unknown_operation(name: str) -> Unsupported:
    """The error for an operation that a driver does not have."""
    return Unsupported(f"there is no operation {brief(name)}")


def write_scratch(directory: pathlib.Path, name: str, content: bytes = b"", size: int = 0) -> None:
    """Write a file that a line begins with into the line's scratch directory, and nowhere else.

    :param name: `{D}/NAME` or `{DIR}/NAME`
    :param size: its length where that is larger; the rest is a hole
    :raises ConfigError: it cannot be there
    """
    placeholder, _slash, rest = name.partition("/")
    try:
        if placeholder not in ("{D}", "{DIR}") or not rest or ".." in rest.split("/"):
            raise ValueError("it is somewhere else")
        path = directory / rest.lstrip("/")
        path.write_bytes(content)
        os.truncate(path, max(size, len(content)))
    except (OSError, ValueError) as problem:
        raise ConfigError(
            "there can be no such file in the scratch directory", wanted=brief(name), answer=str(problem)
        ) from problem


def raw_bytes(text: str) -> bytes:
    """The bytes of a recorded text: those that are no UTF-8 are recorded as surrogates."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
