# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Capability bits."""

from __future__ import annotations

from typing import Any

from adapters.answer import Answer
from adapters.fields import Fields
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors import new_hypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Capabilities, Context
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.classic.arch import ARCHITECTURES

NAMES = ("block_device", "block_device_hotplug", "multi_queue", "fs_sharing")


def _capabilities(given: Fields) -> Capabilities:
    driver, arch = given.text("driver"), given.text("arch", "amd64")
    if driver != "qemu":
        return new_hypervisor(driver, Context("golden", "/nonexistent/run", "/nonexistent/state")).capabilities()
    if arch == "generic base":
        # What every architecture starts from: arm64 and s390x change nothing about it.
        return ARCHITECTURES["arm64"].capabilities("virt")
    if arch not in ARCHITECTURES:
        raise ConfigError(
            "there is no such architecture", wanted=arch, fix=f"The architectures are {', '.join(ARCHITECTURES)}."
        )
    architecture = ARCHITECTURES[arch]
    return architecture.capabilities(architecture.machine(given.text("machine_type")))


def run(given: dict[str, Any]) -> Answer:
    found = _capabilities(Fields(given))
    return Answer({name: getattr(found, name) for name in NAMES})
