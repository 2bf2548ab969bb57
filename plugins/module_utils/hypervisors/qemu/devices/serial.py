# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtio-serial ports in QEMU."""

from __future__ import annotations

import dataclasses
import os
from typing import Collection

from ....host.sockets import check_socket_place, listening_socket
from ....options.device_kinds.serial import SerialPort
from ....records.layout import socket_path
from ...base import Context
from ..vmm import Vmm
from .base import QemuDevice, Started
from .host_resources import HostResources
from .objects import Descriptors, QemuObject, Slot


class Serial(QemuDevice[SerialPort]):
    """A port, whose host side is a socket that this sandbox makes."""

    @property
    def needs_slot(self) -> bool:
        return False  # Ports sit on a controller of their own.

    def complete(self, context: Context, seed: str) -> None:
        if not self.record.host_path:
            path = os.path.join(context.run_dir, f"port-{self.record.device_id}.sock")
            self.record = dataclasses.replace(self.record, host_path=path)

    def check_host(self, own_socket: str, own: Collection[int]) -> None:
        socket_path(self.record.host_path)
        check_socket_place(self.record.host_path, self.record.host_path == own_socket)

    def open(self, vmm: Vmm, resources: HostResources, started: Started) -> None:
        path = self.record.host_path
        ours = vmm.own_socket(self.identity) == path
        # What is not this sandbox's is refused before the path is written down as its own.
        check_socket_place(path, ours)
        vmm.state.sockets[self.identity] = path
        vmm.context.checkpoint()
        resources.listener = [listening_socket(path, ours, "devices").detach()]

    def objects(self, slot: Slot, descriptors: Descriptors | None = None) -> list[QemuObject]:
        port, descriptors = self.record, descriptors or Descriptors()
        chardev = f"char-{port.device_id}"
        front = {"bus": "serial0.0", "chardev": chardev, "name": port.name or port.device_id}
        return [
            QemuObject("chardev", chardev, "socket", {"fd": descriptors.listener, "server": True, "wait": False}),
            QemuObject("device", self.frontend_id, "virtserialport", front),
        ]
