# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host has: memory, huge pages, devices, space."""

from __future__ import annotations

import os
import re
from typing import Any, Sequence

from . import proc

NESTED = ("/sys/module/kvm_intel/parameters/nested", "/sys/module/kvm_amd/parameters/nested")


HUGE_PAGES = "/sys/kernel/mm/hugepages"


MIB = 1024 * 1024


def memory_facts(path: str = proc.MEMINFO) -> dict[str, int]:
    """Memory of the host in MiB, in all and what a new process can have."""
    try:
        with open(path, encoding="ascii", errors="replace") as stream:
            return parse_memory(stream.read(proc.FILE_LIMIT))
    except OSError:
        return parse_memory("")


def parse_memory(text: str) -> dict[str, int]:
    """Memory in MiB, in all and what a new process can have, from the content of meminfo; 0 for what it does not tell."""
    facts = {}
    for name, word in (("total_mb", "MemTotal"), ("available_mb", "MemAvailable")):
        found = re.search(rf"^{word}:[ \t]+([0-9]{{1,{proc.MOST_DIGITS}}}) kB$", text, re.MULTILINE)
        facts[name] = int(found[1]) // 1024 if found else 0
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
    """Whether this host's KVM guests may run KVM themselves; None where KVM's module is not loaded."""
    for path in paths:
        word = _text(path)
        if word:
            return word in ("Y", "1")
    return None


def device_facts(path: str) -> dict[str, Any]:
    """Whether a device is there and this task's user may open it."""
    there = os.path.exists(path)
    return {"path": path, "exists": there, "accessible": there and os.access(path, os.R_OK | os.W_OK)}


def free_space_mb(path: str) -> int:
    """Space left for a directory, or for the first of its parents that exists, in MiB."""
    while path and not os.path.isdir(path):
        path = os.path.dirname(path)
    try:
        space = os.statvfs(path or "/")
    except OSError:
        return 0
    return space.f_bavail * space.f_frsize // MIB


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as stream:
            return stream.read(4096).strip()
    except OSError:
        return ""


def _number(path: str) -> int:
    text = _text(path)
    return int(text) if text.isdigit() and len(text) <= proc.MOST_DIGITS else 0
