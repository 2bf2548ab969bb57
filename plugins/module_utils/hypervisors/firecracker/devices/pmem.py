# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Persistent memory in Firecracker."""

from __future__ import annotations

from typing import Any, Collection

from ....options.config import HypervisorConfig
from ....options.device_kinds.base import RateLimit
from ....options.device_kinds.pmem import PmemDrive
from ..api import dialect
from ..api.endpoints import Version
from ..host_resources import HostResources
from ..requests import Request, rate_limiter
from ..state import Jail
from ..vmm import Vmm
from .disks import FileDevice


class Pmem(FileDevice[PmemDrive]):
    """A file that is the guest's persistent memory."""

    live = ("rate_limit",)

    def check(self, config: HypervisorConfig, version: Version, jail: Jail | None, sockets: Collection[str]) -> None:
        dialect.require_endpoint(version, "PUT", "/pmem/x", "persistent memory", "devices", self.identity)
        if self.record.rate_limit:
            dialect.require(version, "pmem_limit", "devices", self.identity)
        self.check_file(jail)

    def requests(self, version: Version, path: str = "") -> list[Request]:
        record, name = self.record, self.api_id
        body: dict[str, Any] = {"id": name, "path_on_host": path, "root_device": False, "read_only": record.read_only}
        if record.rate_limit:
            body["rate_limiter"] = rate_limiter(record.rate_limit)
        return [Request(f"/pmem/{name}", body)]

    def update(self, vmm: Vmm, host: HostResources) -> None:
        words = "change of limits of persistent memory"
        dialect.require_endpoint(vmm.version, "PATCH", "/pmem/x", words, "devices", self.identity)
        limits = rate_limiter(self.record.rate_limit or RateLimit())
        vmm.api().patch(f"/pmem/{self.api_id}", {"id": self.api_id, "rate_limiter": limits})

    @property
    def file_keeps_time(self) -> bool:
        # The kernel writes what is mapped, and its time, when it likes.
        return self.record.read_only
