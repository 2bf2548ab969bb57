# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network interfaces in QEMU."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Collection

from ....errors import ConfigError, HostError, Unsupported
from ....host import network
from ....options.device_kinds.net import NetworkDevice
from ...base import Context
from ..vmm import Vmm
from .base import QemuDevice, Started
from .host_resources import HostResources
from .objects import Descriptors, QemuObject, Slot, vectors_of_others


class Net(QemuDevice[NetworkDevice]):
    """An interface: a tap, a macvtap, or QEMU's own network for a user without privileges."""

    def complete(self, context: Context, seed: str) -> None:
        net = self.record
        if not net.mac and net.kind != "macvtap":
            net = dataclasses.replace(net, mac=network.generated_mac(f"{seed}/{net.id}"))
        if net.kind == "tap" and not net.tap_name:
            net = dataclasses.replace(net, tap_name=network.tap_name(context.host_name, net.id))
        if net.kind == "macvtap" and not net.mac:
            net = dataclasses.replace(net, mac=_address_of(net.tap_name))
        self.record = net

    def check_host(self, own_socket: str, own: Collection[int]) -> None:
        net = self.record
        if net.vhost and self.config.disable_vhost_net:
            raise ConfigError("disable_vhost_net is set, and this interface has vhost", option="devices", wanted=net.id)
        self._check_interface(own)

    def _check_interface(self, own: Collection[int]) -> None:
        net = self.record
        if net.kind in ("tap", "macvtap"):
            network.check_name(net.tap_name)
        if net.kind == "tap" and not os.path.exists(network.TUN_DEVICE):
            raise HostError(f"the host has no {network.TUN_DEVICE}", option="devices", fix="Load the module tun.")
        if net.kind == "tap":
            network.check_tap(net.tap_name, own)
        if net.kind == "macvtap" and not network.exists(net.tap_name):
            raise HostError(
                "there is no such macvtap interface", option="devices", wanted=net.tap_name, fix=network.MAKE_MACVTAP
            )
        if net.bridge:
            network.check_bridge(net.bridge)
        if net.vhost and not os.path.exists(network.VHOST_NET_DEVICE):
            raise HostError(
                f"the host has no {network.VHOST_NET_DEVICE}",
                option="devices",
                fix="Load the module vhost_net, or say vhost: false.",
            )

    def open(self, vmm: Vmm, resources: HostResources, started: Started) -> None:
        net = self.record
        if net.kind not in ("tap", "macvtap"):
            return
        opener = network.open_tap if net.kind == "tap" else network.open_macvtap
        resources.tap = opener(net.tap_name, net.queues)
        network.bring_up(net.tap_name, net.mtu, net.bridge)
        if net.vhost:
            resources.vhost = network.open_vhost_net(net.queues)

    def objects(self, slot: Slot, descriptors: Descriptors | None = None) -> list[QemuObject]:
        net, descriptors = self.record, descriptors or Descriptors()
        netdev = f"net-{net.id}"
        if net.rx_rate_limit or net.tx_rate_limit:
            raise Unsupported(
                "QEMU cannot limit the rate of an interface",
                option="devices",
                wanted=net.id,
                fix="Limit its tap on the host (tc), or choose hypervisor firecracker.",
            )
        if net.kind == "user":
            backend = QemuObject("netdev", netdev, "user")
        elif net.kind in ("tap", "macvtap"):
            properties: dict[str, Any] = {"fds": ":".join(descriptors.tap)}
            if descriptors.vhost:
                properties.update({"vhost": True, "vhostfds": ":".join(descriptors.vhost)})
            else:
                properties["vhost"] = False
            backend = QemuObject("netdev", netdev, "tap", properties)
        else:
            raise Unsupported(
                f"the qemu driver has no network interface of kind {net.kind}", option="devices", wanted=net.id
            )
        front: dict[str, Any] = {"netdev": netdev, "mac": net.mac, **slot.properties()}
        if net.queues > 1:
            front["mq"] = True
            if slot.transport == "pci":
                front["vectors"] = 2 * net.queues + 2
        if descriptors.vhost:
            front.update(vectors_of_others(slot))
        if net.mtu:
            front["host_mtu"] = net.mtu
        return [backend, QemuObject("device", self.frontend_id, f"virtio-net-{slot.transport}", front)]


def _address_of(interface: str) -> str:
    try:
        with open(f"/sys/class/net/{interface}/address", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return ""
