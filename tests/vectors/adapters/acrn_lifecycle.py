# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Operations of the ACRN driver, one at a time. A live VM is played by this process."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from adapters.answer import Answer, attempt
from ansible_collections.kata.hypervisor.plugins.module_utils.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.devices import (
    CpuDevice,
    Device,
    NetworkDevice,
    VhostUserDevice,
    Volume,
    Vsock,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.acrn.driver import AcrnHypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context
from ansible_collections.kata.hypervisor.plugins.module_utils.process import identify

DEVICES: dict[int, Device] = {
    1: Volume("t", "/p"),
    2: NetworkDevice("tap", name="n"),
    5: Vsock(3),
    7: VhostUserDevice("d", "/s", "virtio-net-pci"),
    8: CpuDevice(1),
}


def run(given: dict[str, Any]) -> Answer:
    with tempfile.TemporaryDirectory() as root:
        driver = AcrnHypervisor(Context("golden", os.path.join(root, "run"), os.path.join(root, "state")))
        driver.vm.state.version = [1, 2]
        operation = given["op"]
        if operation == "startSandbox":
            driver.create_sandbox(HypervisorConfig(kernel_path="/k", image_path="/i", hypervisor_path="/nowhere"))
            driver.start_sandbox(given["timeout"])
        elif operation == "stopSandbox":
            driver.stop_sandbox(1)
        elif operation == "check":
            # A process that is no VM: alive is not healthy.
            driver.vm.state.process = identify(os.getpid())
            driver.check()
        elif operation == "hotplugAddDevice":
            removed = attempt(driver.hotplug_remove_device, DEVICES[given["device_type"]])[1]
            driver.hotplug_add_device(DEVICES[given["device_type"]])
            return Answer({"remove_error": removed})
        elif operation == "resizeMemory":
            driver.resize_memory(given["mem_mb"])
        elif operation == "resizeVCPUs":
            driver.resize_vcpus(given["vcpus"])
        elif operation == "getThreadIDs":
            return Answer({"is_null": not driver.get_thread_ids(), "vcpus": None})
        elif operation == "pauseSandbox":
            driver.pause_sandbox()
        elif operation == "resumeSandbox":
            driver.resume_sandbox()
        elif operation == "saveSandbox":
            driver.save_sandbox(os.path.join(root, "saved"), 1)
        elif operation == "disconnect":
            driver.disconnect()
        elif operation == "cleanup":
            driver.cleanup()
        else:
            raise NotImplementedError(operation)
    return Answer({})
