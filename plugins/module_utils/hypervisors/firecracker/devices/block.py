# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks in Firecracker: plugged by PCI, or put into the place of an empty disk that the VM has from its start."""

from __future__ import annotations

import contextlib
from typing import Any, Collection

from ....errors import HypervisorError, StateError, Unsupported, VmmError
from ....host import block_devices
from ....options.config import HypervisorConfig
from ....options.device_kinds.base import RateLimit
from ....options.device_kinds.block import BlockDrive
from ..api import dialect
from ..api.endpoints import Version
from ..device_ids import PLACEHOLDER
from ..host_resources import HostResources
from ..requests import Request, check_driver, drive, rate_limiter
from ..state import FirecrackerState, Jail
from ..vmm import POWER, Vmm
from .base import plugs_by_pci
from .disks import FileDevice

CACHES = {"writeback": "Writeback", "unsafe": "Unsafe"}
ENGINES = {"sync": "Sync", "async": "Async"}


class Block(FileDevice[BlockDrive]):
    """A disk."""

    by_placeholder = True
    on_host = ("index",)
    live = ("rate_limit",)

    def check(self, config: HypervisorConfig, version: Version, jail: Jail | None, sockets: Collection[str]) -> None:
        record = self.record
        check_driver(record.driver, "devices")
        for problem, what in (
            (record.format != "raw", f"disks in the format {record.format}"),
            (record.discard, "discard of a disk's space"),
            (record.serial, "serial numbers of disks"),
            (record.cache and record.cache not in CACHES, f"cache {record.cache}"),
            (record.io_engine and record.io_engine not in ENGINES, f"I/O engine {record.io_engine}"),
        ):
            if problem:
                raise Unsupported(f"Firecracker has no {what}", option="devices", wanted=record.id)
        if record.cache:
            dialect.require(version, "cache", "devices", record.cache)
        if record.io_engine:
            dialect.require(version, "io_engine", "devices", record.io_engine)
        self.check_file(jail)

    def requests(self, version: Version, path: str = "") -> list[Request]:
        record = self.record
        request = drive(self.api_id, path, record.read_only)
        if record.cache:
            request.body["cache_type"] = CACHES[record.cache]
        if record.io_engine:
            request.body["io_engine"] = ENGINES[record.io_engine]
        if record.rate_limit:
            request.body["rate_limiter"] = rate_limiter(record.rate_limit)
        return [request]

    def check_hot(self, vmm: Vmm) -> None:
        if plugs_by_pci(vmm):
            return
        if not vmm.state.placeholders:
            raise self.no_hotplug(vmm)
        if self.record.read_only or self.record.cache or self.record.io_engine:
            raise Unsupported(
                "a disk that takes a placeholder's place can be written to, and has the cache and engine that the placeholder has",
                option="devices",
                wanted=self.record.id,
                fix="Leave read_only, cache and io_engine out, or restart the sandbox (disruption: restart).",
            )

    def placeholder(self, vmm: Vmm) -> int | None:
        if plugs_by_pci(vmm):
            return None
        taken = vmm.state.placeholders
        if self.identity in taken:
            return taken.index(self.identity)  # A task was killed before Firecracker had the disk.
        if "" not in taken:
            raise StateError(
                f"all {len(taken)} placeholder drives are taken",
                option="placeholder_drives",
                wanted=self.record.id,
                fix="Raise placeholder_drives, which needs a restart.",
            )
        return free_place(vmm.state, self.record)

    def plug(self, vmm: Vmm, host: HostResources, placeholder: int | None) -> None:
        if placeholder is None:
            super().plug(vmm, host, placeholder)
        else:
            self._exchange(vmm, f"{PLACEHOLDER}{placeholder}", self.path(host), self._limits())

    def unplug(self, vmm: Vmm, host: HostResources) -> None:
        places = vmm.state.placeholders
        if self.identity not in places:
            super().unplug(vmm, host)
            return
        empty = f"{PLACEHOLDER}{places.index(self.identity)}"
        limits = {"rate_limiter": rate_limiter(RateLimit())} if self.record.rate_limit else {}
        self._exchange(vmm, empty, host.own_path(empty), limits)
        places[places.index(self.identity)] = ""

    def update(self, vmm: Vmm, host: HostResources) -> None:
        record, state = self.record, vmm.state
        places = state.placeholders
        name = f"{PLACEHOLDER}{places.index(self.identity)}" if self.identity in places else self.api_id
        known = state.devices.get(self.identity, {})
        if known.get("file") == record.file and dialect.can(vmm.version, "limits_alone"):
            vmm.api().patch(f"/drives/{name}", {"drive_id": name, **self._limits(lift=True)})
            return
        # What is open stays open: the old file is only replaced by its name, and gets that back when the new one is refused.
        lift = dialect.can(vmm.version, "limits_alone") or bool(known.get("rate_limit"))
        own = vmm.process()
        use = block_devices.Use(record.file, not record.read_only, self.identity)
        try:
            with block_devices.claimed([use], (own.pid,) if own else ()):
                self.provide(host)
                self._exchange(vmm, name, self.path(host), self._limits(lift))
        except VmmError:
            if known.get("file") and state.jail is not None:
                with contextlib.suppress(HypervisorError, OSError):
                    host.provide_file(known["file"], self.file_name, record.read_only)
            raise

    def _exchange(self, vmm: Vmm, name: str, path: str, limits: dict[str, Any]) -> None:
        """Put another file behind a disk, and have the guest look at it where Firecracker does not see to that itself."""
        api = vmm.api()
        api.patch(f"/drives/{name}", {"drive_id": name, "path_on_host": path, **limits})
        if dialect.dialect_for(vmm.version).rescan and POWER.get(vmm.status(api)) == "running":
            api.put("/actions", {"action_type": "BlockDeviceRescan", "payload": name})

    def _limits(self, lift: bool = False) -> dict[str, Any]:
        """The disk's limits for a request.

        :param lift: it had some, which have to go where it has none
        """
        limit = self.record.rate_limit
        return {"rate_limiter": rate_limiter(limit or RateLimit())} if limit or lift else {}


def free_place(state: FirecrackerState, device: BlockDrive) -> int:
    """The number of an empty disk that can stand for a device: where the disk is counted, else the next one after the disks from before the start."""
    free = [number for number, name in enumerate(state.placeholders) if not name]
    cold = sum(
        record.get("class") == BlockDrive.__name__ and name not in state.placeholders
        for name, record in state.devices.items()
        if name != device.id
    )
    # The first disks were counted before the VM started, and have no placeholder.
    if device.index in free and (device.index or not cold):
        return device.index
    return next((number for number in free if number >= cold), free[0])
