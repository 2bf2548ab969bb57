# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Capability bits."""

from __future__ import annotations

from typing import Any

from adapters.answer import Answer
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors import new_hypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Capabilities, Context
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.classic.arch import AMD64, ARCHITECTURES

NAMES = ("block_device", "block_device_hotplug", "multi_queue", "fs_sharing")


def _capabilities(given: dict[str, Any]) -> Capabilities:
    if given["driver"] != "qemu":
        return new_hypervisor(
            given["driver"], Context("golden", "/nonexistent/run", "/nonexistent/state")
        ).capabilities()
    if given["arch"] == "generic base":
        # What every architecture starts from: arm64 and s390x change nothing about it.
        return ARCHITECTURES["arm64"].capabilities("virt")
    architecture = ARCHITECTURES.get(given["arch"], AMD64)
    return architecture.capabilities(architecture.machine(given.get("machine_type", "")))


def run(given: dict[str, Any]) -> Answer:
    found = _capabilities(given)
    return Answer({name: getattr(found, name) for name in NAMES})
