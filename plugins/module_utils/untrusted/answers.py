# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validate the answers of VMMs, guests, programs and our own files against declared shapes.

A shape is a value. `checked` compares an answer with a shape, and returns the declared part, or raises `AnswerError`. No other code reads an answer
that `checked` has not validated. Shapes are plain data, so tests can generate wrong answers from them.
"""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any, Mapping, NamedTuple, Optional, Union

from .. import errors
from ..errors import VmmError

printable = errors.printable

#: The limits for characters, list entries, object members and levels of an answer whose shape sets none.
MOST_TEXT = 65536
MOST_ITEMS = 4096
MOST_DEPTH = 64
#: The largest number in a protocol that we use: sizes and identifiers have 64 bits.
MOST_NUMBER = 2**64 - 1


class AnswerError(VmmError):
    """An answer does not have its declared shape: a key is missing, a type is wrong, or a number or a size is out of range."""


class Text(NamedTuple):
    """A string of at most `most` characters. If `choices` or `pattern` are set, it is one of the choices, or matches completely."""

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
    """An object of at most `most` members with any names, whose values have one shape."""

    shape: Any
    most: int = MOST_ITEMS


class Record(NamedTuple):
    """An object with declared members. `checked` omits other members, or refuses them if `closed` is set.

    :param required: members that must exist
    :param optional: members that may be missing
    """

    required: Mapping[str, Any] = {}
    optional: Mapping[str, Any] = {}
    closed: bool = False


class Tagged(NamedTuple):
    """An object whose shape depends on one of its members, a text.

    :param tag: name of the member
    :param shapes: shapes of the object, by the value of the member
    :param other: the shape for every other value
    """

    tag: str
    shapes: Mapping[str, Record]
    other: Record


class Anything(NamedTuple):
    """Any JSON value of at most `depth` levels and `most` values, with texts of at most `longest` characters. For answers that are only shown."""

    depth: int = 16
    most: int = MOST_ITEMS
    longest: int = MOST_TEXT


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
    """The shape of the result of `dataclasses.asdict`. Every member may be missing, since earlier versions wrote fewer.

    :param special: shapes of fields whose annotation is not in `FIELD_SHAPES`
    """
    shapes = {
        field.name: special[field.name] if field.name in special else FIELD_SHAPES[str(field.type)]
        for field in dataclasses.fields(kind)
    }
    return Record({}, shapes)


def checked(shape: Any, value: Any, source: str, member: str = "") -> Any:
    """The declared part of an answer.

    :param source: a description of the answer for the error, such as `QEMU's answer to query-status`
    :param member: the name of the member of the answer that `value` is; empty if it is the answer itself
    :raises AnswerError: the answer does not have the shape; the error says where, and what must be there
    """
    return _checked(shape, value, source, (None, member) if member else None)


#: Where in an answer a value is: the place that it is inside of, and its name or its number there. It becomes text only in an error, since
#: nearly all values are right, and a host with a thousand sandboxes has many of them.
_Place = Optional[tuple[Any, Union[str, int]]]


def _text_of(place: _Place) -> str:
    if place is None:
        return ""
    outer, step = _text_of(place[0]), place[1]
    if isinstance(step, int):
        return f"{outer}[{step}]"
    return f"{outer}.{step[:100]}" if outer else step[:100]


def _wrong(wanted: str, value: Any, source: str, place: _Place) -> AnswerError:
    return AnswerError(f"{source} cannot be used: {_text_of(place) or 'it'} must be {wanted}", answer=brief(value))


def _checked(shape: Any, value: Any, source: str, place: _Place) -> Any:
    kind = type(shape)
    if kind is Record or kind is MapOf:
        if not isinstance(value, dict):
            raise _wrong("an object", value, source, place)
        for name in value:
            if not isinstance(name, str):
                raise _wrong("an object", value, source, place)
        if kind is Record:
            return _checked_record(shape, value, source, place)
        if len(value) > shape.most:
            raise _wrong(f"an object of at most {shape.most} members", value, source, place)
        return {name: _checked(shape.shape, entry, source, (place, name)) for name, entry in value.items()}
    if kind is ListOf:
        if not isinstance(value, list):
            raise _wrong("a list", value, source, place)
        if len(value) > shape.most:
            raise _wrong(f"a list of at most {shape.most} entries", value, source, place)
        return [_checked(shape.shape, entry, source, (place, number)) for number, entry in enumerate(value)]
    if kind is Maybe:
        return None if value is None else _checked(shape.shape, value, source, place)
    if kind is Tagged:
        if not isinstance(value, dict) or not isinstance(value.get(shape.tag), str):
            raise _wrong(f"an object with a text {shape.tag}", value, source, place)
        return _checked(shape.shapes.get(value[shape.tag], shape.other), value, source, place)
    problem = _problem(shape, value)
    if problem:
        raise _wrong(problem, value, source, place)
    return value


def _problem(shape: Any, value: Any) -> str:
    """What a value that is returned as it is must be, if it is something else; else empty."""
    if isinstance(shape, Text):
        if not isinstance(value, str):
            return "text"
        if len(value) > shape.most:
            return f"text of at most {shape.most} characters"
        if shape.choices and value not in shape.choices:
            return f"one of {', '.join(choice or 'nothing' for choice in shape.choices)}"
        if shape.pattern and not re.fullmatch(shape.pattern, value):
            return f"text like {shape.pattern}"
        return ""
    if isinstance(shape, Anything):
        return _size_problem(value, shape)
    if isinstance(shape, Number):
        if not isinstance(value, int) or isinstance(value, bool):
            return "an integer"
        return "" if shape.least <= value <= shape.most else f"a number from {shape.least} to {shape.most}"
    if isinstance(shape, Flag):
        return "" if isinstance(value, bool) else "true or false"
    raise TypeError(f"{shape!r} is not a shape")


def _checked_record(shape: Record, value: dict[str, Any], source: str, place: _Place) -> dict[str, Any]:
    found = {}
    for name, inner in shape.required.items():
        if name not in value:
            missing = _text_of((place, name))
            raise AnswerError(f"{source} cannot be used: {missing} is missing", answer=brief(value))
        found[name] = _checked(inner, value[name], source, (place, name))
    for name, inner in shape.optional.items():
        if name in value:
            found[name] = _checked(inner, value[name], source, (place, name))
    if shape.closed and len(found) != len(value):
        other = _text_of((place, next(name for name in value if name not in found)))
        raise AnswerError(f"{source} cannot be used: {other} is not known", answer=brief(value))
    return found


def _size_problem(value: Any, shape: Anything) -> str:
    """What a value with too many levels or values must be. It does not recurse."""
    level, count = [value], 1
    for _depth in range(shape.depth + 1):
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                inner.extend(one.values())
            elif isinstance(one, list):
                inner.extend(one)
            elif isinstance(one, str) and len(one) > shape.longest:
                return f"text of at most {shape.longest} characters"
            elif isinstance(one, float) and one - one != 0:
                return "a finite number"
        count += len(inner)
        if count > shape.most:
            return f"of at most {shape.most} values"
        if not inner:
            return ""
        level = inner
    return f"of at most {shape.depth} levels"


def parsed(data: bytes | str, source: str, most: int) -> Any:
    """The JSON value in a text.

    :param source: a description of the answer, for the error
    :param most: how many bytes the text may have
    :raises AnswerError: the text is too long, is not JSON, is nested too deeply, or has a number that JSON does not have
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
    """A short printable form of a value, for an error."""
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
