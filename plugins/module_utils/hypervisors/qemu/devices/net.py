# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network interfaces in QEMU."""

from __future__ import annotations

import dataclasses
import os
import re
from typing import Any, Collection

from ....errors import ConfigError, HostError, Unsupported, VmmError
from ....host import network
from ....options.device_kinds.net import NetworkDevice
from ....options.network_options import parse_port
from ...base import Context
from ..qmp import QmpClient
from ..vmm import Vmm
from .base import QemuDevice, Started
from .host_resources import HostResources
from .objects import Descriptors, QemuObject, Slot, vectors_of_others


class Net(QemuDevice[NetworkDevice]):
    """An interface: a tap, a macvtap, or QEMU's own network for a user without privileges."""

    can_update = True

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
            user: dict[str, Any] = {"hostfwd": [{"str": rule} for rule in _rules(net.forwards)]} if net.forwards else {}
            if net.offline:
                user["restrict"] = True
            backend = QemuObject("netdev", netdev, "user", user)
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

    def update(self, qmp: QmpClient) -> None:
        """Change the ports of the host that lead to the guest. QMP has no command for them, HMP has (hostfwd_add, hostfwd_remove).

        :raises VmmError: QEMU refused
        """
        netdev = f"net-{self.record.id}"
        wanted, known = set(_rules(self.record.forwards)), set(_forwarded(_monitor(qmp, "info usernet"), netdev))
        for rule in sorted(known - wanted):
            _monitor(qmp, f"hostfwd_remove {netdev} {rule.rpartition('-')[0]}")
        for rule in sorted(wanted - known):
            answer = _monitor(qmp, f"hostfwd_add {netdev} {rule}")
            if answer.strip():
                raise VmmError("the port cannot be published", option="ports", wanted=rule, answer=answer.strip())


def _rules(forwards: list[str]) -> list[str]:
    """QEMU's rules of published ports. Without an address, a port is published on the loopback interface only."""
    ports = map(parse_port, forwards)
    return [f"{port.protocol}:{port.of_vmm.address}:{port.host_port}-:{port.guest_port}" for port in ports]


def _monitor(qmp: QmpClient, command: str) -> str:
    return str(qmp.execute("human-monitor-command", {"command-line": command}))


#: A line of `info usernet`: protocol, descriptor, the host's address and port, the guest's address and port.
_FORWARD = re.compile(r"(TCP|UDP)\[HOST_FORWARD\]\s+\d+\s+([0-9.*]+)\s+(\d+)\s+[0-9.]+\s+(\d+)")
_USER_NET = re.compile(r"Hub -?\d+ \(([^)]*)\):")


def _forwarded(text: str, netdev: str) -> list[str]:
    """The rules that QEMU has, from the text of `info usernet`."""
    rules, inside = [], False
    for line in text.splitlines():
        header = _USER_NET.search(line)
        if header:
            inside = header[1] == netdev
        found = _FORWARD.search(line) if inside else None
        if found:
            protocol, address, host_port, guest_port = found.groups()
            address = "0.0.0.0" if address == "*" else address  # noqa: S104 - it is read, not bound
            rules.append(f"{protocol.lower()}:{address}:{host_port}-:{guest_port}")
    return rules


def _address_of(interface: str) -> str:
    try:
        with open(f"/sys/class/net/{interface}/address", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return ""
