# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that starts sandboxes when a host boots."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.delivery import boot_program
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.converge import converge
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import SandboxSpec
from ansible_collections.kata.hypervisor.plugins.module_utils.records.layout import SandboxLayout


def test_the_program_is_the_same_from_a_payload_and_from_a_copy_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    # A task's payload has an empty file for the package itself, where a copy of the files has none.
    read = boot_program._read_module_utils
    without = boot_program.program_path("/state")
    monkeypatch.setattr(boot_program, "_read_module_utils", lambda path: b"" if path == "__init__.py" else read(path))
    assert boot_program.program_path("/state") == without


def test_the_program_runs_without_ansible_and_converges(tmp_path: pathlib.Path) -> None:
    program = tmp_path / "kata-hypervisor.pyz"
    program.write_bytes(boot_program.program_bytes())
    assert boot_program.program_bytes() == program.read_bytes()
    layout = SandboxLayout("web", str(tmp_path / "state"), str(tmp_path / "run"))
    kernel = tmp_path / "kernel"
    kernel.write_bytes(b"kernel")
    options = {"kernel_path": str(kernel), "initrd_path": str(kernel)}
    spec = SandboxSpec("web", "started", "mock", options, state_dir=layout.state_root, run_dir=layout.run_root)
    converge(spec)
    for operation, words in (("start", "no change"), ("stop", "no change")):
        done = subprocess.run(
            [sys.executable, "-I", str(program), operation, "web", layout.state_root, layout.run_root],
            capture_output=True,
            text=True,
            check=True,
        )
        assert words in done.stdout
    missing = subprocess.run(
        [sys.executable, "-I", str(program), "start", "other", "/x", "/y"], capture_output=True, check=True
    )
    assert missing.stdout == b""
