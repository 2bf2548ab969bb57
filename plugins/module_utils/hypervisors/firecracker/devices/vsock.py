# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Vsocks in Firecracker, whose host end is a socket that Firecracker makes."""

from __future__ import annotations

import dataclasses
from typing import Collection, Iterable

from ....errors import ConfigError
from ....guest.ways import VSOCK, GuestWays, Way
from ....host.sockets import check_socket_place
from ....options.config import HypervisorConfig
from ....options.device_kinds.base import Device
from ....options.device_kinds.vsock import Vsock
from ....records.layout import socket_path
from ..api import dialect
from ..api.endpoints import Version, has
from ..host_resources import HostResources
from ..requests import Request
from ..state import FirecrackerState, Jail
from .base import FirecrackerDevice

#: The vsock that a VM has for its guest's agent where the task lists none: its socket, and its CID. Each Firecracker has CIDs of its own.
OWN_SOCKET, OWN_CID = "vsock.sock", 3
#: Ports in the guest: of its agent, and for data. Only root of the guest can listen at one below 1024 (Linux' LAST_RESERVED_PORT), so no other user there
#: gets the commands and their input.
AGENT_PORT, DATA_PORT = 1022, 1023


def has_own(config: HypervisorConfig, devices: Iterable[Device], version: Version, jailed: bool) -> bool:
    """Whether a VM that boots gets a vsock that is none of the task's devices.

    Outside of a jail, all clones of a template would have its socket, unless this version can give them others.
    """
    can = has(version, "PUT", "/vsock") and (
        jailed or not config.boot_to_be_template or dialect.can(version, "vsock_override")
    )
    return config.use_vsock and can and not any(isinstance(device, Vsock) for device in devices)


def kept_own(state: FirecrackerState) -> bool:
    """Whether a saved VM has such a vsock."""
    return bool(state.vsock) and not any(record.get("class") == Vsock.__name__ for record in state.devices.values())


def ways_through(socket: str) -> GuestWays:
    """The ports of a guest that has a vsock.

    :param socket: its socket on the host, empty for none
    """
    if not socket:
        return GuestWays()
    return GuestWays(Way(VSOCK, socket, str(AGENT_PORT)), (Way(VSOCK, socket, str(DATA_PORT)),))


class HybridVsock(FirecrackerDevice[Vsock]):
    """A vsock."""

    single = "vsock"
    words = "vsock"
    on_host = ("uds_path",)

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
        # Before 1.0, it must have a name.
        named = {} if dialect.dialect_for(version) is dialect.V1 else {"vsock_id": self.api_id}
        return [Request("/vsock", {**named, "guest_cid": self.record.context_id, "uds_path": path})]

    def vsock_path(self, host: HostResources) -> str:
        return self.path(host)

    def as_clones_own(self, owner: str) -> Vsock:
        return dataclasses.replace(self.record, uds_path="")
