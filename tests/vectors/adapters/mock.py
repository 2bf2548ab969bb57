# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mock driver. Operations that need a VM get one with Kata 1.x's defaults, which runs."""

from __future__ import annotations

import os
import pathlib
import tempfile
from typing import Any

from adapters.answer import Answer, Lost, attempt
from adapters.fields import Fields, unknown_operation
from adapters.go_config import config_from_go, config_to_go
from adapters.records import LAST_KIND, DeviceKind, record_of
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.mock import MockHypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig


def _create(driver: MockHypervisor, given: Fields) -> Answer:
    config = config_from_go(given.table("config").values)
    if config.boot_from_template:
        # There is nothing at a line's path, where our mock looks for what was saved; Kata 1.x's looks for nothing.
        error = attempt(config.valid)[1]
        return Answer({"config_after": config_to_go(config)}, error.error if error else None)
    error = attempt(driver.create_sandbox, config)[1]
    return Answer({"config_after": config_to_go(config if error else driver.config)}, error.error if error else None)


def _hotplug(driver: MockHypervisor, given: Fields) -> Answer:
    kind = given.number("device_type")
    # Every other kind is one like the others to a mock, also one that there is not.
    device, wrong = attempt(record_of, kind if 0 <= kind <= LAST_KIND else DeviceKind.BLOCK, given.values.get("value"))
    if wrong:
        return Answer(error=wrong.error, inside=True)
    added, add_error = attempt(driver.hotplug_add_device, device)
    removed, remove_error = attempt(driver.hotplug_remove_device, device)
    return Answer({"add": added, "add_error": add_error, "remove": removed, "remove_error": remove_error})


def _threads(driver: MockHypervisor) -> Answer:
    threads = driver.get_thread_ids()
    return Answer({"keys": len(threads), "vcpu0_is_own_pid": threads[0] == os.getpid()})


def _resize_vcpus(driver: MockHypervisor, vcpus: int) -> Answer:
    result = driver.resize_vcpus(vcpus)
    return Answer({"old": result.old, "new": result.new})


def _resize_memory(driver: MockHypervisor, memory_mb: int) -> Answer:
    result = driver.resize_memory(memory_mb)
    return Answer({"mem_mb": result.new_mb, "size_mb": 0})


def _capabilities(driver: MockHypervisor) -> Answer:
    found = driver.capabilities()
    names = ("block_device", "block_device_hotplug", "multi_queue", "fs_sharing")
    return Answer({name: getattr(found, name) for name in names})


def run(given: dict[str, Any]) -> Answer:
    line = Fields(given)
    with tempfile.TemporaryDirectory() as directory:
        run_dir = os.path.join(directory, "run")
        os.mkdir(run_dir)
        driver = MockHypervisor(Context("golden", run_dir, directory))
        operation = line.text("op")
        if operation == "createSandbox":
            return _create(driver, line)
        driver.create_sandbox(HypervisorConfig(kernel_path="/k", initrd_path="/r"))
        if operation not in ("addDevice", "startSandbox", "pid"):
            driver.start_sandbox(1)
        if operation == "addDevice":
            driver.add_device(record_of(DeviceKind.BLOCK))
        elif operation == "startSandbox":
            driver.start_sandbox(1)
        elif operation == "stopSandbox":
            driver.stop_sandbox(1)
        elif operation == "pauseSandbox":
            driver.pause_sandbox()
        elif operation == "resumeSandbox":
            driver.resume_sandbox()
        elif operation == "saveSandbox":
            driver.save_sandbox(str(pathlib.Path(directory, "saved")), 1)
        elif operation in ("hotplug", "hotplugAddDevice", "hotplugRemoveDevice"):
            return _hotplug(driver, line)
        elif operation == "resizeVCPUs":
            return _resize_vcpus(driver, line.number("vcpus"))
        elif operation == "resizeMemory":
            return _resize_memory(driver, line.number("mem_mb"))
        elif operation == "getThreadIDs":
            return _threads(driver)
        elif operation == "getSandboxConsole":
            return Answer(driver.get_sandbox_console())
        elif operation == "capabilities":
            return _capabilities(driver)
        elif operation == "pid":
            return Answer(driver.pid())
        elif operation == "hypervisorConfig":
            return Answer(config_to_go(driver.hypervisor_config()))
        else:
            return _other(driver, operation)
        return Answer({})


def _other(driver: MockHypervisor, operation: str) -> Answer:
    """Operations of which only success or failure is compared."""
    calls: dict[str, Any] = {
        "check": driver.check,
        "cleanup": driver.cleanup,
        "disconnect": driver.disconnect,
        "save": driver.save,
        "load": lambda: driver.load(driver.save(), driver.config),
        "toGrpc": driver.to_grpc,
        "fromGrpc": lambda: driver.from_grpc(driver.config, b""),
    }
    if operation not in calls:
        raise unknown_operation(operation)
    error = attempt(calls[operation])[1]
    return Answer({} if operation in ("check", "cleanup", "disconnect") else Lost(), error.error if error else None)
