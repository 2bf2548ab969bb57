# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network interfaces in Firecracker, each a tap."""

from __future__ import annotations

import dataclasses
from typing import Any, Collection

from ....errors import ConfigError, Unsupported
from ....host import network
from ....options.config import HypervisorConfig
from ....options.device_kinds.base import RateLimit
from ....options.device_kinds.net import NetworkDevice
from ..api import dialect
from ..api.endpoints import Version
from ..host_resources import HostResources
from ..requests import Request, rate_limiter
from ..state import FirecrackerState, Jail
from ..vmm import Vmm
from .base import FirecrackerDevice


class Net(FirecrackerDevice[NetworkDevice]):
    """An interface."""

    by_pci = True
    on_host = ("tap_name", "bridge")
    live = ("rx_rate_limit", "tx_rate_limit")

    def complete(self, owner: str, state: FirecrackerState) -> None:
        net, name = self.record, self.identity
        # The VM's UUID makes addresses unique; one that the guest has already (a clone) stays.
        known = str(state.devices.get(name, {}).get("mac", ""))
        self.record = dataclasses.replace(
            net,
            mac=net.mac or known or network.generated_mac(f"{state.uuid}/{name}"),
            tap_name=net.tap_name or network.tap_name(owner, name),
        )

    def check(self, config: HypervisorConfig, version: Version, jail: Jail | None, sockets: Collection[str]) -> None:
        net, name = self.record, self.identity
        if net.kind != "tap":
            raise Unsupported(f"Firecracker's interfaces are taps, not {net.kind}", option="devices", wanted=name)
        if net.queues > 1 or net.vhost:
            raise Unsupported("Firecracker has no queues and no vhost for interfaces", option="devices", wanted=name)
        network.check_name(net.tap_name)
        if net.mtu:
            dialect.require(version, "mtu", "devices", net.mtu)
        if config.network_namespace:
            if net.bridge:
                raise ConfigError(
                    "bridges in another network namespace are the user's affair", option="devices", wanted=net.bridge
                )
        elif net.bridge:
            network.check_bridge(net.bridge)

    def provide(self, host: HostResources) -> None:
        host.provide_tap(self.record)

    def withdraw(self, host: HostResources) -> None:
        host.withdraw_tap(self.record.tap_name)

    def requests(self, version: Version, path: str = "") -> list[Request]:
        net, name = self.record, self.api_id
        body: dict[str, Any] = {"iface_id": name, "guest_mac": net.mac, "host_dev_name": net.tap_name}
        if net.mtu:
            body["mtu"] = net.mtu
        body.update(self._limits(only_given=True))
        return [Request(f"/network-interfaces/{name}", body)]

    def update(self, vmm: Vmm, host: HostResources) -> None:
        vmm.api().patch(f"/network-interfaces/{self.api_id}", {"iface_id": self.api_id, **self._limits()})

    def _limits(self, only_given: bool = False) -> dict[str, Any]:
        """The limits of the interface; what has none is given an unlimited one, unless only the given ones are wanted."""
        limits = {"rx_rate_limiter": self.record.rx_rate_limit, "tx_rate_limiter": self.record.tx_rate_limit}
        return {name: rate_limiter(limit or RateLimit()) for name, limit in limits.items() if limit or not only_given}

    def network_overrides(self, version: Version, saved: dict[str, Any]) -> list[dict[str, str]]:
        tap = self.record.tap_name
        if saved.get("tap_name", tap) == tap:
            return []
        dialect.require(version, "network_overrides", "devices", self.identity)
        return [{"iface_id": self.api_id, "host_dev_name": tap}]

    def check_template(self) -> None:
        if self.record.bridge:
            raise Unsupported(
                "the guests of all clones have the same MAC address, and cannot share a bridge",
                option="devices",
                wanted=self.identity,
                fix="Leave bridge out, and put the taps of clones into network namespaces or bridges of their own.",
            )

    def inherit(self, template: NetworkDevice, state: FirecrackerState) -> None:
        if self.record.mac == network.generated_mac(f"{state.uuid}/{self.identity}"):
            # Nobody asked for one, and the guest knows this one.
            self.record = dataclasses.replace(self.record, mac=template.mac)

    def as_clones_own(self, owner: str) -> NetworkDevice:
        return dataclasses.replace(self.record, tap_name=network.tap_name(owner, self.identity))
