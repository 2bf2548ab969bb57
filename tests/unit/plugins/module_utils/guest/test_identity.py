# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The script by which guests without cloud-init apply a seed. What it does is tested in a guest (tests/integration)."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.guest.identity import INSTALL_AGENT, SCRIPT


@pytest.mark.parametrize("script", [SCRIPT, INSTALL_AGENT], ids=["seed", "agent"])
@pytest.mark.parametrize("shell", ["sh", "dash", "busybox"])
def test_shells_can_read_it(shell, script) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not here")
    command = [shell, "sh", "-n"] if shell == "busybox" else [shell, "-n"]
    subprocess.run(command, input=script, text=True, check=True)


@pytest.mark.parametrize("script", [SCRIPT, INSTALL_AGENT], ids=["seed", "agent"])
def test_shellcheck_finds_nothing(script) -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not here")
    done = subprocess.run(
        ["shellcheck", "--shell=dash", "-"], input=script, text=True, capture_output=True, check=False
    )
    assert done.stdout == ""
