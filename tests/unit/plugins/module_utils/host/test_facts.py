# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host says of itself, read from files that say so."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.host import facts
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import facts as qemu_facts


def test_memory(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:       24684352 kB\nMemFree:         100 kB\nMemAvailable:   10485760 kB\n")
    assert facts.memory_facts(str(path)) == {"total_mb": 24105, "available_mb": 10240}
    assert facts.memory_facts(str(tmp_path / "nowhere")) == {"total_mb": 0, "available_mb": 0}


def test_huge_pages(tmp_path: pathlib.Path) -> None:
    for size, counts in (("1048576", ("0", "0")), ("2048", ("512", "500"))):
        pool = tmp_path / f"hugepages-{size}kB"
        pool.mkdir()
        (pool / "nr_hugepages").write_text(counts[0] + "\n")
        (pool / "free_hugepages").write_text(counts[1] + "\n")
    (tmp_path / "other").mkdir()
    assert facts.huge_page_facts(str(tmp_path)) == [
        {"size_kb": 2048, "total": 512, "free": 500},
        {"size_kb": 1048576, "total": 0, "free": 0},
    ]
    assert facts.huge_page_facts(str(tmp_path / "nowhere")) == []


@pytest.mark.parametrize(("text", "nested"), [("Y\n", True), ("1", True), ("N", False), ("0", False), (None, None)])
def test_nesting(tmp_path: pathlib.Path, text: str | None, nested: bool | None) -> None:
    path = tmp_path / "nested"
    if text is not None:
        path.write_text(text)
    assert facts.nested_facts([str(tmp_path / "not-loaded"), str(path)]) is nested


def test_devices_and_space(tmp_path: pathlib.Path) -> None:
    (tmp_path / "device").touch()
    assert facts.device_facts(str(tmp_path / "device"))["accessible"]
    assert facts.device_facts(str(tmp_path / "none")) == {
        "path": str(tmp_path / "none"),
        "exists": False,
        "accessible": False,
    }
    assert facts.free_space_mb(str(tmp_path / "not" / "yet")) == pytest.approx(
        facts.free_space_mb(str(tmp_path)), abs=64
    )


def test_no_qemu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert qemu_facts.accelerator_facts("", "/run/x")["reason"] == "there is no QEMU that could try it"
