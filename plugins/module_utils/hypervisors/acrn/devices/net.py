# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network interfaces in ACRN."""

from __future__ import annotations

import dataclasses
import os

from ....errors import Unsupported
from ....host import network
from ....options.device_kinds.net import NetworkDevice
from ..command_line import CommandLine, Dialect, plain
from ..vmm import Vmm
from .base import AcrnDevice


class Net(AcrnDevice[NetworkDevice]):
    """An interface: a tap or a macvtap."""

    def complete(self, vmm: Vmm) -> None:
        net, name = self.record, self.identity
        if net.kind == "tap":
            self.record = dataclasses.replace(
                net,
                mac=net.mac or network.generated_mac(f"{vmm.state.uuid}/{name}"),
                tap_name=net.tap_name or network.tap_name(vmm.context.host_name, name),
            )

    def check(self, vmm: Vmm) -> None:
        net = self.record
        if net.kind == "tap":
            network.check_name(net.tap_name)
        if net.queues > 1 or net.vhost or net.rx_rate_limit or net.tx_rate_limit:
            raise Unsupported(
                "ACRN has no queues, no vhost and no limits for interfaces", option="devices", wanted=self.identity
            )
        if net.bridge:
            network.check_bridge(net.bridge)

    def provide(self, vmm: Vmm) -> None:
        net = self.record
        if net.kind != "tap":
            return

        def announce(name: str) -> None:
            vmm.state.taps.append(name)
            vmm.context.checkpoint()

        network.provide_tap(net.tap_name, (os.geteuid(), os.getegid()), net.mtu, net.bridge, announce)

    def add_to(self, line: CommandLine, dialect: Dialect) -> None:
        net = self.record
        if net.kind not in ("tap", "macvtap"):
            super().add_to(line, dialect)
        # A macvtap interface has the address that the host gave it.
        address = f",mac={net.mac}" if net.kind == "tap" else ""
        prefix = dialect.tap if net.kind == "tap" else ""
        line.add(f"virtio-net,{prefix}{plain(net.tap_name or net.name)}{address}")
