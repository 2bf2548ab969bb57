# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module kata_copy: the content that a task gives is in no result."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest
from ansible.module_utils import basic

from ansible_collections.kata.hypervisor.plugins.modules import kata_copy


@pytest.mark.parametrize(
    "more", [{"dest": "relative"}, {"dest": "/a", "from_guest": True}, {"dest": "/a", "mode": "9"}]
)
def test_a_task_that_fails_does_not_show_the_content(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], more: dict[str, Any]
) -> None:
    arguments = {"ids": ["web"], "content": "SECRET-WORD", **more, "_ansible_remote_tmp": "/tmp"}
    monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(SystemExit):
        kata_copy.main()
    said = capsys.readouterr().out
    assert json.loads(said)["failed"]
    assert "SECRET-WORD" not in said
