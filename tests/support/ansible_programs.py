# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible's programs, run as a user runs them."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

from tests.support.checkout import ROOT


def ansible(program: str, *words: str, directory: pathlib.Path = ROOT, code: int = 0, **environment: str) -> str:
    """What one of Ansible's programs printed."""
    done = subprocess.run(
        [str(pathlib.Path(sys.executable).with_name(program)), *words],
        cwd=directory,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    return done.stdout
