# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""acrn-dm's command line and the disks that take a placeholder's place, in the words of ACRN up to 2.5."""

from __future__ import annotations

from typing import Any

from adapters.answer import Answer, Lost, attempt
from adapters.fields import Fields
from adapters.go_config import config_from_go
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import (
    AssetError,
    ConfigError,
    StateError,
    Unsupported,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.acrn import command_line
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.acrn.devices.kinds import device_for
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.acrn.kernel_params import kernel_params
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.acrn.vmm import CONSOLE_SOCKET
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.base import Device
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.block import BlockDrive
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.fs import Volume
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.net import NetworkDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.serial import SerialPort
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vfio import VfioDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vhost_user import VhostUserDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vsock import Vsock
from ansible_collections.kata.hypervisor.plugins.module_utils.options.kernel_params import kernel_params_string
from ansible_collections.kata.hypervisor.plugins.module_utils.records.layout import socket_path

#: What there is on the host that the vectors were made on.
FILES = (
    "/golden/bin/acrn-dm",
    "/golden/bin/acrnctl",
    "/golden/guest/vmlinuz",
    "/golden/guest/kata.img",
    "/golden/guest/kata-initrd.img",
)
NETWORKS = ("veth", "macvtap", "bridged_macvlan", "ipvlan", "tap", "physical")


def _device(given: Fields) -> Device | None:
    """The device record of a line's device; None for one that Kata 1.x passes over because it says nothing."""
    kind, fields = given.text("kind"), given.table("fields")
    if kind == "socket":
        path = fields.text("host_path")
        return SerialPort(fields.text("device_id"), fields.text("id"), path, fields.text("name")) if path else None
    if kind == "block":
        path = fields.text("File")
        return BlockDrive(path, id=fields.text("ID"), index=fields.number("Index")) if path else None
    if kind == "veth" and fields.text("model") != "macvtap":
        return NetworkDevice("tap", tap_name=fields.text("tapiface_name"), mac=fields.text("tapiface_mac"))
    if kind == "veth":
        return NetworkDevice("macvtap", tap_name=fields.text("tapiface_name"))
    if kind == "macvtap":
        return NetworkDevice("macvtap", tap_name=fields.text("name"))
    if kind in NETWORKS:
        return NetworkDevice(kind, name=kind)
    if kind == "volume":
        return Volume(fields.text("mount_tag"), fields.text("host_path"))
    if kind in ("vsock", "vsock_hybrid"):
        return Vsock(3)
    if kind.startswith("vhost_user"):
        return VhostUserDevice(fields.text("DevID"), fields.text("SocketPath"), fields.text("Type"))
    if kind == "vfio":
        return VfioDevice("vfio")
    # Kata 1.x has a record for every other kind too, and passes over it; the port has none.
    raise Unsupported("ACRN has no such device", option="devices", wanted=kind)


def run(given: dict[str, Any]) -> Answer:
    given_line = Fields(given)
    config = config_from_go(given.get("config"))
    config.valid()
    if not config.image_path:
        raise ConfigError("ACRN boots from an image", option="image_path")
    control = config.hypervisor_ctl_path or "/usr/bin/acrnctl"
    for path in (config.image_path, config.hypervisor_path or "/usr/bin/acrn-dm", control):
        if path not in FILES:
            raise AssetError("the file does not exist", wanted=path)
    if "sandbox_registered" in given_line and not given_line.flag("sandbox_registered"):
        raise StateError("the sandbox is not registered, so that its image has no index")
    sandbox = given_line.text("sandbox_id")
    name = command_line.vm_name(config, sandbox)
    console = socket_path("/run/vc/vm", sandbox, CONSOLE_SOCKET)
    # What ACRN does not have is refused, where Kata 1.x passes over it; the rest of the line is compared all the same.
    devices, refusals = [], []
    for one in given_line.tables("devices"):
        device, unknown = attempt(_device, one)
        if unknown:
            refusals.append(unknown.error)
            continue
        refusal = attempt(command_line.command_line, config, name, console, [device_for(device)])[1] if device else None
        if refusal and isinstance(refusal.error, Unsupported):
            refusals.append(refusal.error)
        elif device:
            devices.append(device_for(device))
    line = command_line.command_line(config, name, console, devices)
    return Answer(
        error=refusals[0] if refusals else None,
        output={
            "argv": line.words,
            "blk_index_to_slot": [line.slots[index] for index in range(command_line.PLACEHOLDERS + 1)],
            "block_index_after": Lost(),
            "ctl_path_resolved": control,
            "hotplug": [_plug(line, name, drive) for drive in given_line.tables("hotplug_block_drives")],
            "kernel_params": kernel_params_string(kernel_params(config)),
            "path": config.hypervisor_path or "/usr/bin/acrn-dm",
            "phase": "launch",
            "pid": Lost(),
            "stderr": "",
        },
    )


def _plug(line: command_line.CommandLine, name: str, drive: Fields) -> dict[str, Any]:
    def words() -> list[str]:
        path, index = drive.text("File"), drive.number("Index")
        if not path or not 0 <= index < command_line.PLACEHOLDERS:
            raise ConfigError("this disk cannot take a placeholder's place", wanted=drive.text("ID"))
        return command_line.rescan(name, line.slots[index], path)

    argv, error = attempt(words)
    return {"ctl_argv": argv, "data": None, "drive_after": Lost(), "error": error}
