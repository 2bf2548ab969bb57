# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Vsocks in Firecracker, whose host end is a socket that Firecracker makes."""

from __future__ import annotations

import dataclasses
from typing import Collection

from ....errors import ConfigError
from ....host.sockets import check_socket_place
from ....options.config import HypervisorConfig
from ....options.device_kinds.vsock import Vsock
from ....records.layout import socket_path
from ..api import dialect
from ..api.endpoints import Version
from ..host_resources import HostResources
from ..requests import Request
from ..state import Jail
from .base import FirecrackerDevice


class HybridVsock(FirecrackerDevice[Vsock]):
    """A vsock."""

    single = "vsock"
    words = "vsock"
    on_host = ("uds_path",)

    def asked_for_by(self, config: HypervisorConfig) -> bool:
        return config.use_vsock

    def check(self, config: HypervisorConfig, version: Version, jail: Jail | None, sockets: Collection[str]) -> None:
        path = self.record.uds_path
        dialect.require_endpoint(version, "PUT", "/vsock", "vsock", "devices", self.identity)
        if jail is not None and path:
            raise ConfigError(
                "a vsock's socket lies in the jail", option="devices", wanted=path, fix="Leave its path out."
            )
        if jail is None and path:
            socket_path(path)
            check_socket_place(path, path in sockets)

    def provide(self, host: HostResources) -> None:
        super().provide(host)
        self.path(host)

    def path(self, host: HostResources) -> str:
        return host.provide_socket(self.record.uds_path or f"vsock_{self.api_id}.sock")

    def requests(self, version: Version, path: str = "") -> list[Request]:
        return [Request("/vsock", {"guest_cid": self.record.context_id, "uds_path": path})]

    def vsock_path(self, host: HostResources) -> str:
        return self.path(host)

    def as_clones_own(self, owner: str) -> Vsock:
        return dataclasses.replace(self.record, uds_path="")
