# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Balloons in Firecracker."""

from __future__ import annotations

from typing import Any, Collection

from ....errors import ConfigError
from ....options.config import HypervisorConfig
from ....options.device_kinds.balloon import Balloon
from .. import memory
from ..api import dialect
from ..api.endpoints import Version
from ..host_resources import HostResources
from ..requests import Request
from ..state import Jail
from ..vmm import Vmm
from .base import FirecrackerDevice


class MemoryBalloon(FirecrackerDevice[Balloon]):
    """A balloon."""

    single = "balloon"
    words = "balloon"
    live = ("size_mb", "stats_seconds")

    def check(self, config: HypervisorConfig, version: Version, jail: Jail | None, sockets: Collection[str]) -> None:
        balloon = self.record
        dialect.require_endpoint(version, "PUT", "/balloon", "balloon", "devices", balloon.id)
        if balloon.free_page_hinting or balloon.free_page_reporting:
            dialect.require(version, "page_hints", "devices", balloon.id)
        if balloon.size_mb > config.memory_size:
            raise ConfigError(
                f"a balloon cannot hold more than the {config.memory_size} MiB that the VM boots with",
                option="size_mb",
                wanted=balloon.size_mb,
            )

    def requests(self, version: Version, path: str = "") -> list[Request]:
        balloon = self.record
        body: dict[str, Any] = {
            dialect.balloon_word(version): balloon.size_mb,
            "deflate_on_oom": balloon.deflate_on_oom,
            "stats_polling_interval_s": balloon.stats_seconds,
        }
        if dialect.can(version, "page_hints"):
            body["free_page_hinting"] = balloon.free_page_hinting
            body["free_page_reporting"] = balloon.free_page_reporting
        return [Request("/balloon", body)]

    def update(self, vmm: Vmm, host: HostResources) -> None:
        memory.resize_balloon(vmm, self.record)
