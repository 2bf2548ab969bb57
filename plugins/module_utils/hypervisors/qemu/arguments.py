# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a command line is made of: options as values, and how each QEMU wants them written.

No value can become another option: where QEMU takes JSON it gets JSON, everywhere else commas are doubled
(QEMU's qemu-options: a comma in a value is written twice).
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Iterator, Union

Scalar = Union[str, int, bool]


#: Options whose value QEMU takes as it stands, commas and all.
LITERAL = frozenset({"kernel", "initrd", "append", "bios", "pidfile", "cpu"})


@dataclasses.dataclass
class Argument:
    """One option of QEMU.

    :param name: without the dash
    :param head: the first word, unnamed in the text form (a device's driver, an object's type, a machine's name)
    :param properties: what follows; dictionaries and lists only where QEMU takes JSON
    """

    name: str
    head: str | None = None
    properties: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Dialect:
    """The words a generation of QEMU takes.

    :param json_heads: options written as JSON, and the JSON key of their first word
    :param inner_names: what stands before the names of a property's own properties, where that is not its name and a dot
    """

    name: str
    json_heads: dict[str, str]
    inner_names: dict[str, str] = dataclasses.field(default_factory=dict)


#: A listening socket that QEMU waits for nobody on.
SERVER_SOCKET = {"server": True, "wait": False}
#: QEMU 6 and later take JSON for these options.
MODERN = Dialect("modern", {"device": "driver", "object": "qom-type", "blockdev": "driver", "netdev": "type"})
#: QEMU 5.2 to 6.1 know today's words, but -device takes no JSON before 6.2, and -object and -netdev none before 6.0, nor a
#: throttle group's limits as one property: its x-iops-total and the others are taken by all of them.
TRANSITIONAL = dataclasses.replace(
    MODERN, name="transitional", json_heads={"blockdev": "driver"}, inner_names={"limits": "x-"}
)


def dialect_for(version: tuple[int, ...]) -> Dialect:
    """The dialect of a QEMU version; older ones than 5.2 are refused before they are asked (`binary.py`)."""
    return MODERN if version >= (6, 2) else TRANSITIONAL


def render(arguments: list[Argument], dialect: Dialect) -> list[str]:
    """The words of the command line, without the program."""
    words: list[str] = []
    for argument in arguments:
        words.append(f"-{argument.name}")
        if argument.name in dialect.json_heads:
            value = dict(argument.properties)
            if argument.head is not None:
                value = {dialect.json_heads[argument.name]: argument.head, **value}
            words.append(json.dumps(value, separators=(",", ":")))
        elif argument.head is not None or argument.properties:
            words.append(_text(argument, dialect))
    return words


def _text(argument: Argument, dialect: Dialect) -> str:
    if argument.name in LITERAL:
        return argument.head or ""
    parts = [] if argument.head is None else [_value(argument.head)]
    for key, value in _flat(argument.properties, dialect.inner_names):
        parts.append(key if value is None else f"{key}={_value(value)}")
    return ",".join(parts)


def _flat(properties: dict[str, Any], inner_names: dict[str, str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Properties of properties with a dot between their names (QEMU's keyval)."""
    for key, value in properties.items():
        if isinstance(value, dict):
            yield from _flat(value, inner_names, prefix + inner_names.get(key, f"{key}."))
        else:
            yield prefix + key, value


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value).replace(",", ",,")
