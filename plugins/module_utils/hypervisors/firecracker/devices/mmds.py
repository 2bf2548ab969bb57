# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Firecracker's metadata service (MMDS)."""

from __future__ import annotations

import json
from typing import Any, Collection

from ....errors import ConfigError, VmmError
from ....options.config import HypervisorConfig
from ....options.device_kinds.mmds import MetadataService
from ..api import dialect
from ..api.client import ApiClient
from ..api.endpoints import Version
from ..device_ids import api_id
from ..host_resources import HostResources
from ..requests import LARGEST_REQUEST, Request
from ..state import Jail
from ..vmm import Vmm
from .base import FirecrackerDevice


class Mmds(FirecrackerDevice[MetadataService]):
    """What the guest can read at an address of its own."""

    single = "mmds-config"
    words = "metadata service"
    comes_last = True
    on_host = ("contents",)

    def check(self, config: HypervisorConfig, version: Version, jail: Jail | None, sockets: Collection[str]) -> None:
        dialect.require(version, "metadata", "devices", self.record.id)
        if self.record.imds_compat:
            dialect.require(version, "imds_compat", "imds_compat", True)
        size, most = len(json.dumps(self.record.contents)), config.mmds_size_limit or LARGEST_REQUEST
        if size > most:
            raise ConfigError(
                f"the metadata service keeps {most} bytes, and these are {size}",
                option="contents",
                wanted=f"{size} bytes",
                fix="Raise mmds_size_limit, which needs a restart, or give less.",
            )

    def requests(self, version: Version, path: str = "") -> list[Request]:
        service = self.record
        body: dict[str, Any] = {
            "network_interfaces": [api_id(name) for name in service.interfaces],
            "version": service.version,
        }
        if service.address:
            body["ipv4_address"] = service.address
        if service.imds_compat:
            body["imds_compat"] = True
        return [Request("/mmds/config", body), Request("/mmds", service.contents)]

    def update(self, vmm: Vmm, host: HostResources) -> None:
        self.update_contents(vmm.api())

    def update_contents(self, api: ApiClient) -> None:
        """Bring what the metadata service has to what it shall have, by what is different alone, and read it back."""
        contents = self.record.contents
        patch = difference(api.get("/mmds"), contents)
        if patch:
            api.patch("/mmds", patch)
        now = api.get("/mmds") or {}
        if now != contents:
            raise VmmError(
                "the metadata service tells something else", option="contents", wanted=contents, answer=str(now)
            )

    def after_load(self, api: ApiClient) -> None:
        api.put("/mmds", self.record.contents)


def difference(old: Any, new: dict[str, Any]) -> dict[str, Any]:
    """What turns one JSON object into another when it is merged into it (RFC 7396); names to remove have null."""
    old = old if isinstance(old, dict) else {}
    patch: dict[str, Any] = dict.fromkeys((name for name in old if name not in new), None)
    for name, value in new.items():
        if name not in old or old[name] != value:
            patch[name] = (
                difference(old[name], value) if isinstance(value, dict) and isinstance(old.get(name), dict) else value
            )
    return patch
