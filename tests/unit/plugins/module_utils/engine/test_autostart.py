# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service that starts a sandbox when the host boots."""

from __future__ import annotations

import os
import pathlib

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.engine import autostart
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.converge import converge
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.planner import make_plan
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HostError
from ansible_collections.kata.hypervisor.plugins.module_utils.host import systemd as supervision
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Observed
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import SandboxSpec
from ansible_collections.kata.hypervisor.plugins.module_utils.records.layout import SandboxLayout
from ansible_collections.kata.hypervisor.plugins.module_utils.records.record import SandboxRecord


@pytest.fixture
def systemd(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A host that systemd runs: it writes down what it is told."""
    units = tmp_path / "units"
    units.mkdir()
    told = tmp_path / "told"
    monkeypatch.setattr(autostart, "UNIT_DIRECTORY", str(units))
    for module in (supervision, autostart):
        monkeypatch.setattr(module, "has_systemd", lambda: True)
    monkeypatch.setattr(autostart, "_systemctl", lambda *words: told.open("a").write(" ".join(words) + "\n"))
    return tmp_path


def test_a_service_is_made_once_and_removed_whole(systemd: pathlib.Path) -> None:
    service = autostart.Service(SandboxLayout("web", str(systemd / "state"), str(systemd / "run")))
    assert not service.exists()
    service.enable()
    assert service.in_place()
    assert os.path.realpath(service.link) == service.path
    with open(service.path, "a") as unit:
        unit.write("# edited\n")
    assert service.exists()
    assert not service.in_place()
    service.enable()
    assert service.in_place()
    service.disable()
    assert not service.exists()
    assert [path.name for path in (systemd / "state/lib").iterdir()] == [".lock"]


def test_a_program_stays_while_a_service_names_it(systemd: pathlib.Path) -> None:
    old = systemd / "state/lib/0.9.0-abc/kata-hypervisor.pyz"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    (systemd / "units/kata-sandbox-other.service").write_text(f'ExecStart="{old}"\n')
    service = autostart.Service(SandboxLayout("web", str(systemd / "state"), str(systemd / "run")))
    service.enable()
    assert old.exists()
    (systemd / "units/kata-sandbox-other.service").unlink()
    service.enable()
    assert not old.exists()
    assert service.in_place()


def test_a_service_comes_last_and_goes_first() -> None:
    started = SandboxRecord("web", "mock", {"autostart": True}, desired="started")
    plan = make_plan(SandboxSpec("web", "started", "mock", {"autostart": True}), None, Observed())
    assert [step.name for step in plan.steps] == ["create", "start", "autostart"]
    running = Observed(power="running", autostart=True)
    plan = make_plan(SandboxSpec("web", options={"autostart": False}), started, running)
    assert [step.name for step in plan.steps] == ["autostart", "update"]
    assert make_plan(SandboxSpec("web", options={"autostart": True}), started, running).steps == []


def test_a_service_that_somebody_removed_comes_back() -> None:
    record = SandboxRecord("web", "mock", {"autostart": True}, desired="started")
    plan = make_plan(SandboxSpec("web"), record, Observed(power="running"))
    assert [step.name for step in plan.steps] == ["autostart"]


def test_autostart_without_systemd_is_refused_before_anything_changed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autostart, "has_systemd", lambda: False)
    kernel = tmp_path / "kernel"
    kernel.write_bytes(b"kernel")
    options = {"kernel_path": str(kernel), "initrd_path": str(kernel), "autostart": True}
    spec = SandboxSpec(
        "web", "started", "mock", options, state_dir=str(tmp_path / "state"), run_dir=str(tmp_path / "run")
    )
    for check_mode in (True, False):
        with pytest.raises(HostError, match="for autostart, systemd must be"):
            converge(spec, check_mode)
    assert not (tmp_path / "state/sandboxes/web").exists()
