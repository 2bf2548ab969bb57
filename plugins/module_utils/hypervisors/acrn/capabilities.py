# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be done with a VM of ACRN."""

from __future__ import annotations

from ..base import Capabilities


def capabilities() -> Capabilities:
    """What every version of ACRN can do: disks that take a placeholder's place, and no more."""
    return Capabilities(block_device=True, block_device_hotplug=True)
