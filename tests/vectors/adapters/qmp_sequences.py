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
from typing import Any, Optional

from scripted_qmp import ScriptedQmpServer

from adapters.answer import Answer, Lost, attempt
from adapters.go_config import config_from_go
from ansible_collections.kata.hypervisor.plugins.module_utils.devices import (
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
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HostError, LaunchError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.classic.arch import AMD64
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.classic.machine import (
    ClassicMachine,
    HostFacts,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.classic.vm import ClassicVm

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
VFIO_NAMES = {"id": "ID", "type": "Type", "bdf": "BDF", "sysfs_dev": "SysfsDev"}
NETWORK_KINDS = ("veth", "tap", "bridged_macvlan", "ipvlan", "macvtap", "physical")
UNSUPPORTED: dict[str, Device] = {
    "fs": Volume("tag", "/golden"),
    "serial_port": SerialPort("port0", "char0", "/golden/socket"),
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


def _device(kind: str, fields: dict[str, Any]) -> Device:
    if kind == "cpu":
        return CpuDevice(fields["count"])
    if kind == "memory":
        return MemoryDevice(fields["size_mb"], fields["slot"], fields["addr"], fields["probe"])
    if kind == "block":
        return BlockDrive(
            **{"file": "", "format": "", **{name: fields[key] for name, key in BLOCK_NAMES.items() if key in fields}}
        )
    if kind == "vfio":
        return VfioDevice(
            **{"id": "", "type": 0, **{name: fields[key] for name, key in VFIO_NAMES.items() if key in fields}}
        )
    if kind in NETWORK_KINDS:
        return NetworkDevice(
            kind,
            mac=fields.get("tapiface_mac", ""),
            tap_name=fields.get("tap_name", ""),
            tap_id=fields.get("tap_id", ""),
        )
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


def _operate(vm: ClassicVm, operation: str, arguments: dict[str, Any], launch_outcome: str) -> Any:
    if operation == "startSandbox":
        return vm.start(arguments["timeout"], lambda argv: _launch(launch_outcome))
    if operation == "resizeVCPUs":
        vcpus = vm.resize_vcpus(arguments["vcpus"])
        return {"old": vcpus.old, "new": vcpus.new}
    if operation == "resizeMemory":
        memory = vm.resize_memory(arguments["mem_mb"], arguments["block_mb"], arguments["probe"])
        return {"mem_mb": memory.new_mb, "device": _described(memory.device)}
    if operation == "getThreadIDs":
        return {str(vcpu): thread for vcpu, thread in vm.thread_ids().items()}
    if operation == "wait":
        return time.sleep(arguments["ms"] / 1000)
    calls = {
        "stopSandbox": vm.stop,
        "pauseSandbox": vm.pause,
        "resumeSandbox": vm.resume,
        "saveSandbox": vm.save,
        "check": vm.check,
        "disconnect": vm.disconnect,
        "cleanup": lambda: None,
    }
    return calls[operation]()


def _hotplug(vm: ClassicVm, operation: str, given: dict[str, Any], devices: dict[str, Device]) -> tuple[Any, Any]:
    """Plug a device; disks and NICs are the same record each time they are named."""
    name = json.dumps(given, sort_keys=True)
    device = devices.get(name) or _device(given["kind"], given["fields"])
    if isinstance(device, BlockDrive):
        devices[name] = device
    elif isinstance(device, NetworkDevice):
        devices[name] = device
        device.vm_fds = _descriptors(given["fields"].get("n_vm_fds", 0))
        device.vhost_fds = _descriptors(given["fields"].get("n_vhost_fds", 0))
    function = vm.hotplug_add if operation == "hotplugAddDevice" else vm.hotplug_remove
    data, error = attempt(function, device)
    _close_descriptors(device)
    return {"data": data, "device_after": _described(device)}, error


def _step(
    vm: ClassicVm, server: ScriptedQmpServer, step: dict[str, Any], devices: dict[str, Device], launch_outcome: str
) -> dict[str, Any]:
    arguments = step.get("args") or {}
    started = time.monotonic()
    if "device" in arguments:
        result, error = _hotplug(vm, step["op"], arguments["device"], devices)
    else:
        result, error = attempt(_operate, vm, step["op"], arguments, launch_outcome)
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
    with tempfile.TemporaryDirectory() as directory:
        run_dir = pathlib.Path(directory, "vm")
        run_dir.mkdir()
        host = HostFacts(given["host_mem_total_kb"] // 1024, False, FILES.get, "{UUID}", lambda: "{RAND16}")
        machine = ClassicMachine("golden", config_from_go(given["config"]), AMD64, host)
        vm = ClassicVm(machine, str(run_dir), tuple(given["qemu_version"][:2]), _block_device_size)
        vm.state.hotplugged_vcpus = [vcpu["ID"] for vcpu in given["initial_hotplugged_vcpus"] or []]
        server = ScriptedQmpServer(str(run_dir / "qmp.sock"), given["server"], given["qemu_version"])
        devices: dict[str, Device] = {}
        try:
            return Answer(
                {"steps": [_step(vm, server, step, devices, given["launch_outcome"]) for step in given["ops"]]}
            )
        finally:
            vm.disconnect()
            server.close()
