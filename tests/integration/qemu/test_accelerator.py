# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The accelerator: guest code decides, not what /dev/kvm says of itself."""

from __future__ import annotations

import pathlib
import shutil

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import accelerator
from tests.support.guest_assets import Assets
from tests.support.qemu_lab import QemuLab

QEMU = shutil.which("qemu-system-x86_64") or "qemu-system-x86_64"


def a_qemu(path: pathlib.Path, rom: str, kernel: str) -> str:
    """A program that answers the two tests under KVM as it is told, and counts how often it is asked."""
    count = path.with_suffix(".count")
    script = f"""#!/bin/sh
echo x >> {count}
case "$*" in
*accel=tcg*) exit 33 ;;
*-kernel*) {kernel} ;;
*) {rom} ;;
esac
"""
    path.write_text(script)
    path.chmod(0o755)
    return str(path)


def asked(qemu: str) -> int:
    count = pathlib.Path(qemu).with_suffix(".count")
    return len(count.read_text().splitlines()) if count.exists() else 0


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A /dev/kvm that opens and speaks the right version."""
    monkeypatch.setattr(accelerator, "_device_problem", lambda device: "")


def test_the_rom_and_the_kernel_really_run_under_tcg(assets: Assets) -> None:
    assert accelerator.run_rom(QEMU, "tcg") == "ran"
    assert accelerator.run_kernel(QEMU, "tcg", str(assets.kernel), seconds=60) == "ran"


def test_a_guest_that_never_comes_up_is_not_taken_for_one_that_runs(assets: Assets) -> None:
    assert "did not reach user space" in accelerator.run_kernel(QEMU, "tcg", str(assets.initrd), seconds=2)


def test_without_a_device(tmp_path: pathlib.Path) -> None:
    verdict = accelerator.probe(QEMU, device=str(tmp_path / "kvm"))
    assert (verdict.accelerator, verdict.evidence) == ("tcg", "device") and "does not exist" in verdict.reason
    (tmp_path / "kvm").write_text("")
    verdict = accelerator.probe(QEMU, device=str(tmp_path / "kvm"))
    assert (verdict.accelerator, verdict.evidence) == ("tcg", "device") and "does not answer" in verdict.reason


@pytest.mark.parametrize(
    ("rom", "kernel", "expected", "evidence"),
    [
        ("sleep 60", "sleep 60", "tcg", "rom"),
        ("exit 1", "exit 1", "tcg", "rom"),
        ("exit 33", "exit 1", "tcg", "kernel"),
        ("exit 33", "echo a few lines and then nothing", "tcg", "kernel"),
        ("exit 33", "echo kata-hypervisor: guest code runs", "kvm", "kernel"),
    ],
)
def test_only_guest_code_convinces(
    device: None, tmp_path: pathlib.Path, rom: str, kernel: str, expected: str, evidence: str
) -> None:
    verdict = accelerator.probe(a_qemu(tmp_path / "qemu", rom, kernel), kernel="/boot/vmlinuz")
    assert (verdict.accelerator, verdict.evidence) == (expected, evidence)
    assert verdict.reason


def test_the_verdict_is_remembered_until_something_changes(device: None, tmp_path: pathlib.Path) -> None:
    qemu = a_qemu(tmp_path / "qemu", "exit 33", "echo kata-hypervisor: guest code runs")
    kernel = tmp_path / "vmlinuz"
    kernel.write_text("one")
    run_dir = str(tmp_path / "run")
    first = accelerator.choose(qemu, run_dir, str(kernel), keep=False)
    assert asked(qemu) == 2 and not (tmp_path / "run").exists()
    assert accelerator.choose(qemu, run_dir, str(kernel)) == first and asked(qemu) == 4
    assert accelerator.choose(qemu, run_dir, str(kernel)) == first and asked(qemu) == 4
    kernel.write_text("another")
    accelerator.choose(qemu, run_dir, str(kernel))
    assert asked(qemu) == 6


def test_auto_starts_a_guest_that_boots_and_tells_why(lab: QemuLab) -> None:
    facts = lab.start(accelerator="auto")["sandbox"]
    assert facts["accelerator"] in ("kvm", "tcg") and facts["accelerator_reason"]
