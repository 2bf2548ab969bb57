# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Operations of the classic dialect against a scripted QMP server."""

from __future__ import annotations

import json
import os
import pathlib
import tempfile
import time
from typing import Any, Callable, Optional

from adapters.answer import Answer, Console, Lost, attempt
from adapters.fields import Fields, unknown_operation
from adapters.go_config import config_from_go, config_to_go
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HostError, LaunchError, Unsupported
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Capabilities
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.classic.arch import AMD64
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.classic.machine import (
    RUN_ROOT,
    ClassicMachine,
    HostFacts,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.classic.vm import ClassicVm
from ansible_collections.kata.hypervisor.plugins.module_utils.options.devices import (
    BlockDrive,
    CpuDevice,
    Device,
    MemoryDevice,
    NetworkDevice,
    SerialPort,
    VfioDevice,
    VhostUserDevice,
    Volume,
    Vsock,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.records.layout import socket_path
from tests.support.scripted_qmp import ScriptedQmpServer

#: The recorded VM.
SANDBOX = "golden"
#: The largest number in a version of QEMU.
MOST_VERSION = 2**31 - 1
#: What exists on the recorded host.
FILES = {"/golden/bin/qemu-system-x86_64": 10, "/golden/guest/kata.img": 131072, "/golden/shm": 0, "/dev/shm": 0}
BLOCK_DEVICES = {"/dev/loop0": 1 << 20}
BLOCK_NAMES = {
    "file": "File",
    "format": "Format",
    "id": "ID",
    "index": "Index",
    "pci_addr": "PCIAddr",
    "scsi_addr": "SCSIAddr",
    "nvdimm_id": "NvdimmID",
    "virt_path": "VirtPath",
}
#: Names of the original's numbers for kinds.
KIND_NAMES = ("image", "fs", "net", "block", "serial_port", "vsock", "vfio", "vhost_user", "cpu", "memory")
#: Milliseconds that a line can wait, and seconds that it can give a VM.
LONGEST_WAIT, LONGEST_START = 60_000, 600
NETWORK_KINDS = ("veth", "tap", "bridged_macvlan", "ipvlan", "macvtap", "physical")
UNSUPPORTED: dict[str, Device] = {
    "fs": Volume("tag", "/golden"),
    "serial_port": SerialPort("port0", "char0", "/golden/socket"),
    "socket": SerialPort("port0", "char0", "/golden/socket"),
    "volume": Volume("tag", "/golden"),
    "vsock": Vsock(3),
    "vhost_user": VhostUserDevice("user0", "/golden/socket", "vhost-user-blk-pci"),
    # The port has no record for an image: it is part of the configuration.
    "image": Volume("image", "/golden"),
}


def _block_device_size(path: str) -> int:
    if path not in BLOCK_DEVICES:
        raise HostError(f"{path} is no block device")
    return BLOCK_DEVICES[path]


def _descriptors(count: int) -> list[int]:
    return [os.open(os.devnull, os.O_RDWR) for _each in range(count)]


def _device(kind: str, fields: Fields) -> Device:
    """The record of a line's device.

    :raises Unsupported: the port has none for its kind
    """
    if kind == "cpu":
        return CpuDevice(fields.number("count"))
    if kind == "memory":
        return MemoryDevice(
            fields.number("size_mb"), fields.number("slot"), fields.number("addr"), fields.flag("probe")
        )
    if kind == "block":
        values = {name: fields.text(key) for name, key in BLOCK_NAMES.items() if name != "index"}
        return BlockDrive(**values, index=fields.number("Index"))
    if kind == "vfio":
        return VfioDevice(fields.text("ID"), fields.number("Type"), fields.text("BDF"), fields.text("SysfsDev"))
    if kind in NETWORK_KINDS:
        return NetworkDevice(
            kind, mac=fields.text("tapiface_mac"), tap_name=fields.text("tap_name"), tap_id=fields.text("tap_id")
        )
    if kind not in UNSUPPORTED:
        raise Unsupported("there is no such kind of device", wanted=kind)
    return UNSUPPORTED[kind]


def _described(device: Device) -> Optional[dict[str, Any]]:
    """A device record after an operation, where the vectors tell it."""
    if isinstance(device, BlockDrive):
        return {key: getattr(device, name) for name, key in BLOCK_NAMES.items() if getattr(device, name)}
    if isinstance(device, MemoryDevice):
        return {"addr": device.addr, "probe": device.probe, "size_mb": device.size_mb, "slot": device.slot}
    if isinstance(device, NetworkDevice):
        return {"pci_addr": device.pci_addr}
    return None


def _close_descriptors(device: Device) -> None:
    if isinstance(device, NetworkDevice):
        for descriptor in device.vm_fds + device.vhost_fds:
            os.close(descriptor)


def _launch(outcome: str) -> None:
    if outcome != "launch succeeds":
        raise LaunchError(outcome)


def _operate(vm: ClassicVm, operation: str, arguments: Fields, launch_outcome: str) -> Any:
    if operation == "startSandbox":
        timeout = arguments.number("timeout", 0, None, LONGEST_START)
        return vm.start(timeout, lambda argv: _launch(launch_outcome))
    if operation == "resizeVCPUs":
        vcpus = vm.resize_vcpus(arguments.number("vcpus"))
        return {"old": vcpus.old, "new": vcpus.new}
    if operation == "resizeMemory":
        memory = vm.resize_memory(
            arguments.number("mem_mb"), arguments.number("block_mb", 0, 0), arguments.flag("probe")
        )
        return {"mem_mb": memory.new_mb, "device": _described(memory.device)}
    if operation == "getThreadIDs":
        return {str(vcpu): thread for vcpu, thread in vm.thread_ids().items()}
    if operation == "wait":
        return time.sleep(arguments.number("ms", 0, 0, LONGEST_WAIT) / 1000)
    if operation == "getSandboxConsole":
        given = next((value for value in arguments.values.values() if isinstance(value, str)), SANDBOX)
        return Console(socket_path(RUN_ROOT, given, "console.sock"))
    calls: dict[str, Callable[[], Any]] = {
        "stopSandbox": vm.stop,
        "pauseSandbox": vm.pause,
        "resumeSandbox": vm.resume,
        "saveSandbox": vm.save,
        "check": vm.check,
        "disconnect": vm.disconnect,
        "cleanup": lambda: None,
        # What is added to a VM that runs is added to a command line that was used already.
        "addDevice": lambda: None,
        "createSandbox": lambda: None,
        "capabilities": lambda: _facts(vm.machine.architecture.capabilities(vm.machine.machine_type)),
        "hypervisorConfig": lambda: config_to_go(vm.config),
        # There is no process behind a scripted monitor.
        "pid": lambda: 0,
        "save": lambda: vm.state.as_snapshot(0),
        "load": Lost,
        "toGrpc": lambda: (vm.disconnect(), Lost())[1],
        "fromGrpc": Lost,
    }
    if operation not in calls:
        raise unknown_operation(operation)
    return calls[operation]()


def _facts(found: Capabilities) -> dict[str, bool]:
    return {
        name: getattr(found, name) for name in ("block_device", "block_device_hotplug", "multi_queue", "fs_sharing")
    }


def _hotplug(vm: ClassicVm, operation: str, arguments: Fields, devices: dict[str, Device]) -> tuple[Any, Any]:
    """Plug a device; disks and NICs are the same record each time they are named."""
    given = arguments.table("device")
    if not given.values:
        number = arguments.number("device_type", -1)
        given = Fields({"kind": KIND_NAMES[number] if 0 <= number < len(KIND_NAMES) else f"number {number}"})
    name = json.dumps(given.values, sort_keys=True)
    fields = given.table("fields")
    device = devices.get(name) or _device(given.text("kind"), fields)
    if isinstance(device, BlockDrive):
        devices[name] = device
    elif isinstance(device, NetworkDevice):
        devices[name] = device
        device.vm_fds = _descriptors(fields.descriptors("n_vm_fds"))
        device.vhost_fds = _descriptors(fields.descriptors("n_vhost_fds"))
    function = vm.hotplug_add if operation == "hotplugAddDevice" else vm.hotplug_remove
    data, error = attempt(function, device)
    _close_descriptors(device)
    return {"data": data, "device_after": _described(device)}, error


def _step(
    vm: ClassicVm, server: ScriptedQmpServer, step: Fields, devices: dict[str, Device], launch_outcome: str
) -> dict[str, Any]:
    arguments, operation = step.table("args"), step.text("op")
    started = time.monotonic()
    if operation in ("hotplugAddDevice", "hotplugRemoveDevice"):
        found, failure = attempt(_hotplug, vm, operation, arguments, devices)
        result, error = (None, failure) if failure else found
    else:
        result, error = attempt(_operate, vm, operation, arguments, launch_outcome)
    elapsed = int(time.monotonic() - started)
    answer = {
        "result": Lost() if error and result is None else result,
        "error": error,
        "connected_after": vm.qmp is not None,
        "vm_dir_exists": os.path.isdir(vm.run_dir),
        "state": {
            "Bridges": [bridge.as_dict() for bridge in vm.state.bridges],
            "HotpluggedVCPUs": [{"ID": identifier} for identifier in vm.state.hotplugged_vcpus],
            "HotpluggedMemory": vm.state.hotplugged_memory,
            "nvdimm_count": vm.nvdimms,
        },
    }
    if elapsed:
        answer["elapsed_s"] = elapsed
    if server.running:
        answer["qmp"] = server.take_log(vm.qmp is not None)
    return answer


def run(given: dict[str, Any]) -> Answer:
    line = Fields(given)
    version = [Fields({"part": part}).number("part", 0, 0, MOST_VERSION) for part in line.items("qemu_version")]
    vcpus = [vcpu.text("ID") for vcpu in line.tables("initial_hotplugged_vcpus")]
    outcome = line.text("launch_outcome")
    with tempfile.TemporaryDirectory() as directory:
        run_dir = pathlib.Path(directory, "vm")
        run_dir.mkdir()
        host = HostFacts(line.number("host_mem_total_kb") // 1024, False, FILES.get, "{UUID}", lambda: "{RAND16}")
        machine = ClassicMachine(SANDBOX, config_from_go(given.get("config")), AMD64, host)
        vm = ClassicVm(machine, str(run_dir), ((*version, 0, 0)[0], (*version, 0, 0)[1]), _block_device_size)
        vm.state.hotplugged_vcpus = vcpus
        server = ScriptedQmpServer(str(run_dir / "qmp.sock"), _script(line.table("server")), version)
        devices: dict[str, Device] = {}
        try:
            return Answer({"steps": [_step(vm, server, step, devices, outcome) for step in line.tables("ops")]})
        finally:
            vm.disconnect()
            server.close()


def _script(given: Fields) -> dict[str, Any]:
    """What the server does, complete."""
    replies = given.table("scripted_replies")
    return {
        "running": given.flag("running"),
        "scripted_replies": {command: replies.texts(command) for command in replies.values},
        "auto_device_deleted_event": given.flag("auto_device_deleted_event"),
        "line_before_greeting": given.text("line_before_greeting"),
    }
