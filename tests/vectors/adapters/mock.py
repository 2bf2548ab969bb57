# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mock driver. Operations that need a VM get one with the original's defaults, which runs."""

from __future__ import annotations

import os
import pathlib
import tempfile
from typing import Any, Optional

from adapters.answer import Answer, Lost, attempt
from adapters.go_config import config_from_go, config_to_go
from ansible_collections.kata.hypervisor.plugins.module_utils.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.devices import (
    BlockDrive,
    CpuDevice,
    Device,
    DeviceKind,
    MemoryDevice,
    NetworkDevice,
    SerialPort,
    VfioDevice,
    VhostUserDevice,
    Volume,
    Vsock,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.mock import MockHypervisor


def _device(kind: int, value: Any) -> Device:
    """A device of that kind. The vectors tell values for the kinds that the mock answers with a number only."""
    if kind == DeviceKind.CPU:
        return CpuDevice(value)
    if kind == DeviceKind.MEMORY:
        return MemoryDevice(value["size_mb"])
    devices: dict[int, Device] = {
        DeviceKind.IMAGE: BlockDrive("/golden/image", id="image"),
        DeviceKind.FS: Volume("tag", "/golden"),
        DeviceKind.NET: NetworkDevice("tap", id="net0"),
        DeviceKind.BLOCK: BlockDrive("/golden/disk", id="disk"),
        DeviceKind.SERIAL_PORT: SerialPort("port0", "char0", "/golden/socket"),
        DeviceKind.VSOCK: Vsock(3),
        DeviceKind.VFIO: VfioDevice("vfio0", bdf="00:01.0"),
        DeviceKind.VHOST_USER: VhostUserDevice("user0", "/golden/socket", "vhost-user-blk-pci"),
    }
    return devices[kind]


def _create(driver: MockHypervisor, given: dict[str, Any]) -> Answer:
    config = config_from_go(given["config"])
    error = attempt(driver.create_sandbox, config)[1]
    return Answer({"config_after": config_to_go(config if error else driver.config)}, error.error if error else None)


def _hotplug(driver: MockHypervisor, given: dict[str, Any]) -> Answer:
    device = _device(given["device_type"], given["value"])
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
    with tempfile.TemporaryDirectory() as directory:
        run_dir = os.path.join(directory, "run")
        os.mkdir(run_dir)
        driver = MockHypervisor(Context("golden", run_dir, directory))
        operation = given["op"]
        if operation == "createSandbox":
            return _create(driver, given)
        driver.create_sandbox(HypervisorConfig(kernel_path="/k", initrd_path="/r"))
        if operation not in ("addDevice", "startSandbox", "pid"):
            driver.start_sandbox(1)
        if operation == "addDevice":
            driver.add_device(_device(DeviceKind.BLOCK, None))
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
        elif operation == "hotplug":
            return _hotplug(driver, given)
        elif operation == "resizeVCPUs":
            return _resize_vcpus(driver, given["vcpus"])
        elif operation == "resizeMemory":
            return _resize_memory(driver, given["mem_mb"])
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
    error: Optional[HypervisorError] = None
    try:
        calls[operation]()
    except HypervisorError as raised:
        error = raised
    return Answer({} if operation in ("check", "cleanup", "disconnect") else Lost(), error)
