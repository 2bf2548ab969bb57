# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vCPUs that were plugged and that the guest does not use are never taken for vCPUs that it uses."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import DeadlineExceeded
from ansible_collections.kata.hypervisor.plugins.module_utils.guest import agent
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import resize
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.state import QemuState


class Vm:
    """A VM under TCG with an agent in its guest, which uses as many of the plugged vCPUs as its kernel takes."""

    def __init__(self, takes: int) -> None:
        self.takes, self.plugged, self.online = takes, 1, 1
        self.state, self.recorded = QemuState(), QemuState()

    @property
    def context(self) -> Vm:
        return self

    def checkpoint(self) -> None:
        self.recorded = dataclasses.replace(self.state)

    def qmp(self) -> Vm:
        return self

    def offline_vcpus(self) -> int:
        return self.state.offline_vcpus

    def unplugs_vcpus(self) -> bool:
        return False

    def agent_way(self) -> None:
        return None

    def plug(self, _qmp: Vm, count: int) -> int:
        self.plugged += count
        return self.plugged

    def use(self, _agent: Any, count: int) -> int:
        self.online = min(count, self.plugged, self.takes)
        return self.online


class Agent:
    """A connection to the agent."""

    def __init__(self, _way: None, _seconds: float) -> None:
        pass

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_error: object) -> None:
        pass


@pytest.fixture
def vm(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Vm:
    one = Vm(takes=request.param)
    monkeypatch.setattr(resize, "GUEST_SECONDS", 0.0)
    monkeypatch.setattr(resize, "plugged_vcpus", lambda qmp: one.plugged)
    monkeypatch.setattr(resize, "plug_vcpus", one.plug)
    monkeypatch.setattr(resize, "has_agent", lambda qmp: True)
    monkeypatch.setattr(agent, "GuestAgent", Agent)
    monkeypatch.setattr(agent, "set_online_vcpus", one.use)
    return one


@pytest.mark.parametrize("vm", [1, 2], indirect=True)
def test_a_guest_that_takes_no_vcpus_is_an_error_each_time(vm: Vm) -> None:
    """As Linux does that sees bare hardware (arch/x86/kernel/acpi/boot.c, acpi_is_processor_usable)."""
    for _task in range(2):
        with pytest.raises(DeadlineExceeded, match=f"the guest uses {vm.takes} vCPUs, not 3") as error:
            resize.resize_vcpus(vm, 3, 3)  # type: ignore[arg-type]
        assert "state: restarted" in error.value.fix
        # What the next task compares with its option.
        assert vm.plugged - vm.recorded.offline_vcpus == vm.takes


@pytest.mark.parametrize("vm", [3], indirect=True)
def test_a_guest_that_takes_them_uses_them(vm: Vm) -> None:
    result = resize.resize_vcpus(vm, 3, 3)  # type: ignore[arg-type]
    assert (result.new, result.online, result.how, vm.offline_vcpus()) == (3, 3, "hotplug", 0)
    result = resize.resize_vcpus(vm, 2, 3)  # type: ignore[arg-type]
    assert (result.new, result.online, result.how, vm.offline_vcpus()) == (2, 2, "guest-offline", 1)
