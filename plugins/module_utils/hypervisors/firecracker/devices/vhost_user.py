# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks in Firecracker that another process serves."""

from __future__ import annotations

from typing import Collection

from ....errors import Unsupported
from ....host.sockets import check_served
from ....options.config import HypervisorConfig
from ....options.device_kinds.vhost_user import VhostUserDevice
from ..api import dialect
from ..api.endpoints import Version
from ..host_resources import HostResources
from ..requests import Request
from ..state import Jail
from .base import FirecrackerDevice


class VhostUser(FirecrackerDevice[VhostUserDevice]):
    """A disk; Firecracker has no other device of another process."""

    def check(self, config: HypervisorConfig, version: Version, jail: Jail | None, sockets: Collection[str]) -> None:
        if self.record.type != "vhost-user-blk-pci":
            raise self.unknown(self.record.type)
        dialect.require(version, "vhost_user_block", "devices", self.identity)
        if jail is not None:
            raise Unsupported("a vhost-user disk cannot be brought into a jail", option="devices", wanted=self.identity)
        check_served(self.record.socket_path)

    def path(self, host: HostResources) -> str:
        return self.record.socket_path

    def requests(self, version: Version, path: str = "") -> list[Request]:
        body = {"drive_id": self.api_id, "is_root_device": False, "socket": path}
        return [Request(f"/drives/{self.api_id}", body)]

    def check_template(self) -> None:
        raise self.only_for_one()
