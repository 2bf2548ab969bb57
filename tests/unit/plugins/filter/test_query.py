# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter kata.hypervisor.query."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.kata.hypervisor.plugins.filter import query as module

SANDBOXES = [
    {"id": "web-1", "state": "started", "memory_mb": 256, "host": "a"},
    {"id": "web-2", "state": "paused", "memory_mb": 2048, "host": "b"},
]


@pytest.mark.parametrize(
    ("expression", "chosen"),
    [
        ("[?memory_mb > `1024`].id", ["web-2"]),
        ("[?state == 'started'] | [0].host", "a"),
        ("length(@)", 2),
        ("sort_by(@, &memory_mb)[-1].id", "web-2"),
        ("[?starts_with(id, 'db')]", []),
    ],
)
def test_what_an_expression_chooses(expression: str, chosen: Any) -> None:
    assert module.query(SANDBOXES, expression) == chosen


class Marked(str):
    """A string as Ansible marks it."""


def test_marked_strings_are_strings() -> None:
    assert module.query([{"id": Marked("web")}], "[?starts_with(id, 'w')].id") == ["web"]


@pytest.mark.parametrize("expression", ["[?", "nope(@)", "sort_by(@, &nothing)"])
def test_a_bad_expression_is_an_error_that_names_it(expression: str) -> None:
    with pytest.raises(AnsibleFilterError, match="cannot be used"):
        module.query(SANDBOXES, expression)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MISSING", True)
    with pytest.raises(AnsibleFilterError, match="jmespath"):
        module.query(SANDBOXES, "@")
    assert module.query(SANDBOXES, "") == SANDBOXES


def test_the_filter_has_its_name() -> None:
    assert module.FilterModule().filters() == {"query": module.query}
