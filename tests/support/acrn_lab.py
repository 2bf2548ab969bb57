# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sandboxes of the stand-ins for ACRN's device model."""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.acrn.driver import AcrnHypervisor
from tests.support.lab import SandboxLab
from tests.support.stand_ins import DOUBLES


class AcrnLab(SandboxLab):
    """Sandboxes of ACRN."""

    def __init__(self, **options: Any) -> None:
        super().__init__("acrn")
        os.environ["ACRN_DOUBLE_MANAGER"] = str(self.root / "mngr")
        self.options = {
            "kernel_path": self.file("bzImage"),
            "image_path": self.file("image", 1 << 20),
            "hypervisor_path": str(DOUBLES / "acrn-dm"),
            "hypervisor_ctl_path": str(DOUBLES / "acrnctl"),
            "memory_mb": 128,
            **options,
        }

    def driver(self, sandbox: str = "web") -> AcrnHypervisor:
        found = super().driver(sandbox)
        assert isinstance(found, AcrnHypervisor)
        return found
