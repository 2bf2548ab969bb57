# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Balloons: memory that the host takes back from a guest."""

from __future__ import annotations

import dataclasses
from typing import Any

from .base import Device, DeviceKind, Suboption, values_of


@dataclasses.dataclass
class Balloon(Device):
    """A balloon by which the host takes memory from the guest and gives it back.

    :param size_mb: MiB that it holds
    :param deflate_on_oom: the guest takes memory out of it before it kills a process for lack of memory
    :param stats_seconds: how often the guest reports its memory; 0 for never, and then nobody knows what the balloon really holds
    :param free_page_hinting: the guest can be asked for pages that it does not use
    :param free_page_reporting: the guest reports pages that it does not use by itself
    """

    id: str
    size_mb: int = 0
    deflate_on_oom: bool = False
    stats_seconds: int = 0
    free_page_hinting: bool = False
    free_page_reporting: bool = False


def make(device: dict[str, Any]) -> Balloon:
    """The record of a balloon."""
    return Balloon(**values_of(device, "id", *BALLOON.suboptions))


BALLOON = DeviceKind(
    "balloon",
    Balloon,
    {
        # Firecracker's u32 and u16.
        "size_mb": Suboption("int", default=0, range=(0, 2**32 - 1), unit="MiB", updated_by="balloon_update"),
        "deflate_on_oom": Suboption("bool", default=False),
        "stats_seconds": Suboption("int", default=5, range=(0, 2**16 - 1), unit="seconds", updated_by="balloon_update"),
        "free_page_hinting": Suboption("bool", default=False),
        "free_page_reporting": Suboption("bool", default=False),
    },
    make,
)
