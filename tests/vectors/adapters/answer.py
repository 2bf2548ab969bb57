# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an adapter answers, and how that is compared with a line."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Optional

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError


class _Unset:
    def __repr__(self) -> str:
        return "nothing"


UNSET = _Unset()


class Lost:
    """A result that Kata 1.x hands back next to an error, and an exception cannot: it equals anything."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "a result lost to an exception"


class Judged:
    """A result that knows by itself how it differs from what is expected."""

    def differences_from(self, where: str, expected: Any) -> list[str]:
        """What differs, in words that begin with `where`."""
        raise NotImplementedError


class Console(Judged):
    """The path of the console's socket: the recorded one names the VM's directory, or has a placeholder for it.

    :param path: of the socket
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def differences_from(self, where: str, expected: Any) -> list[str]:
        directory, _slash, name = str(expected).rpartition("/")
        same = expected == self.path or (
            directory.startswith("{") and directory.endswith("}") and self.path.endswith(f"/{name}")
        )
        return [] if same else [f"{where}: expected {expected!r}, got {self.path!r}"]


class Failed:
    """An error among an answer's values: it equals any text of an error, as texts may be better than Kata 1.x's."""

    def __init__(self, error: HypervisorError) -> None:
        self.error = error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"error {self.error}"


@dataclasses.dataclass
class Answer:
    """A driver's answer to a line.

    :param output: its result; UNSET compares nothing, for what an exception cannot hand back
    :param error: the error it raised
    :param inside: Kata 1.x may tell that error for the line, or inside the line's output
    """

    output: Any = UNSET
    error: Optional[HypervisorError] = None
    inside: bool = False


def attempt(function: Callable[..., Any], *arguments: Any, **named: Any) -> tuple[Any, Optional[Failed]]:
    """A function's result and its error; one of them is None."""
    try:
        return function(*arguments, **named), None
    except HypervisorError as error:
        return None, Failed(error)


def differences(line: dict[str, Any], answer: Answer) -> list[str]:
    """What differs, in words."""
    found = []
    expected_error = line["error"]
    if answer.inside and expected_error is None:
        output = line["output"] if isinstance(line["output"], dict) else {}
        expected_error = next(
            (value for name, value in output.items() if name.endswith("error") and value is not None), None
        )
    if (expected_error is None) != (answer.error is None):
        found.append(f"error: expected {expected_error!r}, got {Failed(answer.error) if answer.error else None}")
    if answer.output is not UNSET:
        found.extend(_compare("output", line["output"], answer.output))
    elif expected_error is None and not found:
        found.append("the adapter gave no output")
    return found


def _compare(where: str, expected: Any, actual: Any) -> list[str]:
    if isinstance(actual, Lost):
        return []
    if isinstance(actual, Judged):
        return actual.differences_from(where, expected)
    if isinstance(expected, dict) and isinstance(actual, dict):
        found = []
        for key in {**expected, **actual}:
            found.extend(_compare(f"{where}.{key}", expected.get(key, UNSET), actual.get(key, UNSET)))
        return found
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        found = []
        for index, (left, right) in enumerate(zip(expected, actual)):
            found.extend(_compare(f"{where}[{index}]", left, right))
        return found
    if expected in (None, []) and actual in (None, []):
        # Kata 1.x's JSON writes an empty list either way.
        return []
    if actual == expected and isinstance(actual, bool) == isinstance(expected, bool):
        return []
    if isinstance(expected, list) and isinstance(actual, list):
        return [_first_difference(where, expected, actual)]
    return [f"{where}: expected {expected!r}, got {actual!r}"]


def _first_difference(where: str, expected: list[Any], actual: list[Any]) -> str:
    index = next(
        (i for i, (left, right) in enumerate(zip(expected, actual)) if left != right), min(len(expected), len(actual))
    )
    return (
        f"{where}: {len(expected)} items expected, {len(actual)} got; from item {index}: "
        f"expected {expected[index : index + 4]!r}, got {actual[index : index + 4]!r}"
    )
