# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Labels and selectors: what is accepted, what a selector selects, and what a change of labels costs."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.batch import observe_many
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.converge import converge
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.options.labels import (
    MOST_LABELS,
    checked_labels,
    parse_selector,
    selects,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import SandboxSpec

WEB = {"tier": "web", "env": "prod", "example.com/owner": "team a", "empty": ""}


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ("", True),
        ("  ", True),
        ("tier=web", True),
        ("tier==web", True),
        ("tier=db", False),
        ("tier!=web", False),
        ("tier != db", True),
        # A label that does not exist differs from every value.
        ("absent!=prod", True),
        ("absent=", False),
        ("empty=", True),
        ("empty", True),
        ("empty!=", False),
        ("example.com/owner = team a", True),
        ("tier", True),
        ("!tier", False),
        ("! absent", True),
        ("absent", False),
        ("tier=web,env!=test,example.com/owner,!old", True),
        ("tier=web,env!=prod", False),
        ("tier=we", False),
        ("tier=a=b", False),
    ],
)
def test_what_a_selector_selects(selector: str, selected: bool) -> None:
    assert selects(parse_selector(selector), WEB) is selected


def test_a_value_can_have_an_equals_sign() -> None:
    assert selects(parse_selector("query=a=b"), {"query": "a=b"})
    assert not selects(parse_selector("query!=a=b"), {"query": "a=b"})


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        (",", "must not have an empty part"),
        ("tier=web,", "must not have an empty part"),
        ("=web", "the name of a label must be"),
        ("!", "the name of a label must be"),
        ("!!tier", "the name of a label must be"),
        ("!tier=web", "the name of a label must be"),
        ("tier in (a)", "the name of a label must be"),
        ("n" * 64, "the name of a label must be"),
        ("tier=a\x1b[2J", "must be printable text"),
        ("tier=" + "v" * 257, "must be printable text of at most 256"),
        (",".join(["a"] * 65), "must have at most 64 parts"),
        (["tier=web"], "must be text"),
        (None, "must be text"),
    ],
)
def test_a_selector_that_cannot_be_used(selector: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        parse_selector(selector)
    assert refused.value.option == "selector"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, {}),
        ({"b": "2", "a": "1"}, {"a": "1", "b": "2"}),
        ({"version": 12, "share": 0.5}, {"version": "12", "share": "0.5"}),
        ({"example.com/owner": "Zoë, team a"}, {"example.com/owner": "Zoë, team a"}),
        ({"n" * 63: "v" * 256}, {"n" * 63: "v" * 256}),
    ],
)
def test_labels_have_one_spelling(given: Any, kept: dict[str, str]) -> None:
    assert checked_labels("labels", given) == kept
    assert list(checked_labels("labels", given)) == sorted(kept)
    assert checked_labels("labels", kept) == kept


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("tier=web", "must be a dictionary"),
        (["tier"], "must be a dictionary"),
        ({"": "x"}, "the name of a label must be"),
        ({"a b": "x"}, "the name of a label must be"),
        ({"a=b": "x"}, "the name of a label must be"),
        ({"n" * 64: "x"}, "the name of a label must be"),
        ({1: "x"}, "the name of a label must be"),
        ({"a": None}, "the value of label a must be printable text"),
        ({"a": True}, "Put it in quotes"),
        ({"a": ["x"]}, "the value of label a must be printable text"),
        ({"a": "two\nlines"}, "the value of label a must be printable text"),
        ({"a": "\x1b[2J"}, "the value of label a must be printable text"),
        ({"a": "v" * 257}, "the value of label a must be printable text"),
        ({f"n{number}": "" for number in range(MOST_LABELS + 1)}, f"must have at most {MOST_LABELS} labels"),
    ],
)
def test_labels_that_cannot_be_used(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        checked_labels("labels", given)
    assert refused.value.option == "labels"


@pytest.fixture(name="sandbox")
def fixture_sandbox(tmp_path: Any) -> dict[str, Any]:
    """The options of a sandbox with a mock VMM."""
    kernel = tmp_path / "kernel"
    kernel.write_bytes(b"kernel")
    paths = {"state_dir": str(tmp_path / "state"), "run_dir": str(tmp_path / "run")}
    options = {"kernel_path": str(kernel), "initrd_path": str(kernel)}
    return {"spec": {"id": "web-1", "hypervisor": "mock", **paths}, "options": options}


@pytest.mark.parametrize("state", ["started", "paused", "stopped", "saved"])
def test_labels_change_and_the_vm_does_not_notice(sandbox: dict[str, Any], state: str) -> None:
    def task(check_mode: bool = False, **options: Any) -> dict[str, Any]:
        return converge(SandboxSpec(**sandbox["spec"], options=options), check_mode)

    converge(SandboxSpec(**sandbox["spec"], state=state, options={**sandbox["options"], "labels": {"tier": "web"}}))
    predicted = task(True, labels={"tier": "db"})
    result = task(labels={"tier": "db"})
    for one in (predicted, result):
        assert one["changed"]
        assert one["diff"] == {
            "before": {"state": state, "labels": {"tier": "web"}},
            "after": {"state": state, "labels": {"tier": "db"}},
        }
    assert predicted["actions"] == result["actions"] and len(result["actions"]) == 1
    assert result["sandbox"]["labels"] == {"tier": "db"}
    assert result["sandbox"]["state"] == state
    assert not task(labels={"tier": "db"})["changed"]
    # An omitted option keeps its value.
    assert task()["sandbox"]["labels"] == {"tier": "db"}
    assert task(labels={})["sandbox"]["labels"] == {}
    converge(SandboxSpec(**sandbox["spec"], state="absent"))


def test_sandboxes_are_selected_by_label(sandbox: dict[str, Any]) -> None:
    for identity, labels in (("web-1", {"tier": "web", "old": ""}), ("web-2", {"tier": "web"}), ("db", {})):
        options = {**sandbox["options"], "labels": labels}
        converge(SandboxSpec(**{**sandbox["spec"], "id": identity}, state="stopped", options=options))
    where = SandboxSpec(**sandbox["spec"])
    for selector, ids in (("tier=web", ["web-1", "web-2"]), ("tier=web,!old", ["web-2"]), ("!tier", ["db"])):
        assert [one["id"] for one in observe_many(where, selector=selector)] == ids
    # What is not known to have or to lack a label is not selected.
    with open(where.layout().record_path, "w", encoding="utf-8") as stream:
        stream.write("{")
    assert [one["id"] for one in observe_many(where, selector="tier!=db")] == ["db", "web-2"]
