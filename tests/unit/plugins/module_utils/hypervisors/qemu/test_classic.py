# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The classic dialect: the traps of the original that it does not have, and what it cannot be talked into."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import (
    ConfigError,
    DeadlineExceeded,
    HostError,
    StateError,
    StoreError,
    Unsupported,
    VmmError,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.bridges import Bridge
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.classic import vm as classic_vm
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.classic.arch import AMD64, S390
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.classic.machine import (
    ClassicMachine,
    HostFacts,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.classic.state import (
    ClassicState,
    Handover,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.classic.vm import ClassicVm
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.options.devices import (
    BlockDrive,
    MemoryDevice,
    NetworkDevice,
    VfioDevice,
)
from tests.support.scripted_qmp import ScriptedQmpServer

REFUSED = '{"error": {"class": "GenericError", "desc": "no"}}'
NAMES = st.text(min_size=1, max_size=20)
JSON = st.recursive(st.none() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v))


def _machine(architecture=AMD64, **fields):
    config = HypervisorConfig(kernel_path="/kernel", initrd_path="/initrd", hypervisor_path="/qemu", **fields)
    facts = HostFacts(8192, False, {"/qemu": 1, "/dev/shm": 0}.get, "uuid", lambda: "0" * 16)
    return ClassicMachine("web", config, architecture, facts)


@pytest.fixture(name="running")
def _running(tmp_path):
    with contextlib.ExitStack() as stack:

        def running(replies=None, *, event=True, **fields):
            script = {
                "running": True,
                "scripted_replies": replies or {},
                "auto_device_deleted_event": event,
                "line_before_greeting": "",
            }
            server = ScriptedQmpServer(str(tmp_path / "qmp.sock"), script, [4, 0, 0])
            stack.callback(server.close)
            vm = ClassicVm(_machine(**fields), str(tmp_path), (4, 0), lambda path: 4096)
            stack.callback(vm.disconnect)
            return vm

        yield running


@pytest.mark.parametrize(
    "device",
    [VfioDevice("v0", bdf="00:01.0"), NetworkDevice("tap", tap_name="tap0", tap_id="t0"), BlockDrive("/disk", id="d0")],
)
def test_t4_a_refused_device_gives_its_slot_back(running, device):
    vm = running({"device_add": [REFUSED]}, block_device_driver="virtio-blk")
    with pytest.raises(VmmError):
        vm.hotplug_add(device)
    assert vm.state.bridges[0].slots == {}


def test_t5_a_guest_that_keeps_a_device_is_not_waited_for_without_end(running, monkeypatch):
    monkeypatch.setattr(classic_vm, "RELEASE_SECONDS", 0.05)
    vm = running(event=False)
    with pytest.raises(DeadlineExceeded, match="virtio-d0"):
        vm.hotplug_remove(BlockDrive("/disk", id="d0"))


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_t10_a_failed_migration_is_an_error_at_once(running, status):
    vm = running({"query-migrate": [json.dumps({"return": {"status": status}})]}, devices_state_path="/state")
    with pytest.raises(StateError) as caught:
        vm.save()
    assert caught.value.answer == status


def test_one_machine_does_not_change_the_table_for_the_next():
    for _each in range(2):
        words = _machine(machine_accelerators="nosmm").command_line()
        assert words[words.index("-machine") + 1] == "pc,accel=kvm,kernel_irqchip,nvdimm,nosmm"


def test_t8_too_many_vcpus_are_an_error_with_a_text():
    with pytest.raises(ConfigError, match="more vCPUs than the maximum of 2"):
        _machine(num_vcpus=3, default_max_vcpus=2).command_line()


def test_t16_loading_twice_replaces():
    state = ClassicState([Bridge("pci", "pci-bridge-0", 2, {1: "d0"})], ["cpu-0"], 128, "uuid", True)
    snapshot = state.as_snapshot(5)
    assert ClassicState.from_snapshot(snapshot) == ClassicState.from_snapshot(snapshot) == state


def test_t17_a_path_is_no_command_for_the_shell(running):
    vm = running({"migrate": [REFUSED]}, devices_state_path="/state; rm -rf /")
    requests = []
    vm.pause()
    execute = vm.qmp.execute
    vm.qmp.execute = lambda command, arguments=None: requests.append(arguments) or execute(command, arguments)
    with pytest.raises(VmmError):
        vm.save()
    assert requests == [{"uri": "exec:cat>'/state; rm -rf /'"}]


def test_t21_memory_that_cannot_shrink_says_so(running):
    vm = running(memory_size=1024)
    with pytest.raises(Unsupported, match="cannot be taken out"):
        vm.resize_memory(512)
    with pytest.raises(Unsupported):
        vm.hotplug_remove(MemoryDevice(128))


def test_memory_beyond_the_hosts_is_refused_before_qemu_hears_of_it(running):
    vm = running(memory_size=1024)
    with pytest.raises(HostError, match="8192 MiB"):
        vm.resize_memory(8193)


def test_an_architecture_without_memory_hotplug_says_so(running, tmp_path):
    vm = running()
    vm.machine = _machine(S390)
    with pytest.raises(Unsupported, match="s390x"):
        vm.hotplug_add(MemoryDevice(128))


def test_a_failed_start_leaves_no_directory(tmp_path):
    run_dir = tmp_path / "vm"
    vm = ClassicVm(_machine(), str(run_dir), (4, 0), lambda path: 0)
    with pytest.raises(DeadlineExceeded):
        vm.start(0, lambda argv: None)
    assert not run_dir.exists()


@given(NAMES, NAMES)
def test_one_argument_stays_one_argument(path, name):
    machine = _machine()
    words = len(machine.command_line())
    machine.add_device(BlockDrive(path, id=name))
    assert len(machine.command_line()) == words + 4


@given(st.dictionaries(st.integers(1, 30), NAMES), st.lists(NAMES), st.integers(0, 1 << 20), st.booleans())
def test_a_state_survives_its_three_forms(slots, vcpus, memory, root_bus):
    state = ClassicState([Bridge("pci", "pci-bridge-0", 2, slots)], vcpus, memory, "uuid", root_bus)
    assert ClassicState.from_store(state.as_store()) == state
    assert ClassicState.from_snapshot(state.as_snapshot(1)) == state
    handover = Handover("web", "/run/qmp.sock", state, 1, {"CPUs": 1})
    assert Handover.from_bytes(handover.to_bytes()) == handover


@given(st.one_of(st.binary(), JSON.map(json.dumps).map(str.encode)))
def test_any_bytes_are_a_vm_or_an_error(payload):
    with contextlib.suppress(StoreError):
        Handover.from_bytes(payload)
