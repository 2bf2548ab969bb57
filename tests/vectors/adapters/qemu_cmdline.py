# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole command lines of QEMU, in the classic dialect, on four architectures."""

from __future__ import annotations

from typing import Any, Optional

from adapters.answer import Answer, attempt
from adapters.fields import Fields
from adapters.go_config import config_from_go
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, HypervisorError
from ansible_collections.kata.hypervisor.plugins.module_utils.host.proc import parse_host_memory_mb
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.classic.arch import (
    ARCHITECTURES,
    ClassicArchitecture,
    with_gic,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.classic.machine import (
    ClassicMachine,
    HostFacts,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.options.devices import (
    BlockDrive,
    Device,
    NetworkDevice,
    SerialPort,
    VfioDevice,
    VhostUserDevice,
    Volume,
    Vsock,
)

#: Kinds of interfaces; the original passes over those that are not its own.
NETWORK_KINDS = ("veth", "bridged_macvlan", "ipvlan", "macvtap", "tap", "physical", "vhost_user_endpoint")


def device_of(given: Fields) -> Optional[Device]:
    """A recorded device. None for what the original passes over: a reference to a record, and a kind that it does not know."""
    kind, fields = given.text("kind"), given.table("fields")
    if kind == "volume":
        return Volume(fields.text("mount_tag"), fields.text("host_path"))
    if kind == "socket":
        return SerialPort(fields.text("device_id"), fields.text("id"), fields.text("host_path"), fields.text("name"))
    if kind == "vsock":
        return Vsock(fields.number("context_id"), 99 if fields.flag("vhost_fd") else None, fields.number("port"))
    if kind == "block":
        return BlockDrive(fields.text("File"), fields.text("Format"), fields.text("ID"), fields.number("Index"))
    if kind == "vfio":
        return VfioDevice(
            fields.text("ID"),
            fields.number("Type"),
            fields.text("BDF"),
            fields.text("SysfsDev"),
            fields.text("VendorID"),
            fields.text("DeviceID"),
        )
    if kind == "vhost_user":
        return VhostUserDevice(
            fields.text("DevID"),
            fields.text("SocketPath"),
            fields.text("Type"),
            fields.text("MacAddress"),
            fields.text("Tag"),
            fields.number("CacheSize"),
        )
    if kind not in NETWORK_KINDS:
        return None
    return NetworkDevice(
        kind,
        fields.text("virt_name") or fields.text("name"),
        fields.text("tapiface_mac") or fields.text("mac"),
        fields.text("tapiface_name"),
        fields.text("tap_id"),
        fields.text("model"),
        [99] * fields.descriptors("n_vm_fds"),
        [99] * fields.descriptors("n_vhost_fds"),
    )


def host_of(given: Fields, binaries: dict[str, str]) -> HostFacts:
    """The host that a line was recorded on.

    :raises HostError: its memory cannot be
    """
    host = given.table("host")
    sizes = host.table("existing_files")
    files = {path: 0 if size == "dir" else sizes.number(path) for path, size in sizes.values.items()}
    if host.flag("dev_shm_exists"):
        files["/dev/shm"] = 0
    if host.flag("default_qemu_binary_exists"):
        files[binaries.get("pc", "")] = 1
    return HostFacts(
        parse_host_memory_mb(f"MemTotal: {host.number('mem_total_kb')} kB\n"),
        host.flag("cpuinfo_has_hypervisor_flag"),
        files.get,
        "{UUID}",
        lambda: "{RAND16}",
    )


def _architecture(name: str, host_cpus: int) -> ClassicArchitecture:
    """The architecture; those of arm64 were recorded where the interrupt controller is unknown.

    :raises ConfigError: there is no such architecture
    """
    if name not in ARCHITECTURES:
        raise ConfigError(
            "there is no such architecture", wanted=name, fix=f"The architectures are {', '.join(ARCHITECTURES)}."
        )
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
    line = Fields(given)
    arch = line.text("goarch", "amd64")
    if line.text("op") == "arch_facts":
        return _facts(arch, 2)
    architecture = _architecture(arch, line.table("host").number("num_cpu"))
    config = config_from_go(given.get("config"))
    machine, failure = attempt(
        lambda: ClassicMachine(line.text("sandbox_id"), config, architecture, host_of(line, architecture.binaries))
    )
    if failure:
        return Answer({"phase": "createSandbox"}, failure.error)
    for device in line.tables("devices"):
        record = device_of(device)
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
