# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources of randomness in Firecracker."""

from __future__ import annotations

from typing import Collection

from ....options.config import HypervisorConfig
from ....options.device_kinds.entropy import EntropyDevice
from ..api import dialect
from ..api.endpoints import Version
from ..requests import Request, rate_limiter
from ..state import Jail
from .base import FirecrackerDevice


class Entropy(FirecrackerDevice[EntropyDevice]):
    """A source of randomness."""

    single = "entropy"
    words = "entropy device"

    def asked_for_by(self, config: HypervisorConfig) -> bool:
        return config.entropy_device

    def check(self, config: HypervisorConfig, version: Version, jail: Jail | None, sockets: Collection[str]) -> None:
        dialect.require_endpoint(version, "PUT", "/entropy", "entropy device", "devices", self.identity)

    def requests(self, version: Version, path: str = "") -> list[Request]:
        limit = self.record.rate_limit
        return [Request("/entropy", {"rate_limiter": rate_limiter(limit)} if limit else {})]
