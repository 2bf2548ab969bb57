# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mock driver: what it promises to the tests that lean on it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import (
    ConfigError,
    DeadlineExceeded,
    LaunchError,
    StateError,
    Unsupported,
    VmmError,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors import new_hypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.mock import FAULTS, MockHypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.block import BlockDrive
from ansible_collections.kata.hypervisor.plugins.module_utils.options.devices import CpuDevice, MemoryDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.kernel_params import Param
from tests.support.checkout import ROOT

DISK = BlockDrive("/disk", id="data0")


@pytest.fixture(name="context")
def _context(tmp_path):
    return Context("web", str(tmp_path / "run" / "web"), str(tmp_path / "state" / "web"))


def _config(**fields):
    return HypervisorConfig(kernel_path="/kernel", initrd_path="/initrd", num_vcpus=2, memory_size=256, **fields)


def _created(context, *faults):
    driver = MockHypervisor(context, faults)
    driver.create_sandbox(_config())
    return driver


def _running(context, *faults):
    driver = _created(context, *faults)
    driver.start_sandbox(1)
    return driver


def test_another_driver_object_finds_the_vm(context):
    driver = _created(context)
    driver.add_device(DISK)
    driver.start_sandbox(1)
    other = new_hypervisor("mock", context)
    other.load(driver.save(), driver.config)
    assert other.observe() == driver.observe()
    observed = other.observe()
    assert (observed.power, observed.vcpus, observed.memory_mb, observed.devices) == ("running", 2, 256, ["data0"])


def test_another_process_finds_the_vm(context):
    driver = _running(context)
    code = (
        "import sys, tests\n"
        "from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors import new_hypervisor\n"
        "from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context\n"
        "driver = new_hypervisor('mock', Context('web', sys.argv[1], sys.argv[2]))\n"
        "driver.pause_sandbox()\n"
        "print(driver.observe().power, driver.pid())\n"
    )
    command = [sys.executable, "-c", code, context.run_dir, context.state_dir]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    assert answer.stdout.split() == ["paused", str(os.getpid())]
    assert driver.observe().power == "paused"


def test_the_callers_configuration_stays_as_it_is(context):
    config = HypervisorConfig(kernel_path="/kernel", initrd_path="/initrd")
    driver = MockHypervisor(context)
    driver.create_sandbox(config)
    assert (config.num_vcpus, driver.config.num_vcpus) == (0, 1)
    assert not os.path.exists(context.run_dir)


def test_the_intention_is_put_down_before_the_vm_exists(context):
    seen = []
    context.checkpoint = lambda: seen.append(
        (driver.save()["started"], os.path.exists(context.run_path("mock-vm.json")))
    )
    driver = _created(context)
    driver.start_sandbox(1)
    driver.stop_sandbox(1)
    assert seen == [(True, False), (True, True), (False, False)]


def test_pause_and_resume_are_idempotent(context):
    driver = _running(context)
    for operation, power in ((driver.pause_sandbox, "paused"), (driver.resume_sandbox, "running")):
        operation()
        operation()
        assert driver.observe().power == power


def test_stop_is_idempotent_and_leaves_nothing(context):
    driver = _running(context)
    driver.stop_sandbox(1)
    driver.stop_sandbox(1)
    observed = driver.observe()
    assert (observed.power, observed.leftovers, driver.pid(), driver.get_thread_ids()) == ("off", [], 0, {})


def test_what_was_saved_comes_back_paused_as_it_was(context, tmp_path):
    driver = _running(context)
    driver.hotplug_add_device(DISK)
    driver.resize_vcpus(3)
    driver.save_sandbox(str(tmp_path / "saved"), 1)
    assert driver.observe().power == "paused"
    driver.stop_sandbox(1)
    driver.restore_sandbox(str(tmp_path / "saved"), 1)
    observed = driver.observe()
    assert (observed.power, observed.vcpus, observed.devices) == ("paused", 3, ["data0"])


def test_nothing_to_restore_is_an_error(context, tmp_path):
    with pytest.raises(StateError, match="nothing was saved"):
        _created(context).restore_sandbox(str(tmp_path), 1)


def test_devices_come_and_go(context):
    driver = _running(context)
    assert driver.hotplug_add_device(CpuDevice(1)) == 1
    assert driver.hotplug_add_device(MemoryDevice(128)) == 128
    driver.hotplug_add_device(DISK)
    driver.hotplug_add_device(DISK)
    observed = driver.observe()
    assert (observed.vcpus, observed.memory_mb, observed.devices) == (3, 384, ["data0"])
    driver.hotplug_remove_device(DISK)
    driver.hotplug_remove_device(DISK)
    assert driver.hotplug_remove_device(CpuDevice(2)) == 2
    observed = driver.observe()
    assert (observed.vcpus, observed.devices) == (1, [])


def test_resizes_tell_before_and_after(context):
    driver = _running(context)
    up, down, same = driver.resize_vcpus(4), driver.resize_vcpus(1), driver.resize_vcpus(1)
    assert [(result.old, result.new, result.how) for result in (up, down, same)] == [
        (2, 4, "hotplug"),
        (4, 1, "unplug"),
        (1, 1, "none"),
    ]
    memory = driver.resize_memory(512)
    assert (memory.old_mb, memory.new_mb, driver.observe().memory_mb) == (256, 512, 512)


@pytest.mark.parametrize("vcpus", [0, 241])
def test_a_size_out_of_range_is_refused(context, vcpus):
    driver = _running(context)
    with pytest.raises(ConfigError):
        driver.resize_vcpus(vcpus)
    assert driver.observe().vcpus == 2


