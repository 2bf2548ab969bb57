# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of the host: memory, huge pages, devices, disk space."""

from __future__ import annotations

import os
import re
from typing import Any, Sequence

from ..errors import HostError
from . import proc
from .units import MIB

NESTED = ("/sys/module/kvm_intel/parameters/nested", "/sys/module/kvm_amd/parameters/nested")


HUGE_PAGES = "/sys/kernel/mm/hugepages"


def memory_facts(path: str = proc.MEMINFO) -> dict[str, int]:
    """The host's memory in MiB: the total, and what is available to a new process."""
    return parse_memory(proc.read_text(path))


def parse_memory(text: str) -> dict[str, int]:
    """The host's memory in MiB, total and available, from the content of meminfo; 0 for a missing value."""
    facts = {}
    for name, word in (("total_mb", "MemTotal"), ("available_mb", "MemAvailable")):
        try:
            facts[name] = (proc.meminfo_kb(text, word) or 0) // 1024
        except HostError:
            facts[name] = 0
    return facts


def huge_page_facts(root: str = HUGE_PAGES) -> list[dict[str, int]]:
    """The host's pools of huge pages, by size in KiB."""
    pools = []
    try:
        names = os.listdir(root)
    except OSError:
        return []
    for name in names:
        found = re.fullmatch(r"hugepages-([0-9]{1,12})kB", name)
        if found:
            counts = {word: _number(os.path.join(root, name, f"{word}_hugepages")) for word in ("nr", "free")}
            pools.append({"size_kb": int(found[1]), "total": counts["nr"], "free": counts["free"]})
    return sorted(pools, key=lambda pool: pool["size_kb"])


def nested_facts(paths: Sequence[str] = NESTED) -> bool | None:
    """Whether this host's KVM guests may run KVM themselves; None if KVM's module is not loaded."""
    for path in paths:
        word = proc.read_text(path)
        if word:
            return word in ("Y", "1")
    return None


def device_facts(path: str) -> dict[str, Any]:
    """Whether a device exists and the user of the task may open it."""
    there = os.path.exists(path)
    return {"path": path, "exists": there, "accessible": there and os.access(path, os.R_OK | os.W_OK)}


def free_space_mb(path: str) -> int:
    """The free space for a directory in MiB. If it does not exist, its nearest existing parent counts."""
    try:
        space = os.statvfs(nearest_directory(path))
    except OSError:
        return 0
    return space.f_bavail * space.f_frsize // MIB


def _number(path: str) -> int:
    text = proc.read_text(path)
    return int(text) if text.isdigit() and len(text) <= proc.MOST_DIGITS else 0


def nearest_directory(path: str) -> str:
    """The directory, or its nearest existing parent."""
    while path and not os.path.isdir(path):
        path = os.path.dirname(path)
    return path or "/"
