# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes right and wrong answers from their declared shapes (`answers.py`), for tests of what reads them."""

from __future__ import annotations

import random
import re
import string
from typing import Any

from ansible_collections.kata.hypervisor.plugins.module_utils.untrusted.answers import (
    Anything,
    Flag,
    ListOf,
    MapOf,
    Maybe,
    Number,
    Record,
    Tagged,
    Text,
)


def nested(depth: int) -> Any:
    """A list in a list in a list..."""
    value: Any = []
    for _level in range(depth):
        value = [value]
    return value


def junk(random_: random.Random) -> Any:
    """A value of any type."""
    return random_.choice(
        [
            None,
            True,
            False,
            0,
            -1,
            2**63,
            10**40,
            1.5,
            1e308,
            "",
            "x",
            "\x1b[2J",
            "x" * 5000,
            "\ud800",
            "/dev/null",
            [],
            {},
            [None],
            {"": None},
            nested(90),
            [[]] * 50,
            {"return": "x"},
        ]
    )


#: Characters of which texts are made that no program should print: ends of lines, blanks and digits of all kinds, controls, halves of pairs.
ODD = "\0\x07\x1b\x7f\x85\r\n\v\f\t \u00a0\u2028\u202e\u0663\u00b2\ufeff\ufffd\ud800\U0001f600"


def wrong_text(right_text: str, random_: random.Random) -> str:
    """A text like one that a program prints: words exchanged, left out or repeated, numbers too long, binary between them, now and then nothing like it."""
    pieces = re.split(r"(\s+|[:.=/-])", right_text)
    for _change in range(random_.randrange(1, 6)):
        position = random_.randrange(len(pieces))
        pieces[position] = random_.choice(
            [
                "",
                pieces[position] * 2,
                random_.choice(pieces),
                "\n".join([right_text] * random_.randrange(1, 30)),
                "9" * random_.randrange(1, 5500) if random_.random() < 0.3 else str(random_.randrange(10**20)),
                "-" + pieces[position],
                "".join(random_.choice(ODD) for _number in range(random_.randrange(1, 6))),
                "x" * random_.choice([1, 31, 129, 4097, 70000 if random_.random() < 0.05 else 5]),
                "".join(chr(random_.randrange(256)) for _number in range(random_.randrange(20))),
            ]
        )
    return "".join(pieces)


def right(shape: Any, random_: random.Random) -> Any:
    """An answer that has the shape."""
    if isinstance(shape, Text):
        if shape.choices:
            return random_.choice(shape.choices)
        if shape.pattern:
            return ""
        return "".join(
            random_.choice(string.printable) for _number in range(random_.randrange(min(shape.most, 12) + 1))
        )
    if isinstance(shape, Number):
        return random_.choice([shape.least, shape.most, random_.randint(shape.least, shape.most)])
    if isinstance(shape, Flag):
        return random_.random() < 0.5
    if isinstance(shape, Maybe):
        return None if random_.random() < 0.3 else right(shape.shape, random_)
    if isinstance(shape, ListOf):
        return [right(shape.shape, random_) for _number in range(random_.randrange(min(shape.most, 3) + 1))]
    if isinstance(shape, MapOf):
        return {
            f"name{number}": right(shape.shape, random_) for number in range(random_.randrange(min(shape.most, 3) + 1))
        }
    if isinstance(shape, Record):
        value = {name: right(inner, random_) for name, inner in shape.required.items()}
        value.update({name: right(inner, random_) for name, inner in shape.optional.items() if random_.random() < 0.5})
        return value
    if isinstance(shape, Tagged):
        tag = random_.choice([*shape.shapes, "other"])
        return {**right(shape.shapes.get(tag, shape.other), random_), shape.tag: tag}
    if isinstance(shape, Anything):
        return random_.choice([None, 1, "x", [], {"a": [1]}])
    raise TypeError(shape)


def wrong(shape: Any, random_: random.Random) -> Any:
    """An answer like one of the shape, in which at least one place was exchanged, removed or added; it may be right by chance."""
    value = right(shape, random_)
    for _change in range(random_.randrange(1, 4)):
        value = _changed(value, random_)
    return value


def _changed(value: Any, random_: random.Random) -> Any:
    if isinstance(value, dict) and value and random_.random() < 0.8:
        name = random_.choice(sorted(value))
        action = random_.random()
        rest = dict(value)
        if action < 0.3:
            del rest[name]
        elif action < 0.4:
            rest["unknown"] = junk(random_)
        else:
            rest[name] = _changed(value[name], random_)
        return rest
    if isinstance(value, list) and value and random_.random() < 0.7:
        position = random_.randrange(len(value))
        return [*value[:position], _changed(value[position], random_), *value[position + 1 :]]
    return junk(random_)
