# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many sandboxes of real QEMU in one task."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Any, Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.batch import converge_many, observe_many
from ansible_collections.kata.hypervisor.plugins.module_utils.host.processes import ProcessIdentity
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import vmm as qemu_vmm
from tests.support.lab import SandboxLab, removed_afterwards
from tests.support.stub_kernel import halted_kernel

IDS = ("one", "two", "three")


@pytest.fixture(name="lab")
def _lab() -> Iterator[SandboxLab]:
    with removed_afterwards(SandboxLab("qemu")) as lab:
        boot: dict[str, Any] = {
            "kernel_path": lab.file("vmlinux", mode=0o644, content=halted_kernel()),
            "initrd_path": lab.file("initrd", mode=0o644),
            "memory_mb": 64,
            "accelerator": "tcg",
        }
        results = converge_many([lab.spec(one, state="started", **boot) for one in IDS])
        assert [result.get("msg", "") for result in results] == ["", "", ""]
        yield lab


def test_all_guests_are_asked_to_shut_down_before_the_first_is_killed(
    lab: SandboxLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    asked = threading.Barrier(len(IDS), timeout=60)
    wait_gone = qemu_vmm.wait_gone

    def no_guest_obeys(process: ProcessIdentity, seconds: float) -> bool:
        if seconds <= qemu_vmm.STEP_SECONDS:
            events.append("ended")
            return wait_gone(process, seconds)
        events.append("asked")
        asked.wait()  # It breaks if a guest is asked only after another one was waited for.
        return False

    monkeypatch.setattr(qemu_vmm, "wait_gone", no_guest_obeys)
    results = converge_many([lab.spec(one, state="absent", stop_timeout=600) for one in IDS], parallel=1)
    assert [result.get("msg", "") for result in results] == ["", "", ""]
    assert events[:3] == ["asked"] * 3 and set(events[3:]) == {"ended"}


def test_a_vmm_that_hangs_fails_alone(lab: SandboxLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu_vmm, "QMP_SECONDS", 1.0)
    pid = int(lab.run_path("pid", "two").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        states = {facts["id"]: facts["state"] for facts in observe_many(lab.spec("one"))}
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    assert states == {"one": "started", "two": "unresponsive", "three": "started"}
