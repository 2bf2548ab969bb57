# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole command lines of QEMU, on four architectures.

Kata 1.x wrote for a QEMU that is gone, so the words differ. What is compared is the VM: how much memory and of which kind, which files it boots,
which disks, shares and interfaces its guest has. The driver prepares each VM from the same request, and each fact that differs is a difference.
"""

from __future__ import annotations

import dataclasses
import tempfile
from typing import Any, Iterator, Optional

from adapters.answer import Answer, Judged
from adapters.fields import Fields
from adapters.go_config import config_from_go, custom_assets
from adapters.qemu_meaning import meaning
from adapters.qemu_request import (
    MACHINE_TYPES,
    RecordedHost,
    architecture_of,
    command_line,
    own_options,
    prepared,
    todays_config,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.command_line import VmPlan, cpu_model
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.devices import virtiofsd
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.devices.kinds import device_for
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.devices.objects import (
    Descriptors,
    QemuObject,
    Slot,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.driver import QemuHypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.machines import machine_named
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.base import Device
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.block import BlockDrive
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.fs import Volume
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.net import NetworkDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.serial import SerialPort
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vfio import VfioDevice, VfioType
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vhost_user import VhostUserDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vsock import Vsock

#: Interfaces that are a tap to QEMU.
TAPPED = ("veth", "bridged_macvlan", "ipvlan", "macvtap")
#: Kinds of interfaces; Kata 1.x passes over those that are not its own.
NETWORK_KINDS = ("veth", "bridged_macvlan", "ipvlan", "macvtap", "tap", "physical", "vhost_user_endpoint")


def device_of(given: Fields) -> Optional[Device]:
    """A recorded device. None for what Kata 1.x passes over: a reference to a record, and a kind that it does not know."""
    kind, fields = given.text("kind"), given.table("fields")
    if kind == "volume":
        return Volume(fields.text("mount_tag"), fields.text("host_path"))
    if kind == "socket":
        return SerialPort(fields.text("device_id"), fields.text("id"), fields.text("host_path"), fields.text("name"))
    if kind == "vsock":
        return Vsock(fields.number("context_id"))
    if kind == "block":
        return BlockDrive(fields.text("File"), fields.text("Format"), fields.text("ID"), fields.number("Index"))
    if kind == "vfio":
        return VfioDevice(
            fields.text("ID"),
            # Kata 1.x does not look at the type of a device that is there from the start.
            fields.number("Type") or VfioType.NORMAL,
            fields.text("BDF"),
            fields.text("SysfsDev"),
        )
    if kind == "vhost_user":
        return VhostUserDevice(
            fields.text("DevID"),
            fields.text("SocketPath"),
            fields.text("Type"),
            fields.text("MacAddress"),
            fields.text("Tag"),
        )
    if kind not in NETWORK_KINDS:
        return None
    return NetworkDevice(
        "tap" if kind in TAPPED else kind,
        id=fields.text("virt_name") or fields.text("name"),
        mac=fields.text("tapiface_mac") or fields.text("mac"),
        tap_name=fields.text("tapiface_name"),
        queues=max(fields.descriptors("n_vm_fds"), 1),
        vhost=fields.descriptors("n_vhost_fds") > 0,
    )


class SameVm(Judged):
    """The VM that the driver makes, compared with the recorded one: `WHERE.MACHINE_TYPE[.clone or .template].FACT`.

    A fact that holds a value with a comma is `WHERE.commas.FACT`: Kata 1.x does not escape it.

    :param commas: the values of the request that have a comma
    """

    def __init__(
        self, config: HypervisorConfig, argv: list[str], facts: dict[str, Any], own: dict[str, Any], commas: list[str]
    ) -> None:
        self.facts = {**meaning(argv[1:], own), "program": argv[0], **facts}
        self.own = own
        self.commas = commas
        role = "clone" if config.boot_from_template else "template" if config.boot_to_be_template else ""
        self.what = ".".join(filter(None, (self.facts["machine_type"], role)))

    def differences_from(self, where: str, expected: Any) -> list[str]:
        argv = expected.get("argv") if isinstance(expected, dict) else None
        if not isinstance(argv, list):
            # Kata 1.x has refused it, which the comparison of errors tells.
            return []
        recorded = {**meaning(argv, self.own), "program": expected.get("path"), **recorded_shares(expected)}
        return [
            f"{where}.{self._label(fact)}.{fact}: expected {recorded.get(fact)!r}, got {value!r}"
            for fact, value in self.facts.items()
            if recorded.get(fact) != value
        ]

    def _label(self, fact: str) -> str:
        mine = list(texts_in(self.facts[fact]))
        return "commas" if any(text in one for text in self.commas for one in mine) else self.what


def recorded_shares(output: dict[str, Any]) -> dict[str, Any]:
    """How the recorded daemon of virtio-fs caches, and the size of its window, MiB."""
    words = output.get("virtiofsd_argv") or []
    caches = [word.partition("=")[2] for word in words if isinstance(word, str) and word.startswith("cache=")]
    return {"share_cache": caches[-1:]}


def texts_in(value: Any) -> Iterator[str]:
    """All texts in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from texts_in(one)


