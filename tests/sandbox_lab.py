# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A laboratory for the engine: sandboxes of the mock driver in a directory of their own, and ways to hurt them."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import sys
from typing import Any, Callable

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.converge import converge, observe_only
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Capabilities, Context, Hypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.mock import MockHypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import parse_spec
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import SandboxSpec

KILLED = 137

#: What a sandbox cannot be made without.
BOOT = {"kernel_path": "/k", "initrd_path": "/i"}

#: Audit events (PEP 578) of calls that change files, and which of their arguments are the path and the directory that it is relative to.
CHANGES = {
    "os.rename": (1, 3),
    "os.remove": (0, 1),
    "os.mkdir": (0, 2),
    "os.rmdir": (0, 1),
    "os.truncate": (0, None),
    "os.link": (1, 3),
}


class LabHypervisor(MockHypervisor):
    """A mock that plugs disks, and keeps a console and a log in its run directory."""

    def capabilities(self) -> Capabilities:
        return dataclasses.replace(super().capabilities(), block_device_hotplug=True)

    def console_log(self) -> str:
        return self.context.run_path("console.log")

    def vmm_log(self) -> str:
        return self.context.run_path("vmm.log")


class Lab:
    """Directories for sandboxes, and what can be done to the sandboxes in them."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.faults: tuple[str, ...] = ()

    def factory(self, name: str, context: Context) -> Hypervisor:
        """The drivers of this laboratory."""
        return LabHypervisor(context, self.faults)

    def spec(self, **options: Any) -> SandboxSpec:
        """A task's wish."""
        paths = {"state_dir": str(self.root / "state"), "run_dir": str(self.root / "run")}
        return parse_spec({"id": "web", "hypervisor": "mock", "lock_timeout": 1, **paths, **options})

    def run(self, **options: Any) -> dict[str, Any]:
        """Run a task."""
        return converge(self.spec(**options), factory=self.factory)

    def check(self, **options: Any) -> dict[str, Any]:
        """Run a task in check mode."""
        return converge(self.spec(**options), check_mode=True, factory=self.factory)

    def facts(self, sandbox: str = "web") -> dict[str, Any]:
        """What an info module would tell."""
        return observe_only(self.spec(id=sandbox), factory=self.factory)

    def driver(self, sandbox: str = "web") -> LabHypervisor:
        """The VM, for doing something behind the engine's back."""
        return LabHypervisor(
            Context(sandbox, str(self.root / "run" / sandbox), str(self.root / "state" / "sandboxes" / sandbox))
        )

    def reboot(self) -> None:
        """What a reboot of the host leaves: /run is empty."""
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

    def copy(self, target: pathlib.Path) -> Lab:
        """The same laboratory again, elsewhere. Records know their saved state by its path, so the copy is moved back to use it."""
        shutil.rmtree(target, ignore_errors=True)
        if self.root.exists():
            shutil.copytree(self.root, target)
        return Lab(target)

    def run_killed(self, after: int, **options: Any) -> int:
        """Run a task in a process that is killed right before its n-th change to the file system; returns the process's exit code."""
        spec = self.spec(**options)
        return run_killed(self.root, after, lambda: converge(spec, factory=self.factory))


def run_killed(root: pathlib.Path, before_change: int, work: Callable[[], Any]) -> int:
    """Do some work in a process that is killed right before its n-th change below a directory; returns the process's exit code."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            _kill_before_change(str(root), before_change)
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _changed_path(arguments: tuple[Any, ...], path: int, directory: int | None) -> str:
    """The path of an audit event, from its arguments of these numbers."""
    place = arguments[directory] if directory is not None else -1
    return os.path.join(
        os.readlink(f"/proc/self/fd/{place}") if isinstance(place, int) and place >= 0 else "/", str(arguments[path])
    )


def _kill_before_change(root: str, number: int) -> None:
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "open":
            path, flags = arguments[0], arguments[2]
            changes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
            # The event does not name the directory of a relative path; nothing but our own directories is changed so.
            path = os.path.join(root, str(path))
        else:
            changes, path = event in CHANGES, _changed_path(arguments, *CHANGES[event]) if event in CHANGES else ""
        if changes and str(path).startswith(root):
            count += 1
            if count == number:
                os._exit(KILLED)

    sys.addaudithook(hook)
