# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Socket paths and their limit."""

from __future__ import annotations

from typing import Any

from adapters.answer import Answer
from adapters.fields import Fields
from ansible_collections.kata.hypervisor.plugins.module_utils.records.layout import socket_path


def run(given: dict[str, Any]) -> Answer:
    return Answer(socket_path(*Fields(given).texts("elements")))
