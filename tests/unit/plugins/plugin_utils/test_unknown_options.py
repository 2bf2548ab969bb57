# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which options a wrong name stands for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.module_utils import basic

from ansible_collections.kata.hypervisor.plugins.modules import kata_sandbox
from ansible_collections.kata.hypervisor.plugins.plugin_utils.unknown_options import with_suggestions

MODULE = "kata.hypervisor.kata_sandbox"
WHERE = f"ansible-doc {MODULE} shows all options."


def ansible_says(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **options: Any) -> str:
    """What the module answers, of the ansible-core of these tests."""
    arguments = {"_ansible_module_name": MODULE, "id": "web", **options}
    if hasattr(basic, "_ANSIBLE_PROFILE"):
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy")
    monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())
    with pytest.raises(SystemExit):
        kata_sandbox.main()
    return str(json.loads(capsys.readouterr().out)["msg"])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"memry_mb": 1}, f"{MODULE} has no option memry_mb. Did you mean memory_mb or max_memory_mb"),
        ({"Image": "x"}, f"{MODULE} has no option Image. Did you mean image"),
        ({"xyzzy": 1}, f"{MODULE} has no option xyzzy. {WHERE}"),
        ({"vcpu": 1, "kernal_path": "x"}, f"{MODULE} has no option kernal_path. Did you mean kernel_path"),
        (
            {"devices": [{"id": "a", "type": "block", "flie": "x"}]},
            f"{MODULE} has no option devices.flie. Did you mean file",
        ),
    ],
)
def test_a_wrong_name_is_answered_with_similar_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: dict[str, Any], expected: str
) -> None:
    told = with_suggestions(ansible_says(monkeypatch, capsys, **options))
    assert told.startswith(expected) and told.endswith(WHERE) and len(told) < 400


def test_another_message_stays_as_it_is() -> None:
    assert with_suggestions("missing required arguments: id") == "missing required arguments: id"