def _objects(device: Device, config: HypervisorConfig) -> list[QemuObject]:
    """A device as the driver makes it, with stand-ins for what it opens on the host."""
    machine = machine_named(config.hypervisor_machine_type)
    descriptors = Descriptors()
    if isinstance(device, NetworkDevice):
        descriptors.tap = ["9"] * device.queues
        descriptors.vhost = [] if config.disable_vhost_net else ["9"] * device.queues
    elif isinstance(device, Volume):
        device = dataclasses.replace(device, id=device.mount_tag)
        descriptors.socket = "8" if config.shared_fs == "virtio-fs" else ""
    elif isinstance(device, BlockDrive):
        device = dataclasses.replace(device, driver="virtio-blk")
    made = device_for(device, config)
    made.check_machine(machine)
    return made.objects(Slot.for_machine(machine), descriptors)


def _share_cache(config: HypervisorConfig) -> list[str]:
    """How the daemon of virtio-fs caches, in the words of the one in C, which Kata 1.x runs."""
    if config.shared_fs != "virtio-fs":
        return []
    words = virtiofsd.arguments("virtiofsd", "version 7.2.0", "/s", "/d", config.virtio_fs_cache, False)
    return [word.partition("=")[2] for word in words if word.startswith("cache=")]


def _architecture_facts(goarch: str) -> Answer:
    """What the driver knows of an architecture."""
    architecture = architecture_of(goarch)
    machine = machine_named(MACHINE_TYPES[goarch])
    driver = QemuHypervisor(Context("golden", "/nonexistent/run", "/nonexistent/state"))
    driver.config.hypervisor_machine_type = machine.name
    capabilities = driver.capabilities()
    plan = VmPlan("golden", "", driver.config, machine, "kvm", "", "", [])
    return Answer(
        {
            "caps_block_hotplug": capabilities.block_device_hotplug,
            "caps_multiqueue": capabilities.multi_queue,
            "cpu_model": cpu_model(plan),
            "default_machine": architecture.default_machine,
            "default_qemu_path": architecture.binaries[0],
            "max_vcpus_fn": architecture.max_vcpus,
            "supports_memory_hotplug": bool(machine.memory),
        }
    )


def run(given: dict[str, Any]) -> Answer:
    line = Fields(given)
    goarch = line.text("goarch", "amd64")
    if line.text("op") == "arch_facts":
        return _architecture_facts(goarch)
    with tempfile.TemporaryDirectory(prefix="kv-") as root:
        return _command_line(line, goarch, RecordedHost(root))


def _command_line(line: Fields, goarch: str, host: RecordedHost) -> Answer:
    architecture, facts = architecture_of(goarch), line.table("host")
    recorded, assets = config_from_go(line.values.get("config")), custom_assets(line.values.get("config"))
    files = facts.table("existing_files")
    host.set_memory(facts.number("mem_total_kb", 0, 0))
    for path, size in files.values.items():
        host.make(path, "dir" if size == "dir" else files.number(path))
    for path in (recorded.hypervisor_path, assets.get("hypervisor", "")):
        if path in files.values and files.values[path] != "dir":
            host.make_qemu(path)
    if facts.flag("default_qemu_binary_exists"):
        host.make_qemu(f"/usr/bin/qemu-system-{architecture.programs[0]}")
    if facts.flag("dev_shm_exists"):
        host.make("/dev/shm", "dir")
    with host.in_force():
        config = todays_config(recorded, assets, goarch, host, facts.number("num_cpu", 0, 0, 1 << 16))
        driver = prepared(config, host.context(line.text("sandbox_id")))
        devices = [device for device in map(device_of, line.tables("devices")) if device is not None]
        objects = [one for device in devices for one in _objects(device, driver.config)]
        argv = [host.recorded(word) for word in command_line(driver, devices, objects)]
    own = own_options(recorded)
    values = [line.text("sandbox_id"), line.items("devices"), [getattr(recorded, name) for name in COMMA_FIELDS]]
    commas = [text for text in texts_in([*values, assets]) if "," in text]
    return Answer(SameVm(recorded, argv, {"share_cache": _share_cache(driver.config)}, own, commas))


#: What of a configuration becomes a part of an option.
COMMA_FIELDS = ("memory_path", "entropy_source", "file_backed_mem_root_dir", "image_path")
