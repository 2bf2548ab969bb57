# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Capability bits."""

from __future__ import annotations

from typing import Any

from adapters.answer import Answer
from adapters.fields import Fields
from adapters.qemu_request import MACHINE_TYPES, architecture_of
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors import new_hypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Capabilities, Context

NAMES = ("block_device", "block_device_hotplug", "multi_queue", "fs_sharing")
#: What every architecture of Kata 1.x starts from; its arm64 changes nothing about it.
BASE = ("generic base", "arm64")


def bits(found: Capabilities) -> dict[str, bool]:
    """The four bits that Kata 1.x has."""
    return {name: getattr(found, name) for name in NAMES}


def run(given: dict[str, Any]) -> Answer:
    line = Fields(given)
    driver = new_hypervisor(line.text("driver"), Context("golden", "/nonexistent/run", "/nonexistent/state"))
    if driver.name == "qemu":
        goarch = line.text("arch", "amd64")
        goarch = BASE[1] if goarch == BASE[0] else goarch
        architecture_of(goarch)
        driver.config.hypervisor_machine_type = line.text("machine_type") or MACHINE_TYPES[goarch]
    return Answer(bits(driver.capabilities()))
