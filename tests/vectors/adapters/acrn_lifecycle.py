# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Operations of the ACRN driver, one at a time. A live VM is played by this process, one that is started or stopped by a shell."""

from __future__ import annotations

import os
import pathlib
import subprocess
import tempfile
from typing import Any, Callable

from adapters.answer import Answer, Console, Lost, attempt
from adapters.fields import Fields, unknown_operation
from adapters.records import record_of
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.host.processes import identify
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.acrn import start
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.acrn.driver import AcrnHypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig

#: An acrn-dm that has a VM, and an acrnctl that knows it.
DEVICE_MODEL = "#!/bin/sh\n[ \"$1\" = -v ] && echo 'DM version is: 1.2-double' && exit\nexec sleep 600\n"
CONTROL = "#!/bin/sh\necho 'sandbox-golden started'\n"


def _start(driver: AcrnHypervisor, given: Fields, root: pathlib.Path) -> Answer:
    """Start a VM. A new store, which is null, makes Kata 1.x crash, and a missing program as well.

    :raises ConfigError: there is no store
    """
    timeout = given.number("timeout", 1)
    if "store" in given.values and given.values["store"] is None:
        raise ConfigError("there is no store to put the VM's process down in")
    files = {}
    for name, content, mode in (
        ("acrn-dm", DEVICE_MODEL, 0o700),
        ("acrnctl", CONTROL, 0o700),
        ("k", "k", 0o600),
        ("i", "i", 0o600),
    ):
        files[name] = root / name
        files[name].write_text(content)
        files[name].chmod(mode)
    kept, start.HSM_DEVICES = start.HSM_DEVICES, ("/dev/null",)
    try:
        driver.create_sandbox(
            HypervisorConfig(
                kernel_path=str(files["k"]),
                image_path=str(files["i"]),
                memory_size=8,
                hypervisor_path=str(files["acrn-dm"]),
                hypervisor_ctl_path=str(files["acrnctl"]),
            )
        )
        if given.text("acrn_dm"):
            files["acrn-dm"].unlink()
        driver.start_sandbox(timeout)
        return Answer({"elapsed_s": Lost(), "pid": Lost(), "vm_dir_exists": os.path.isdir(driver.context.run_dir)})
    finally:
        start.HSM_DEVICES = kept
        driver.cleanup()


def _stop(driver: AcrnHypervisor, given: Fields, root: pathlib.Path) -> Answer:
    if not given.flag("pid_alive"):
        driver.stop_sandbox(1)
        return Answer({})
    process = subprocess.Popen(["sleep", "600"])
    try:
        driver.vmm.state.process = identify(process.pid)
        driver.stop_sandbox(1)
        return Answer(Lost())
    finally:
        process.kill()
        process.wait()


def _check(driver: AcrnHypervisor, given: Fields, root: pathlib.Path) -> Answer:
    if given.flag("pid_alive"):
        # A process that is no VM: alive is not healthy.
        driver.vmm.state.process = identify(os.getpid())
    driver.check()
    return Answer({})


def _hotplug_add(driver: AcrnHypervisor, given: Fields, root: pathlib.Path) -> Answer:
    kind = given.number("device_type")
    device = record_of(kind, {8: 1, 9: {"size_mb": 1}}.get(kind))
    removed = attempt(driver.hotplug_remove_device, device)[1]
    driver.hotplug_add_device(device)
    return Answer({"remove_error": removed})


def _hotplug_remove(driver: AcrnHypervisor, given: Fields, root: pathlib.Path) -> Answer:
    kind = given.number("device_type")
    driver.hotplug_remove_device(record_of(kind, {8: 1, 9: {"size_mb": 1}}.get(kind)))
    return Answer({})


def _add_device(driver: AcrnHypervisor, given: Fields, root: pathlib.Path) -> Answer:
    kind = given.number("device_type")
    driver.add_device(record_of(kind, {8: 1, 9: {"size_mb": 1}}.get(kind)))
    return Answer({})


def _create(driver: AcrnHypervisor, given: Fields, root: pathlib.Path) -> Answer:
    from adapters.go_config import config_from_go

    driver.create_sandbox(config_from_go(given.table("config").values))
    return Answer(Lost())


def _load(driver: AcrnHypervisor, given: Fields, root: pathlib.Path) -> Answer:
    driver.load(driver.save(), driver.config)
    return Answer({})


def _capabilities(driver: AcrnHypervisor, given: Fields, root: pathlib.Path) -> Answer:
    found = driver.capabilities()
    return Answer(
        {name: getattr(found, name) for name in ("block_device", "block_device_hotplug", "multi_queue", "fs_sharing")}
    )


def _console(driver: AcrnHypervisor, given: Fields, root: pathlib.Path) -> Answer:
    return Answer(Console(driver.get_sandbox_console()))


def _threads(driver: AcrnHypervisor, given: Fields, root: pathlib.Path) -> Answer:
    return Answer({"is_null": not driver.get_thread_ids(), "vcpus": None})


def _only(
    call: Callable[[AcrnHypervisor, Fields, pathlib.Path], Any], output: Any = None
) -> Callable[[AcrnHypervisor, Fields, pathlib.Path], Answer]:
    """An operation of which only success or failure is compared."""

    def operate(driver: AcrnHypervisor, given: Fields, root: pathlib.Path) -> Answer:
        call(driver, given, root)
        return Answer({} if output is None else output)

    return operate


OPERATIONS: dict[str, Callable[[AcrnHypervisor, Fields, pathlib.Path], Answer]] = {
    "createSandbox": _create,
    "startSandbox": _start,
    "stopSandbox": _stop,
    "check": _check,
    "addDevice": _add_device,
    "hotplugAddDevice": _hotplug_add,
    "hotplugRemoveDevice": _hotplug_remove,
    "resizeMemory": _only(lambda driver, given, root: driver.resize_memory(given.number("mem_mb"))),
    "resizeVCPUs": _only(lambda driver, given, root: driver.resize_vcpus(given.number("vcpus"))),
    "getThreadIDs": _threads,
    "getSandboxConsole": _console,
    "capabilities": _capabilities,
    "pauseSandbox": _only(lambda driver, given, root: driver.pause_sandbox()),
    "resumeSandbox": _only(lambda driver, given, root: driver.resume_sandbox()),
    "saveSandbox": _only(lambda driver, given, root: driver.save_sandbox(str(root / "saved"), 1)),
    "disconnect": _only(lambda driver, given, root: driver.disconnect()),
    "cleanup": _only(lambda driver, given, root: driver.cleanup()),
    "hypervisorConfig": _only(lambda driver, given, root: driver.hypervisor_config(), Lost()),
    "pid": _only(lambda driver, given, root: driver.pid(), Lost()),
    "save": _only(lambda driver, given, root: driver.save(), Lost()),
    "load": _load,
    "toGrpc": _only(lambda driver, given, root: driver.to_grpc()),
    "fromGrpc": _only(lambda driver, given, root: driver.from_grpc(driver.config, b"")),
}


def run(given: dict[str, Any]) -> Answer:
    line = Fields(given)
    operation = line.text("op")
    if operation not in OPERATIONS:
        raise unknown_operation(operation)
    with tempfile.TemporaryDirectory() as root:
        driver = AcrnHypervisor(Context("golden", os.path.join(root, "run"), os.path.join(root, "state")))
        driver.vmm.state.version = [1, 2]
        return OPERATIONS[operation](driver, line, pathlib.Path(root))
