# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that the guest sees as persistent memory."""

from __future__ import annotations

import dataclasses
from typing import Any

from .base import Device, DeviceKind, RateLimit, Suboption, rate_limit, values_of


@dataclasses.dataclass
class PmemDrive(Device):
    """A file of the host that the guest sees as persistent memory (virtio-pmem), without a page cache of its own."""

    file: str
    id: str
    read_only: bool = False
    rate_limit: RateLimit | None = None

    @property
    def host_file(self) -> tuple[str, bool]:
        return self.file, not self.read_only


def make(device: dict[str, Any]) -> PmemDrive:
    """The record of such a file."""
    return PmemDrive(device["file"], device["id"], device["read_only"], **values_of(device, "rate_limit"))


PMEM = DeviceKind(
    "pmem",
    PmemDrive,
    {
        "file": Suboption("path", required=True),
        "read_only": Suboption("bool", default=False),
        "rate_limit": rate_limit("pmem_update"),
    },
    make,
    plug="pmem_hotplug",
    unplug="pmem_unplug",
)
