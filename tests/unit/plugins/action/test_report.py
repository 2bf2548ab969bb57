# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the report prints and writes on the controller."""

from __future__ import annotations

import json
import pathlib
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.action import ActionBase

from ansible_collections.kata.hypervisor.plugins.action import kata_report

WEB = {"id": "web", "state": "started", "uuid": "0d8a", "created_at": "2026-11-26T00:00:00Z", "labels": {"a": "\x9b2J"}}


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was printed."""
    found: list[str] = []
    monkeypatch.setattr(kata_report, "Display", lambda: SimpleNamespace(display=found.append))
    monkeypatch.setattr(kata_report, "terminal_width", lambda: 0)
    monkeypatch.setattr(ActionBase, "run", lambda *_arguments: {})
    return found


def report(check_mode: bool = False, **options: Any) -> dict[str, Any]:
    """The result of a task."""
    action = kata_report.ActionModule.__new__(kata_report.ActionModule)
    action._task = SimpleNamespace(check_mode=check_mode, args=options)
    defaults = {"results": "found", "table": False, "query": "", "page": None, "json": None, "metrics": None}
    action.validate_argument_spec = lambda **_spec: (None, {**defaults, **options})
    return action.run(
        None, {"hostvars": {"host1": {"found": {"sandboxes": [WEB]}}}, "ansible_play_hosts_all": ["host1"]}
    )


def test_an_expression_can_name_any_fact(printed: list[str]) -> None:
    report(table=True, query="[?uuid=='0d8a']")
    report(table=True, query="[].uuid")
    assert printed[0].splitlines()[1].split()[:3] == ["host1", "web", "started"]
    assert json.loads(printed[1]) == ["0d8a"]


@pytest.mark.parametrize("query", ["", "[*]", "[].labels"])
def test_what_a_host_answers_does_not_reach_the_terminal(printed: list[str], query: str) -> None:
    report(table=True, query=query)
    assert "\x9b" not in printed[0] and "x9b2J" in printed[0]


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_missing_directory_fails_in_check_mode_too(
    printed: list[str], tmp_path: pathlib.Path, check_mode: bool
) -> None:
    answer = report(check_mode, json=str(tmp_path / "report.json"), page=str(tmp_path / "none" / "report.html"))
    assert answer["failed"] and str(tmp_path / "none") in answer["msg"] and list(tmp_path.iterdir()) == []


def test_check_mode_writes_nothing(printed: list[str], tmp_path: pathlib.Path) -> None:
    path = tmp_path / "kata.prom"
    predicted = report(True, metrics=str(path))
    assert not path.exists()
    assert report(metrics=str(path)) == predicted and predicted["changed"]
    assert 'kata_host_up{host="host1"} 1' in path.read_text() and path.stat().st_mode & 0o777 == 0o644
