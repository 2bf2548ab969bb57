# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runner of the vectors tells right from wrong."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support import checkout

RIGHT = {"id": "x-1", "input": {"elements": ["/run", "a"]}, "output": "/run/a", "error": None}
WRONG = {**RIGHT, "output": "/run/b"}
MISSING_ERROR = {**RIGHT, "error": "path too long"}
RIGHT_ERROR = {"id": "x-2", "input": {"elements": []}, "output": "", "error": ""}

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="the runner reads TOML")


def _run(path):
    command = [sys.executable, str(checkout.ROOT / "tests/vectors/run.py"), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def _file(tmp_path, name, *lines):
    path = tmp_path / name
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_right_answers_pass(tmp_path):
    result = _run(_file(tmp_path, "socket_paths_more.jsonl", RIGHT, RIGHT_ERROR))
    assert (result.returncode, result.stdout) == (0, "socket_paths_more.jsonl: 2 passed, 0 failed, 0 deviating\n")


@pytest.mark.parametrize("line", [WRONG, MISSING_ERROR])
def test_a_wrong_answer_fails_and_is_shown(tmp_path, line):
    result = _run(_file(tmp_path, "socket_paths.jsonl", RIGHT, line))
    assert result.returncode == 1
    assert "1 passed, 1 failed, 0 deviating" in result.stdout
    assert "expected" in result.stdout


def test_a_kind_without_adapter_fails_only_when_it_is_named(tmp_path):
    path = _file(tmp_path, "unheard_of.jsonl", RIGHT)
    assert (_run(path).returncode, _run(tmp_path).returncode) == (1, 0)
    assert "unheard_of.jsonl: not covered" in _run(path).stdout


def test_nothing_to_run_fails(tmp_path):
    assert _run(tmp_path).returncode == 1


def test_a_vm_of_todays_qemu_that_is_another_is_told(tmp_path):
    recorded = checkout.ROOT / "tests/vectors/data/qemu_cmdline.jsonl"
    line = next(
        line for line in map(json.loads, recorded.read_text().splitlines()) if line["id"].endswith("-tog-prealloc")
    )
    other = {
        **line,
        "id": "other",
        "output": {**line["output"], "argv": [word.replace("2048M", "1024M") for word in line["output"]["argv"]]},
    }
    command = [sys.executable, str(checkout.ROOT / "tests/vectors/todays_qemu.py")]
    result = subprocess.run(
        [*command, str(_file(tmp_path, "qemu_cmdline.jsonl", line, other))],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (result.returncode, "1 alike, 1 failed, 0 deviating" in result.stdout) == (1, True), result.stdout
    assert "today.pc.memory_mb: expected 1024, got 2048" in result.stdout
