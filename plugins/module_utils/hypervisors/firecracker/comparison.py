# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which devices are otherwise than they were last set: a task was killed while it changed one, or somebody else did. Pure."""

from __future__ import annotations

from typing import Any, Callable

from .device_ids import PLACEHOLDER, api_id
from .state import FirecrackerState

#: By class: where Firecracker's configuration has such devices, what it calls their id, and what a limit is called there and in a record.
PLACES: dict[str, tuple[str, str, dict[str, str]]] = {
    "BlockDrive": ("drives", "drive_id", {"rate_limiter": "rate_limit"}),
    "NetworkDevice": (
        "network-interfaces",
        "iface_id",
        {"rx_rate_limiter": "rx_rate_limit", "tx_rate_limiter": "tx_rate_limit"},
    ),
    "PmemDrive": ("pmem", "id", {"rate_limiter": "rate_limit"}),
}


def outdated(config: dict[str, Any], state: FirecrackerState, metadata: Callable[[], Any]) -> list[str]:
    """The user's ids of devices whose limits or contents Firecracker has otherwise than the driver set them last.

    :param config: Firecracker's configuration
    :param metadata: asks what the metadata service tells
    """
    found = []
    for name, record in state.devices.items():
        kind = record.get("class", "")
        if (
            kind == "MetadataService"
            and config.get("mmds-config")
            and (metadata() or {}) != (record.get("contents") or {})
        ):
            found.append(name)
        if kind not in PLACES:
            continue
        place, key, limits = PLACES[kind]
        number = state.placeholders.index(name) if name in state.placeholders else -1
        wanted_id = f"{PLACEHOLDER}{number}" if number >= 0 else api_id(name)
        for device in config.get(place) or []:
            if device[key] == wanted_id and any(
                _reported(device.get(theirs)) != _wanted(record.get(ours)) for theirs, ours in limits.items()
            ):
                found.append(name)
    return sorted(found)


def _reported(limiter: dict[str, Any] | None) -> dict[str, tuple[int, int]]:
    """Rate a second and burst of each bucket that Firecracker has."""
    buckets = {
        name: bucket for name, bucket in (limiter or {}).items() if bucket and bucket["size"] and bucket["refill_time"]
    }
    return {
        name: (bucket["size"] * 1000 // bucket["refill_time"], bucket.get("one_time_burst") or 0)
        for name, bucket in buckets.items()
    }


def _wanted(limit: dict[str, Any] | None) -> dict[str, tuple[int, int]]:
    """The same of a limit in a record."""
    limit = limit or {}
    return {name: (limit[name], limit.get(f"{name}_burst") or 0) for name in ("bandwidth", "ops") if limit.get(name)}
