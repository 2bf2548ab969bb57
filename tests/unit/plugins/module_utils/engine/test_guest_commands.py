# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which paths `creates` and `removes` find, in the shells of this machine."""

from __future__ import annotations

import pathlib
import subprocess

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.guest_commands import exists_command


@pytest.mark.parametrize(
    ("pattern", "exists"),
    [
        ("file b", True),
        ("file", False),
        ("file*", True),
        ("file ?", True),
        ("file [!b]", False),
        ("file [!a]", True),
        ("file [a-c]", True),
        ("file[ x-z]b", True),
        ("file [d-z]", False),
        ("dangling", True),
        ("dang*", True),
        ("$(touch canary)", False),
        ("`touch canary`*", False),
        ("a'b", False),
    ],
)
def test_patterns(tmp_path: pathlib.Path, pattern: str, exists: bool) -> None:
    (tmp_path / "file b").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    done = subprocess.run(["/bin/sh", "-c", exists_command(f"{tmp_path}/{pattern}")], check=False, cwd=tmp_path)
    assert (done.returncode == 0) == exists
    assert not (tmp_path / "canary").exists()
