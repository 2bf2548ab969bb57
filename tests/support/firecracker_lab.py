# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sandboxes of Firecracker: of a real one where the environment names it, else of the stand-in."""

from __future__ import annotations

import pathlib
from typing import Any, ClassVar

from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.driver import (
    FirecrackerHypervisor,
)
from tests.support.lab import SandboxLab
from tests.support.stand_ins import FIRECRACKER, JAILER
from tests.support.stub_kernel import stub_kernel


class FirecrackerLab(SandboxLab):
    """Sandboxes of Firecracker.

    :param jailed: each in a jail
    """

    def __init__(self, jailed: bool = False, **options: Any) -> None:
        super().__init__("firecracker")
        self.options = {
            "kernel_path": self.file("vmlinux", mode=0o644, content=stub_kernel()),
            "image_path": self.file("image", 1 << 20, 0o644),
            "hypervisor_path": FIRECRACKER,
            "vcpus": 1,
            "memory_mb": 128,
            **({"jailer_path": JAILER} if jailed else {"jailer": "none"}),
            **options,
        }

    def driver(self, sandbox: str = "web") -> FirecrackerHypervisor:
        found = super().driver(sandbox)
        assert isinstance(found, FirecrackerHypervisor)
        return found


class FirecrackerGuestLab(FirecrackerLab):
    """Jailed sandboxes of a real Firecracker with an ordinary guest, on a machine that takes minutes for what others do in seconds.

    :param initrd: with our init
    """

    PATIENCE = 900.0
    TASK: ClassVar[dict[str, Any]] = {"lock_timeout": PATIENCE, "start_timeout": PATIENCE}

    def __init__(self, kernel: pathlib.Path, initrd: pathlib.Path, **options: Any) -> None:
        super().__init__(True, kernel_path=str(kernel), initrd_path=str(initrd), **options)
        del self.options["image_path"]

    def start(self, sandbox: str = "web", **options: Any) -> dict[str, Any]:
        """Start a new sandbox, and wait until its guest is ready."""
        ready = {"wait_for": {"console": "kata-guest: ready", "timeout": self.PATIENCE}}
        return super().start(sandbox, **{**ready, **options})
