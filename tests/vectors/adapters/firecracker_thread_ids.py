# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which threads are vCPUs."""

from __future__ import annotations

from typing import Any

from adapters.answer import Answer
from adapters.fields import Fields
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.threads import vcpu_number


def run(given: dict[str, Any]) -> Answer:
    numbers = {vcpu_number(name) for name in Fields(given).texts("thread_comms")}
    return Answer({"vcpu_ids": sorted(number for number in numbers if number is not None)})
