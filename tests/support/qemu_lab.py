# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sandboxes of the real QEMU of this host, with a guest that boots to user space and has a shell."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any, ClassVar

from tests.support.guest_assets import Assets
from tests.support.guest_shell import GuestShell
from tests.support.lab import SandboxLab


class QemuLab(SandboxLab):
    """Sandboxes of QEMU.

    :param assets: what their guests boot
    """

    TASK: ClassVar[dict[str, Any]] = {"start_timeout": 60}
    #: What the last `start` returned.
    made: dict[str, Any]
    #: A shell that tests share.
    guest: GuestShell

    def __init__(self, assets: Assets) -> None:
        super().__init__()
        self.assets = assets
        self.shells: list[GuestShell] = []

    def start(self, sandbox: str = "web", *, words: tuple[str, ...] = (), **options: Any) -> dict[str, Any]:
        """Start a new sandbox and wait until its guest has booted to user space, with a shell on its console.

        :param words: further kernel parameters
        """
        options.setdefault("kernel_path", str(self.assets.kernel))
        if "image_path" not in options:
            options.setdefault("initrd_path", str(self.assets.initrd))
        options.setdefault("memory_mb", 192)
        options.setdefault("vcpus", 1)
        options.setdefault("accelerator", "tcg")
        options.setdefault("wait_for", {"console": "kata-guest: ready", "timeout": 120})
        options.setdefault("kernel_params", ["kata.shell=ttyS0", *words])
        self.made = self.run(sandbox, state="started", **options)
        return self.made

    @staticmethod
    def lacks(made: dict[str, Any], *version: int) -> bool:
        """Whether the QEMU of a sandbox is older than a version."""
        return tuple(map(int, made["sandbox"]["vmm_version"].split("."))) < version

    def shell(self, sandbox: str = "web") -> GuestShell:
        """A shell in a guest."""
        shell = GuestShell(self.run_path("console.sock", sandbox))
        self.shells.append(shell)
        return shell

    def close(self) -> None:
        for shell in self.shells:
            shell.close()

    def destroy(self) -> None:
        # A QEMU that runs as a user of its own may name nothing of this directory.
        for sandbox in self.ids:
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(self.run_path("pid", sandbox).read_text()), signal.SIGKILL)
        super().destroy()
