# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sandboxes of the mock driver, and ways to hurt them."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from typing import Any, ClassVar

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.converge import converge
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Capabilities, Context, Hypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.mock import MockHypervisor
from tests.support.killing import run_killed
from tests.support.lab import SandboxLab

#: What every new sandbox needs.
BOOT = {"kernel_path": "/k", "initrd_path": "/i"}


class LabHypervisor(MockHypervisor):
    """A mock that attaches disks, and keeps a console and a log in its run directory."""

    def capabilities(self) -> Capabilities:
        return dataclasses.replace(super().capabilities(), block_device_hotplug=True)

    def console_log(self) -> str:
        return self.context.run_path("console.log")

    def vmm_log(self) -> str:
        return self.context.run_path("vmm.log")


class MockLab(SandboxLab):
    """Sandboxes of the mock driver, which runs no process.

    :param root: the directory, which tasks create
    """

    TASK: ClassVar[dict[str, Any]] = {"lock_timeout": 1}

    def __init__(self, root: pathlib.Path) -> None:
        super().__init__("mock", root)
        self.faults: tuple[str, ...] = ()

    def factory(self, name: str, context: Context) -> Hypervisor:
        return LabHypervisor(context, self.faults)

    def driver(self, sandbox: str = "web") -> LabHypervisor:
        """The VM, for changing it behind the engine's back."""
        return LabHypervisor(
            Context(sandbox, str(self.root / "run" / sandbox), str(self.root / "state" / "sandboxes" / sandbox))
        )

    def reboot(self) -> None:
        """Leave what a reboot of the host leaves: /run is empty."""
        shutil.rmtree(self.root / "run", ignore_errors=True)

    def files(self) -> list[str]:
        """Every path there is, and the bytes of the files."""
        found = []
        for path in sorted(self.root.rglob("*")):
            content = path.read_bytes().decode(errors="replace") if path.is_file() else "directory"
            found.append(f"{path.relative_to(self.root)}: {content}")
        return found

    def remains(self) -> list[str]:
        """What is left that belongs to a sandbox, beside the roots."""
        roots = {"state", "state/sandboxes", "run"}
        return [
            str(path.relative_to(self.root))
            for path in self.root.rglob("*")
            if str(path.relative_to(self.root)) not in roots
        ]

    def copy(self, target: pathlib.Path) -> MockLab:
        """The same laboratory again, elsewhere. Records know their saved state by its path, so the copy is moved back to use it."""
        shutil.rmtree(target, ignore_errors=True)
        if self.root.exists():
            shutil.copytree(self.root, target)
        return MockLab(target)

    def run_killed(self, after: int, **options: Any) -> int:
        """Run a task in a process that is killed right before its n-th change to the file system; returns the process's exit code."""
        spec = self.spec(**options)
        return run_killed(self.root, after, lambda: converge(spec, factory=self.factory))