@pytest.mark.parametrize(
    "operation",
    [
        lambda driver: driver.pause_sandbox(),
        lambda driver: driver.resume_sandbox(),
        lambda driver: driver.resize_vcpus(1),
        lambda driver: driver.resize_memory(1),
        lambda driver: driver.hotplug_add_device(DISK),
        lambda driver: driver.hotplug_remove_device(DISK),
        lambda driver: driver.save_sandbox("/nonexistent", 1),
        lambda driver: driver.check(),
    ],
)
def test_an_operation_without_a_vm_is_an_error(context, operation):
    with pytest.raises(StateError):
        operation(_created(context))


def test_a_second_vm_is_refused(context):
    driver = _running(context)
    with pytest.raises(StateError, match="runs already"):
        driver.start_sandbox(1)


def test_a_device_added_beside_a_vm_is_for_the_next_start(context):
    driver = _running(context)
    driver.add_device(DISK)
    assert driver.observe().devices == []
    driver.stop_sandbox(1)
    driver.start_sandbox(1)
    assert driver.observe().devices == [DISK.id]


def test_a_handover_is_refused(context):
    with pytest.raises(Unsupported, match="mock driver cannot do to_grpc"):
        _created(context).to_grpc()


def test_a_crashed_vm_leaves_files_that_cleanup_removes(context):
    driver = _running(context)
    driver.crash()
    observed = driver.observe()
    assert (observed.power, observed.leftovers) == ("off", [context.run_path("mock-vm.json")])
    assert "nobody stopped it" in observed.reason
    other = MockHypervisor(context)
    other.load(driver.save(), driver.config)
    other.cleanup()
    other.cleanup()
    assert not os.path.exists(context.run_dir)


def test_a_vm_that_is_gone_after_a_reboot_is_off(context):
    driver = _running(context)
    os.unlink(context.run_path("mock-vm.json"))
    assert (driver.observe().power, driver.observe().leftovers) == ("off", [])


def test_a_crashed_vm_can_be_started_again(context):
    driver = _running(context)
    driver.crash()
    driver.start_sandbox(1)
    assert driver.observe().power == "running"


# --- faults --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "error"), [("fails_on_start", LaunchError), ("hangs_on_start", DeadlineExceeded)])
def test_a_start_that_fails_leaves_nothing(context, fault, error):
    driver = _created(context, fault)
    with pytest.raises(error):
        driver.start_sandbox(1)
    observed = driver.observe()
    assert (observed.power, observed.leftovers, driver.save()["started"]) == ("off", [], False)


def test_a_start_can_leave_files(context):
    driver = _created(context, "fails_on_start_leaving_files")
    with pytest.raises(LaunchError) as caught:
        driver.start_sandbox(1)
    assert caught.value.as_result()["exit_code"] == 1
    assert driver.observe().leftovers


@pytest.mark.parametrize(
    ("fault", "power", "error"), [("dies_after_start", "off", StateError), ("guest_fails", "failed", VmmError)]
)
def test_a_vm_can_be_lost_right_after_its_start(context, fault, power, error):
    driver = _running(context, fault)
    assert driver.observe().power == power
    with pytest.raises(error):
        driver.check()


@pytest.mark.parametrize(
    ("fault", "operation", "error"),
    [
        ("stop_fails", lambda driver: driver.stop_sandbox(1), DeadlineExceeded),
        ("pause_fails", lambda driver: driver.pause_sandbox(), VmmError),
        ("save_fails", lambda driver: driver.save_sandbox("/nonexistent", 1), VmmError),
        ("refuses_hotplug", lambda driver: driver.hotplug_add_device(DISK), VmmError),
        ("refuses_unplug", lambda driver: driver.hotplug_remove_device(DISK), VmmError),
        ("hangs_on_unplug", lambda driver: driver.hotplug_remove_device(DISK), DeadlineExceeded),
        ("refuses_resize", lambda driver: driver.resize_vcpus(1), VmmError),
        ("refuses_resize", lambda driver: driver.resize_memory(1), VmmError),
        ("cleanup_fails", lambda driver: driver.cleanup(), VmmError),
    ],
)
def test_a_refusal_changes_no_size_and_no_device(context, fault, operation, error):
    driver = _running(context, fault)
    before = driver.observe()
    with pytest.raises(error):
        operation(driver)
    after = driver.observe()
    assert (after.vcpus, after.memory_mb, after.devices, after.pid) == (
        before.vcpus,
        before.memory_mb,
        before.devices,
        before.pid,
    )


def test_resume_and_restore_can_fail(context, tmp_path):
    driver = _running(context, "resume_fails", "restore_fails")
    driver.save_sandbox(str(tmp_path / "saved"), 1)
    with pytest.raises(VmmError):
        driver.resume_sandbox()
    driver.stop_sandbox(1)
    with pytest.raises(LaunchError):
        driver.restore_sandbox(str(tmp_path / "saved"), 1)


def test_a_guest_can_take_half_of_the_memory(context):
    assert _running(context, "gives_half_the_memory").resize_memory(512).new_mb == 384


def test_a_fault_comes_with_the_configuration_too(context):
    driver = MockHypervisor(context)
    config = _config(hypervisor_params=[Param("fault", "pause_fails")])
    driver.create_sandbox(config)
    driver.start_sandbox(1)
    other = new_hypervisor("mock", context)
    other.load(driver.save(), config)
    for each in (driver, other):
        with pytest.raises(VmmError):
            each.pause_sandbox()


def test_the_configuration_can_be_refused(context):
    with pytest.raises(ConfigError, match="refuses"):
        _created(context, "create_fails")


def test_an_unknown_fault_is_refused(context):
    with pytest.raises(ConfigError, match="must be a known fault"):
        MockHypervisor(context, ["explodes"])
    assert all(FAULTS.values())
