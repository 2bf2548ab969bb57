# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers pass their declared shape, or are refused with the place and what must be there."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.untrusted.answers import (
    AnswerError,
    Anything,
    Flag,
    ListOf,
    MapOf,
    Maybe,
    Number,
    Record,
    Text,
    brief,
    checked,
    parsed,
    printable,
)
from tests.support.wrong_answers import nested, right, wrong

SHAPE = Record(
    {"status": Text(choices=("running", "paused")), "cpus": ListOf(Record({"id": Number(0, 255)}), most=3)},
    {
        "running": Flag(),
        "limits": MapOf(Number(), most=2),
        "note": Maybe(Text(most=5)),
        "rest": Anything(depth=2, most=5),
    },
)


def test_what_was_declared_comes_through_and_nothing_else() -> None:
    value = {"status": "running", "cpus": [{"id": 1, "more": 2}], "other": 1, "note": None, "running": False}
    assert checked(SHAPE, value, "it") == {"status": "running", "cpus": [{"id": 1}], "note": None, "running": False}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": 1}, "status must be text"),
        ({"status": "off"}, "status must be one of running, paused"),
        ({"cpus": "x"}, "cpus must be a list"),
        ({"cpus": [{}]}, r"cpus\[0\].id is missing"),
        ({"cpus": [{"id": True}]}, r"cpus\[0\].id must be an integer"),
        ({"cpus": [{"id": 256}]}, "from 0 to 255"),
        ({"cpus": [{"id": 1.0}]}, "an integer"),
        ({"cpus": [{"id": 1}] * 4}, "at most 3"),
        ({"running": 1}, "running must be true or false"),
        ({"limits": {"a": -1}}, "limits.a must be a number"),
        ({"limits": {"a": 1, "b": 1, "c": 1}}, "at most 2 members"),
        ({"note": "longer"}, "at most 5 characters"),
        ({"rest": [[[[]]]]}, "at most 2 levels"),
        ({"rest": [1] * 9}, "at most 5 values"),
        ({"rest": [float("inf")]}, "a finite number"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(AnswerError, match=words):
        checked(SHAPE, {"status": "paused", "cpus": [], **change}, "it")


def test_a_closed_record_knows_its_members() -> None:
    with pytest.raises(AnswerError, match="b is not known"):
        checked(Record({"a": Flag()}, closed=True), {"a": True, "b": 1}, "it")


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"[" * 100000,
        b"NaN",
        b"\xff",
        b"1" * 6000 if hasattr(__import__("sys"), "get_int_max_str_digits") else b"-",
        b"",
    ],
)
def test_text_that_is_not_json(text: bytes) -> None:
    with pytest.raises(AnswerError):
        parsed(text, "it", 200000)


def test_text_that_is_too_long() -> None:
    with pytest.raises(AnswerError, match="at most 10 bytes"):
        parsed(b" " * 11, "it", 10)


def test_wrong_answers_are_typed_errors() -> None:
    random_ = random.Random(7)
    refused = 0
    for _round in range(3000):
        checked(SHAPE, right(SHAPE, random_) | {"rest": 1}, "it")
        try:
            checked(SHAPE, wrong(SHAPE, random_), "it")
        except AnswerError as problem:
            refused += 1
            assert str(problem).isprintable() or "\n" in str(problem)
    assert refused > 1500


def test_nothing_reaches_a_terminal_raw() -> None:
    assert printable("a\x1b[2Jb\x07\u202e\n\tc\ud800") == "a\\x1b[2Jb\\x07\\u202e\n\tc\\ud800"
    assert printable("plain \u00e4") == "plain \u00e4"
    assert "\x1b" not in brief({"\x1b[2J": 1})
    assert len(brief("x" * 10**6)) < 210
    assert brief(10**5000) == "a number of more than 128 bits"
    assert brief(nested(50)) == "a list of 1"
