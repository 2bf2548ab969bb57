# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of modules that build: the user sees that a long one still runs, and nothing of a short one."""

from __future__ import annotations

import threading
from typing import Any
from unittest import mock

import pytest

from ansible_collections.kata.hypervisor.plugins.action import kata_package, kata_root_image
from ansible_collections.kata.hypervisor.plugins.plugin_utils import progress
from ansible_collections.kata.hypervisor.plugins.plugin_utils.progress import ProgressAction

IMAGE = {"path": "/images/guest.img", "suite": "bookworm"}


class Failure(Exception):
    """What a connection raises."""


def action_of(
    kind: type[ProgressAction], name: str, options: dict[str, Any], execute: Any, monkeypatch: pytest.MonkeyPatch
) -> ProgressAction:
    """The action of a task, whose module is a function."""
    task = mock.MagicMock(args=options, action=name, async_val=0)
    action = kind(task, *(mock.MagicMock() for number in range(5)))
    monkeypatch.setattr(action, "_execute_module", execute)
    return action


def test_a_long_build_shows_its_time_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    third_line = threading.Event()

    def show(line: str, stderr: bool) -> None:
        assert stderr, "stdout may be read by a program"
        shown.append(line)
        if len(shown) == 3:
            third_line.set()

    def execute(module: str, options: dict[str, Any], task_vars: Any, wrap_async: Any) -> dict[str, Any]:
        assert (module, options, wrap_async) == ("kata.hypervisor.kata_root_image", IMAGE, 0)
        assert third_line.wait(30)
        return {"changed": True}

    monkeypatch.setattr(progress, "PROGRESS_SECONDS", 0.01)
    monkeypatch.setattr(progress.display, "display", show)
    action = action_of(kata_root_image.ActionModule, "kata.hypervisor.kata_root_image", IMAGE, execute, monkeypatch)
    threads = threading.active_count()
    assert action.run(task_vars={"inventory_hostname": "red"}) == {"changed": True}
    assert len(shown) >= 3
    assert set(shown) == {"red: kata_root_image /images/guest.img: running for 0 s"}
    assert threading.active_count() == threads


def test_a_short_build_shows_nothing_and_a_failed_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(progress, "show_progress", shown.append)
    fails = mock.MagicMock(side_effect=[{"changed": False}, Failure])
    options = {"name": "busybox-static", "root": "/tools"}
    action = action_of(kata_package.ActionModule, "kata_package", options, fails, monkeypatch)
    threads = threading.active_count()
    assert action.run(task_vars={}) == {"changed": False}
    with pytest.raises(Failure):
        action.run(task_vars={})
    assert (shown, threading.active_count()) == ([], threads)
