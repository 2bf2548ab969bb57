# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""acrn-dm's command line and the disks that take a placeholder's place, in the words of ACRN up to 2.5."""

from __future__ import annotations

from typing import Any

from adapters.answer import Answer, Lost, attempt
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
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError, ConfigError, Unsupported
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.acrn import cmdline
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.acrn.kernel_params import kernel_params
from ansible_collections.kata.hypervisor.plugins.module_utils.params import kernel_params_string

#: What there is on the host that the vectors were made on.
FILES = ("/golden/bin/acrn-dm", "/golden/bin/acrnctl", "/golden/guest/vmlinuz", "/golden/guest/kata.img", "/golden/guest/kata-initrd.img")
NETWORKS = ("veth", "macvtap", "bridged_macvlan", "ipvlan", "tap", "physical")


def _device(given: dict[str, Any]) -> Device | None:
    """The device record of a line's device; None for one that the original passes over because it says nothing."""
    kind, fields = given["kind"], given["fields"]
    if kind == "socket":
        return SerialPort(fields["device_id"], fields["id"], fields["host_path"], fields["name"]) if fields.get("host_path") else None
    if kind == "block":
        return BlockDrive(fields["File"], id=fields["ID"], index=fields.get("Index", 0)) if fields.get("File") else None
    if kind == "veth" and fields.get("model") != "macvtap":
        return NetworkDevice("tap", tap_name=fields["tapiface_name"], mac=fields["tapiface_mac"])
    if kind == "veth":
        return NetworkDevice("macvtap", tap_name=fields["tapiface_name"])
    if kind == "macvtap":
        return NetworkDevice("macvtap", tap_name=fields["name"])
    if kind in NETWORKS:
        return NetworkDevice(kind, name=kind)
    if kind == "volume":
        return Volume(fields["mount_tag"], fields["host_path"])
    if kind in ("vsock", "vsock_hybrid"):
        return Vsock(3)
    if kind == "vhost_user":
        return VhostUserDevice(fields["DevID"], fields["SocketPath"], fields["Type"])
    return VfioDevice("vfio")


def run(given: dict[str, Any]) -> Answer:
    config = config_from_go(given["config"])
    config.valid()
    if not config.image_path:
        raise ConfigError("ACRN boots from an image", option="image_path")
    control = config.hypervisor_ctl_path or "/usr/bin/acrnctl"
    for path in (config.image_path, config.hypervisor_path or "/usr/bin/acrn-dm", control):
        if path not in FILES:
            raise AssetError("there is no such file", wanted=path)
    name = cmdline.vm_name(config, given["sandbox_id"])
    console = f"/run/vc/vm/{given['sandbox_id']}/console.sock"
    # What ACRN does not have is refused, where the original passes over it; the rest of the line is compared all the same.
    devices, refusals = [], []
    for device in map(_device, given["devices"]):
        refusal = attempt(cmdline.command_line, config, name, console, [device])[1] if device else None
        if refusal and isinstance(refusal.error, Unsupported):
            refusals.append(refusal.error)
        elif device:
            devices.append(device)
    line = cmdline.command_line(config, name, console, devices)
    return Answer(
        error=refusals[0] if refusals else None,
        output={
            "argv": line.words,
            "blk_index_to_slot": [line.slots[index] for index in range(cmdline.PLACEHOLDERS + 1)],
            "block_index_after": Lost(),
            "ctl_path_resolved": control,
            "hotplug": [_plug(line, name, drive) for drive in given["hotplug_block_drives"]],
            "kernel_params": kernel_params_string(kernel_params(config)),
            "path": config.hypervisor_path or "/usr/bin/acrn-dm",
            "phase": "launch",
            "pid": Lost(),
            "stderr": "",
        },
    )


def _plug(line: cmdline.CommandLine, name: str, drive: dict[str, Any]) -> dict[str, Any]:
    def words() -> list[str]:
        if not drive["File"] or not 0 <= drive["Index"] < cmdline.PLACEHOLDERS:
            raise ConfigError("this disk cannot take a placeholder's place", wanted=drive["ID"])
        return cmdline.rescan(name, line.slots[drive["Index"]], drive["File"])

    argv, error = attempt(words)
    return {"ctl_argv": argv, "data": None, "drive_after": Lost(), "error": error}
