# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole command lines of QEMU, in the classic dialect, on four architectures."""

from __future__ import annotations

from typing import Any, Optional

from adapters.answer import Answer, attempt
from adapters.go_config import config_from_go
from ansible_collections.kata.hypervisor.plugins.module_utils.devices import (
    BlockDrive,
    Device,
    NetworkDevice,
    SerialPort,
    VfioDevice,
    VhostUserDevice,
    Volume,
    Vsock,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError
from ansible_collections.kata.hypervisor.plugins.module_utils.host import parse_host_memory_mb
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.classic.arch import (
    ARCHITECTURES,
    ClassicArchitecture,
    with_gic,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.classic.machine import (
    ClassicMachine,
    HostFacts,
)


def device_of(kind: str, fields: dict[str, Any]) -> Optional[Device]:
    """A recorded device."""
    if kind == "volume":
        return Volume(fields.get("mount_tag", ""), fields.get("host_path", ""))
    if kind == "socket":
        return SerialPort(
            fields.get("device_id", ""), fields.get("id", ""), fields.get("host_path", ""), fields.get("name", "")
        )
    if kind == "vsock":
        return Vsock(fields.get("context_id", 0), 99 if fields.get("vhost_fd") else None, fields.get("port", 0))
    if kind == "block":
        return BlockDrive(
            fields.get("File", ""), fields.get("Format", ""), fields.get("ID", ""), fields.get("Index", 0)
        )
    if kind == "vfio":
        return VfioDevice(
            fields.get("ID", ""),
            fields.get("Type", 0),
            fields.get("BDF", ""),
            fields.get("SysfsDev", ""),
            fields.get("VendorID", ""),
            fields.get("DeviceID", ""),
        )
    if kind == "vhost_user":
        return VhostUserDevice(
            fields.get("DevID", ""),
            fields.get("SocketPath", ""),
            fields.get("Type", ""),
            fields.get("MacAddress", ""),
            fields.get("Tag", ""),
            fields.get("CacheSize", 0),
        )
    if kind.startswith("vhost_user_pointer"):
        # The original drops a reference to a record; the port has no references.
        return None
    return NetworkDevice(
        kind,
        fields.get("virt_name") or fields.get("name", ""),
        fields.get("tapiface_mac") or fields.get("mac", ""),
        fields.get("tapiface_name", ""),
        fields.get("tap_id", ""),
        fields.get("model", ""),
        [99] * fields.get("n_vm_fds", 0),
        [99] * fields.get("n_vhost_fds", 0),
    )


def host_of(given: dict[str, Any], binaries: dict[str, str]) -> HostFacts:
    """The host that a line was recorded on."""
    host = given["host"]
    files = {path: 0 if size == "dir" else size for path, size in host["existing_files"].items()}
    if host["dev_shm_exists"]:
        files["/dev/shm"] = 0
    if host["default_qemu_binary_exists"]:
        files[binaries.get("pc", "")] = 1
    return HostFacts(
        parse_host_memory_mb(f"MemTotal: {host['mem_total_kb']} kB\n"),
        host["cpuinfo_has_hypervisor_flag"],
        files.get,
        "{UUID}",
        lambda: "{RAND16}",
    )


def _architecture(name: str, host_cpus: int) -> ClassicArchitecture:
    """The architecture; those of arm64 were recorded where the interrupt controller is unknown."""
    return with_gic(ARCHITECTURES[name], "", host_cpus) if name == "arm64" else ARCHITECTURES[name]


def _facts(name: str, host_cpus: int) -> Answer:
    architecture = _architecture(name, host_cpus)
    machine = architecture.default_machine
    found = architecture.capabilities(machine)
    return Answer(
        {
            "caps_block_hotplug": found.block_device_hotplug,
            "caps_multiqueue": found.multi_queue,
            "cpu_model": architecture.cpu_model(False, False),
            "default_machine": machine,
            "default_qemu_path": architecture.binary(machine),
            "max_vcpus_fn": architecture.max_vcpus,
            "migration_wait_timeout_s": architecture.migration_seconds,
            "supports_memory_hotplug": architecture.memory_hotplug,
        }
    )


def run(given: dict[str, Any]) -> Answer:
    if given.get("op") == "arch_facts":
        return _facts(given["goarch"], 2)
    architecture = _architecture(given.get("goarch", "amd64"), given["host"].get("num_cpu", 0))
    config = config_from_go(given["config"])
    machine, failure = attempt(
        lambda: ClassicMachine(given["sandbox_id"], config, architecture, host_of(given, architecture.binaries))
    )
    if failure:
        return Answer({"phase": "createSandbox"}, failure.error)
    for device in given["devices"] or []:
        record = device_of(device["kind"], device["fields"])
        failure = attempt(machine.add_device, record)[1] if record else None
        if failure:
            return Answer({"phase": "addDevice"}, failure.error)
    return _launched(machine)


def _launched(machine: ClassicMachine) -> Answer:
    output = {
        "phase": "launch",
        "kernel_params": machine.kernel_command_line,
        "bridges": [bridge.as_dict() for bridge in machine.bridges],
        "nvdimm_count": machine.nvdimms,
    }
    error: Optional[HypervisorError] = None
    if machine.config.shared_fs == "virtio-fs":
        output["virtiofsd_path"] = machine.config.virtio_fs_daemon
        output["virtiofsd_argv"] = machine.virtiofsd_command_line()
    try:
        output["argv"] = machine.command_line()
        output["path"] = machine.binary
        output["n_extra_fds"] = len(machine.fds)
        output["n_fds_kept_until_launch"] = len(machine.kept_fds)
    except HypervisorError as raised:
        error = raised
        output["launch_stderr"] = ""
    return Answer(output, error)
