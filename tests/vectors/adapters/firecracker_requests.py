# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The requests that make a VM, in the words of Firecracker up to 0.22, with the original's paths and its eight placeholders."""

from __future__ import annotations

from typing import Any

from adapters.answer import Answer, Failed, Lost
from adapters.go_config import config_from_go
from ansible_collections.kata.hypervisor.plugins.module_utils.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.devices import BlockDrive, Device, NetworkDevice
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import (
    AssetError,
    HypervisorError,
    StateError,
    Unsupported,
    VmmError,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker import device_ids, resources
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.dialect import LEGACY
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.kernel_params import (
    classic_kernel_params,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.resources import Request
from ansible_collections.kata.hypervisor.plugins.module_utils.params import kernel_params_string

POOL = 8


class Play:
    """One line, played step by step. Files are brought to the original's places; each bringing is a step of its log."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.config: HypervisorConfig = config_from_go(given["config"])
        self.devices: list[Device] = []
        self.running = False
        self.log: list[Any] = []

    def path(self, name: str) -> str:
        return f"/{name}" if self.config.jailer_path else f"{{JAILER_ROOT}}/{name}"

    def bring(self, name: str) -> str:
        self.log.append(Lost())
        return self.path(name)

    def send(self, method: str, request: Request) -> None:
        """A request, with the answer that the line's server gives."""
        status = self.given["server"]["fail"].get(f"{method} {request.path}", 200 if method == "GET" else 204)
        entry: dict[str, Any] = {"kind": "http", "method": method, "path": request.path, "status": status, "headers": Lost()}
        self.log.append({**entry, "body": request.body} if method != "GET" else entry)
        if status >= 400:
            raise VmmError("refused")

    def step(self, operation: dict[str, Any]) -> dict[str, Any]:
        self.log = []
        error = None
        try:
            getattr(self, operation["op"])(**operation["args"])
        except HypervisorError as problem:
            error = Failed(problem)
        inside = dict.fromkeys(("result", "state_after", "pending_devices", "pid_set"), Lost())
        return {**inside, "error": error, "log": self.log, "process_alive": self.running}

    def addDevice(self, device: dict[str, Any]) -> None:
        if self.running:
            raise StateError("the VM runs already")
        fields = device["fields"]
        if device["kind"] == "block":
            if fields.get("File") in (None, "/golden/nofile"):
                raise AssetError("there is no such disk")
            self.devices.append(BlockDrive(fields["File"], id=fields["ID"]))
        else:
            self.devices.append(NetworkDevice("tap", name=fields["virt_name"], mac=fields["tapiface_mac"], tap_name=fields["tapiface_name"]))

    def startSandbox(self, timeout: int) -> None:
        config = self.config
        config.valid()
        if timeout < 0:
            raise StateError("no time")
        if config.hypervisor_path == "/golden/bin/none":
            raise AssetError("there is no such program")
        self.send("GET", Request("/", {}))
        self.send("PUT", resources.machine_config(config, LEGACY))
        initrd = ""
        kernel = self.bring("vmlinux")
        if config.kernel_path == "/golden/guest/missing":
            raise AssetError("there is no such file")
        if config.initrd_path:
            initrd = self.bring("initrd")
        arguments = kernel_params_string(classic_kernel_params(config))
        self.send("PUT", resources.boot_source(kernel, initrd, arguments))
        if not initrd:
            self.send("PUT", resources.root_drive(self.bring("rootfs")))
        for number in range(POOL):
            self.send("PUT", resources.placeholder_drive(number, self.bring(f"{device_ids.PLACEHOLDER}{number}")))
        for device in self.devices:
            self.send("PUT", resources.device(device, self.bring(device.id) if isinstance(device, BlockDrive) else ""))
        self.send("PUT", Request("/actions", {"action_type": "InstanceStart"}))
        self.running = True
        self.send("GET", Request("/", {}))

    def check(self) -> None:
        if not self.running:
            raise StateError("the VM is off")

    def hotplugAddDevice(self, device_type: int) -> None:
        raise Unsupported(f"no hotplug for kind {device_type}")


def run(given: dict[str, Any]) -> Answer:
    play = Play(given)
    lost = ("gid", "uid", "hypervisor_json", "jailer_root", "socket_path", "vm_path")
    answer = {**{name: Lost() for name in lost}, "steps": [play.step(operation) for operation in given["ops"]]}
    if play.config.hypervisor_path != "/golden/bin/none":
        answer["process_argv"] = [play.config.hypervisor_path, "--id", given["sandbox_id"], "--api-sock", play.path("api.socket")]
    return Answer(answer)
