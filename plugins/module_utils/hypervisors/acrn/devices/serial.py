# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serial ports in ACRN, whose host side is a socket that acrn-dm makes."""

from __future__ import annotations

import dataclasses

from ....host.sockets import check_socket_place
from ....options.device_kinds.serial import SerialPort
from ....records.layout import socket_path
from ..command_line import CommandLine, Dialect, plain
from ..vmm import Vmm
from .base import AcrnDevice


class Serial(AcrnDevice[SerialPort]):
    """A port."""

    @property
    def socket(self) -> str:
        return self.record.host_path

    def _own_path(self, vmm: Vmm) -> str:
        return vmm.context.run_path(f"port-{self.identity}.sock")

    def complete(self, vmm: Vmm) -> None:
        if not self.record.host_path:
            self.record = dataclasses.replace(self.record, host_path=self._own_path(vmm))

    def check(self, vmm: Vmm) -> None:
        socket_path(self.socket)
        check_socket_place(self.socket, self.socket in (*vmm.state.sockets, self._own_path(vmm)))

    def add_to(self, line: CommandLine, dialect: Dialect) -> None:
        port = self.record
        line.add(f"virtio-console,socket:{plain(port.name)}={plain(port.host_path)}{dialect.console_suffix}")
