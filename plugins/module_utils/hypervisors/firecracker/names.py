# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of a Firecracker's files."""

from __future__ import annotations

API_SOCKET = "api.sock"


CONSOLE_LOG = "console.log"


VMM_LOG = "vmm.log"


METRICS = "metrics.log"
