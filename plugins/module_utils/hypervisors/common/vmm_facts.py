# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The initial facts of a VMM's program on a host."""

from __future__ import annotations

from typing import Any


def unknown_vmm(hypervisor: str, path: str) -> dict[str, Any]:
    """The facts of a program before it has been examined."""
    return {"hypervisor": hypervisor, "path": path, "version": "", "usable": False, "reason": "", "capabilities": {}}
