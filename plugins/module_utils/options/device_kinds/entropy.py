# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources of randomness."""

from __future__ import annotations

import dataclasses
from typing import Any

from .base import Device, DeviceKind, RateLimit, rate_limit, values_of


@dataclasses.dataclass
class EntropyDevice(Device):
    """A source of randomness (virtio-rng)."""

    id: str
    rate_limit: RateLimit | None = None


def make(device: dict[str, Any]) -> EntropyDevice:
    """The record of a source."""
    return EntropyDevice(**values_of(device, "id", "rate_limit"))


ENTROPY = DeviceKind("entropy", EntropyDevice, {"rate_limit": rate_limit()}, make)
