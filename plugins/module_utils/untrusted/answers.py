# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The declared shapes of answers: what a VMM, a guest, a program or a file of ours may say, and nothing else gets in.

A shape is a value; `checked` holds an answer against it and returns what was declared, typed, or raises `AnswerError`. Nobody reads a key of an
answer that no shape has let in. Shapes are plain data, so a test makes wrong answers from them.
"""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any, Mapping, NamedTuple

from .. import errors
from ..errors import VmmError

printable = errors.printable

#: The most text, list entries, object members and levels that an answer may have where its shape names no limit.
MOST_TEXT = 65536
MOST_ITEMS = 4096
MOST_DEPTH = 64
#: The largest number a protocol of ours has: sizes and identifiers have 64 bits.
MOST_NUMBER = 2**64 - 1


class AnswerError(VmmError):
    """An answer is not what was declared: a key is missing, a type is another, a number or a size is out of range."""


class Text(NamedTuple):
    """A string of at most `most` characters, one of `choices`, or one that `pattern` matches completely, where these are given."""

    most: int = MOST_TEXT
    choices: tuple[str, ...] = ()
    pattern: str = ""


class Number(NamedTuple):
    """An integer in a range, both ends included. True and False are not numbers."""

    least: int = 0
    most: int = MOST_NUMBER


class Flag(NamedTuple):
    """True or False."""


class Maybe(NamedTuple):
    """Null, or an answer of another shape."""

    shape: Any


class ListOf(NamedTuple):
    """A list of at most `most` answers of one shape."""

    shape: Any
    most: int = MOST_ITEMS


class MapOf(NamedTuple):
    """An object whose names are free, at most `most` of them, and whose values have one shape."""

    shape: Any
    most: int = MOST_ITEMS


class Record(NamedTuple):
    """An object with declared members. Others are left out of what `checked` returns, unless `closed` refuses them.

    :param required: members that must be there
    :param optional: members that may be missing; a missing one stays missing
    """

    required: Mapping[str, Any] = {}
    optional: Mapping[str, Any] = {}
    closed: bool = False


class Tagged(NamedTuple):
    """An object whose shape depends on one of its members, a text.

    :param tag: the member
    :param shapes: shapes of the object by the tag's value
    :param other: the shape for every other value
    """

    tag: str
    shapes: Mapping[str, Record]
    other: Record


class Anything(NamedTuple):
    """Whatever JSON can say, in at most `depth` levels and `most` values. For answers that are shown and never read."""

    depth: int = 16
    most: int = MOST_ITEMS


#: The shapes of a dataclass's fields, by their annotation.
FIELD_SHAPES: dict[str, Any] = {
    "str": Text(),
    "int": Number(),
    "bool": Flag(),
    "list[str]": ListOf(Text()),
    "list[int]": ListOf(Number()),
    "dict[str, str]": MapOf(Text()),
    "dict[str, dict[str, Any]]": MapOf(MapOf(Anything())),
}


def shape_of(kind: Any, **special: Any) -> Record:
    """The shape of what `dataclasses.asdict` makes of a dataclass; every member may be missing, since earlier versions wrote fewer.

    :param special: shapes of fields whose annotation `FIELD_SHAPES` does not have
    """
    shapes = {
        field.name: special[field.name] if field.name in special else FIELD_SHAPES[str(field.type)]
        for field in dataclasses.fields(kind)
    }
    return Record({}, shapes)


def checked(shape: Any, value: Any, source: str) -> Any:
    """The declared part of an answer.

    :param source: whose answer to what, for the error, such as `QEMU's answer to query-status`
    :raises AnswerError: names the place in the answer and what must be there
    """
    return _checked(shape, value, source, "")


def _checked(shape: Any, value: Any, source: str, place: str) -> Any:
    def wrong(wanted: str) -> AnswerError:
        where = f"{place} must be {wanted}" if place else f"it must be {wanted}"
        return AnswerError(f"{source} cannot be used: {where}", answer=brief(value))

    if isinstance(shape, Text):
        if not isinstance(value, str):
            raise wrong("text")
        if len(value) > shape.most:
            raise wrong(f"text of at most {shape.most} characters")
        if shape.choices and value not in shape.choices:
            raise wrong(f"one of {', '.join(choice or 'nothing' for choice in shape.choices)}")
        if shape.pattern and not re.fullmatch(shape.pattern, value):
            raise wrong(f"text like {shape.pattern}")
        return value
    if isinstance(shape, Number):
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong("an integer")
        if not shape.least <= value <= shape.most:
            raise wrong(f"a number from {shape.least} to {shape.most}")
        return value
    if isinstance(shape, Flag):
        if not isinstance(value, bool):
            raise wrong("true or false")
        return value
    if isinstance(shape, Maybe):
        return None if value is None else _checked(shape.shape, value, source, place)
    if isinstance(shape, ListOf):
        if not isinstance(value, list):
            raise wrong("a list")
        if len(value) > shape.most:
            raise wrong(f"a list of at most {shape.most} entries")
        return [_checked(shape.shape, entry, source, f"{place}[{number}]") for number, entry in enumerate(value)]
    if isinstance(shape, (MapOf, Record)):
        if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            raise wrong("an object")
        if isinstance(shape, MapOf):
            if len(value) > shape.most:
                raise wrong(f"an object of at most {shape.most} members")
            return {name: _checked(shape.shape, entry, source, _inside(place, name)) for name, entry in value.items()}
        return _checked_record(shape, value, source, place)
    if isinstance(shape, Tagged):
        if not isinstance(value, dict) or not isinstance(value.get(shape.tag), str):
            raise wrong(f"an object with a text {shape.tag}")
        return _checked(shape.shapes.get(value[shape.tag], shape.other), value, source, place)
    if isinstance(shape, Anything):
        _check_size(value, shape, wrong)
        return value
    raise TypeError(f"{shape!r} is not a shape")


def _checked_record(shape: Record, value: dict[str, Any], source: str, place: str) -> dict[str, Any]:
    found = {}
    for name, inner in shape.required.items():
        if name not in value:
            raise AnswerError(f"{source} cannot be used: {_inside(place, name)} is missing", answer=brief(value))
        found[name] = _checked(inner, value[name], source, _inside(place, name))
    for name, inner in shape.optional.items():
        if name in value:
            found[name] = _checked(inner, value[name], source, _inside(place, name))
    if shape.closed and len(found) != len(value):
        other = next(name for name in value if name not in found)
        raise AnswerError(f"{source} cannot be used: {_inside(place, other[:100])} is not known", answer=brief(value))
    return found


def _check_size(value: Any, shape: Anything, wrong: Any) -> None:
    """Refuse what has too many levels or values, without recursion."""
    level, count = [value], 1
    for _depth in range(shape.depth + 1):
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                inner.extend(one.values())
            elif isinstance(one, list):
                inner.extend(one)
            elif isinstance(one, str) and len(one) > MOST_TEXT:
                raise wrong(f"text of at most {MOST_TEXT} characters")
            elif isinstance(one, float) and one - one != 0:
                raise wrong("a finite number")
        count += len(inner)
        if count > shape.most:
            raise wrong(f"of at most {shape.most} values")
        if not inner:
            return
        level = inner
    raise wrong(f"of at most {shape.depth} levels")


def _inside(place: str, name: str) -> str:
    name = name[:100]
    return f"{place}.{name}" if place else name


def parsed(data: bytes | str, source: str, most: int) -> Any:
    """The JSON value in a text.

    :param source: whose answer to what, for the error
    :param most: bytes that the text may have
    :raises AnswerError: it is longer, is not JSON, is nested too deeply, or has a number that JSON does not have
    """
    if len(data) > most:
        raise AnswerError(f"{source} cannot be used: it must have at most {most} bytes", answer=brief(data[:200]))
    try:
        return json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as problem:
        raise AnswerError(
            f"{source} cannot be used: it must be JSON ({problem})", answer=brief(data[:200])
        ) from problem


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is not a number")


def brief(value: Any, most: int = 200) -> str:
    """A short, printable form of a value, for an error."""
    if isinstance(value, (bytes, bytearray)):
        text = bytes(value[: most + 1]).decode("utf-8", "replace")
    elif isinstance(value, str):
        text = value[: most + 1]
    elif isinstance(value, dict):
        text = "an object with " + (", ".join(sorted(str(name)[:40] for name in list(value)[:8])) or "no members")
    elif isinstance(value, list):
        text = f"a list of {len(value)}"
    elif isinstance(value, int) and value.bit_length() > 128:
        text = "a number of more than 128 bits"
    else:
        text = str(value)
    return printable(text[:most] + ("..." if len(text) > most else ""))
