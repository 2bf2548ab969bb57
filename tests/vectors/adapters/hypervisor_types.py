# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of hypervisors, and the drivers made for them."""

from __future__ import annotations

from typing import Any

from adapters.answer import Answer, attempt
from adapters.fields import Fields, unknown_operation
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors import new_hypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context


def run(given: dict[str, Any]) -> Answer:
    line = Fields(given)
    operation, value = line.text("op"), line.text("value")
    if operation not in ("string", "set", "new"):
        raise unknown_operation(operation)
    driver, error = attempt(new_hypervisor, value, Context("golden", "/nonexistent/run", "/nonexistent/state"))
    name = driver.name if driver else ""
    if operation == "string":
        return Answer({"string": name})
    failure = error.error if error else None
    return Answer({"driver": name} if operation == "new" else {"raw": name, "string": name}, failure)
