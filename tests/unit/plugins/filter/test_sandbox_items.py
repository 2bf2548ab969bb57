# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter kata.hypervisor.sandbox_items, and its old name."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.kata.hypervisor.plugins.filter.sandbox_items import sandbox_items

ROOT = pathlib.Path(__file__).resolve().parents[4]


def test_ids_and_sandboxes_get_the_same_options() -> None:
    assert sandbox_items(["a", {"id": "b", "state": "started"}], state="paused", vcpus=None) == [
        {"id": "a", "state": "paused"},
        {"id": "b", "state": "paused"},
    ]


@pytest.mark.parametrize("item", [True, {"name": "a"}, None])
def test_what_is_no_sandbox_is_refused(item: object) -> None:
    with pytest.raises(AnsibleFilterError, match="must be a sandbox with an id"):
        sandbox_items([item], state="paused")


def test_the_old_name_is_the_same_filter_and_deprecated(tmp_path: pathlib.Path) -> None:
    """Only Ansible itself follows the redirect of meta/runtime.yml."""
    (tmp_path / "ansible_collections/kata").mkdir(parents=True)
    (tmp_path / "ansible_collections/kata/hypervisor").symlink_to(ROOT)
    message = "msg={{ ['a'] | kata.hypervisor.wish(state='paused') | to_json }}"
    done = subprocess.run(
        [pathlib.Path(sys.executable).parent / "ansible", "localhost", "-m", "ansible.builtin.debug", "-a", message],
        cwd=tmp_path,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(tmp_path),
            "ANSIBLE_HOME": str(tmp_path),
            "ANSIBLE_CONFIG": "",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    shown = json.loads(done.stdout.partition("=> ")[2])["msg"]
    assert (json.loads(shown) if isinstance(shown, str) else shown) == [{"id": "a", "state": "paused"}]
    assert "Use kata.hypervisor.sandbox_items instead" in " ".join(done.stderr.split())
