# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of kata_asset: a long download is gone on with, and the user sees how far it is."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest

from ansible_collections.kata.hypervisor.plugins.action import kata_asset


def run(
    answers: list[dict[str, Any]], arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
    """Run the action with a module that answers so; its result, what the module was given, and what the user saw."""
    shown: list[str] = []
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(kata_asset, "show_progress", shown.append)
    action = kata_asset.ActionModule(
        mock.MagicMock(args=arguments, async_val=0), *(mock.MagicMock() for number in range(5))
    )

    def execute(module: str, options: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        assert module == "kata.hypervisor.kata_asset"
        given.append(options)
        return answers.pop(0)

    monkeypatch.setattr(action, "_execute_module", execute)
    return action.run(task_vars={"inventory_hostname": "red"}), given, shown


def test_a_user_sees_how_far_a_download_is(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {"name": "firecracker", "version": "v1", "url": "https://example.com/x"}
    answers = [
        {"unfinished": {"received": 30 << 20, "total": 120 << 20}},
        {"unfinished": {"received": 90 << 20, "total": 0}},
        {"changed": True},
    ]
    result, given, shown = run(answers, arguments, monkeypatch)
    assert result == {"changed": True}
    assert given == [{**arguments, "download_seconds": kata_asset.PROGRESS_SECONDS}] * 3
    assert shown == ["red: firecracker v1: 30 of 120 MiB (25 %)", "red: firecracker v1: 90 MiB"]


def test_who_asks_for_a_piece_gets_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"unfinished": {"received": 1, "total": 2}}
    result, given, shown = run(
        [answer], {"name": "x", "version": "1", "url": "https://example.com/x", "download_seconds": 3}, monkeypatch
    )
    assert (result, given[0]["download_seconds"], shown) == (answer, 3, [])
