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


def test_a_vm_that_is_another_is_told(tmp_path):
    recorded = checkout.ROOT / "tests/vectors/data/qemu_cmdline.jsonl"
    line = next(
        line for line in map(json.loads, recorded.read_text().splitlines()) if line["id"].endswith("-tog-prealloc")
    )
    other = {
        **line,
        "id": "qemu_cmdline-other",
        "output": {**line["output"], "argv": [word.replace("2048M", "1024M") for word in line["output"]["argv"]]},
    }
    result = _run(_file(tmp_path, "qemu_cmdline.jsonl", line, other))
    assert (result.returncode, "1 passed, 1 failed, 0 deviating" in result.stdout) == (1, True), result.stdout
    assert "output.pc.memory_mb: expected 1024, got 2048" in result.stdout


@pytest.mark.parametrize(
    ("name", "recorded", "other"),
    [
        ("qemu_cmdline", "2048M", "1024M"),
        ("qemu_cmdline_s390x", "virtio-9p-ccw", "virtio-8p-ccw"),
        ("qmp_sequences", '"execute": "stop"', '"execute": "cont"'),
        ("qmp_sequences", '"mem_mb": 2176', '"mem_mb": 2177'),
        ("qmp_sequences", '"lun": 0', '"lun": 1'),
        ("kernel_params", "reboot=k ", ""),
        ("kernel_params", "panic=1", "panic=2"),
        ("pci_bridges", '"addr": "01"', '"addr": "09"'),
        ("pci_bridges", '"bridge_addr": 2', '"bridge_addr": 3'),
        ("capabilities", '"multi_queue": true', '"multi_queue": false'),
        ("persist_state", '"UUID": "uuid', '"UUID": "other'),
        ("persist_state", '"1": "dev0"', '"2": "dev0"'),
        ("assets", '"custom": true', '"custom": false'),
    ],
)
def test_no_deviation_covers_what_it_does_not_name(tmp_path, name, recorded, other):
    """Recorded outputs that are changed fail, also where the line deviates in something else; a request that is refused has no output."""
    lines = []
    for line in map(json.loads, (checkout.ROOT / f"tests/vectors/data/{name}.jsonl").read_text().splitlines()):
        text = json.dumps(line["output"])
        if recorded in text and line["error"] is None:
            lines.append({**line, "output": json.loads(text.replace(recorded, other))})
    assert lines
    result = _run(_file(tmp_path, f"{name}.jsonl", *lines))
    counts = dict(part.split(" ")[::-1] for part in result.stdout.splitlines()[0].partition(": ")[2].split(", "))
    assert int(counts["failed"]) >= len(lines) / 2, result.stdout
