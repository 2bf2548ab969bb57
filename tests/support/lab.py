# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sandboxes of one test in a directory of their own, through the engine, and what they left on the host."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import tempfile
from typing import Any, ClassVar, Iterator, Optional, TypeVar

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.converge import converge, observe_only
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors import new_hypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context, Hypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import parse_device_spec, parse_spec
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import SandboxSpec, make_config
from ansible_collections.kata.hypervisor.plugins.module_utils.records.store import Store


class SandboxLab:
    """A directory for sandboxes, and what can be done to the sandboxes in it.

    :param hypervisor: of all sandboxes; where it is empty tasks do not name one
    :param root: the directory; by default a new one, whose name is short since the kernel limits the path of a socket
    :param options: of every new sandbox, see `start`
    """

    #: Options of every task.
    TASK: ClassVar[dict[str, Any]] = {"lock_timeout": 30, "start_timeout": 60}

    def __init__(self, hypervisor: str = "", root: Optional[pathlib.Path] = None, **options: Any) -> None:
        self.root = root or pathlib.Path(tempfile.mkdtemp(prefix="kt-"))
        self.hypervisor = hypervisor
        self.options = options
        self.ids: set[str] = set()

    def directories(self) -> dict[str, str]:
        """The options that say where sandboxes are."""
        return {"state_dir": str(self.root / "state"), "run_dir": str(self.root / "run")}

    def factory(self, name: str, context: Context) -> Hypervisor:
        """Makes the driver of a sandbox."""
        return new_hypervisor(name, context)

    def file(self, name: str, size: int = 4096, mode: int = 0o666, content: bytes = b"") -> str:
        """The path of a file with some content, or of zeros."""
        path = self.root / name
        if not path.exists():
            path.write_bytes(content or bytes(size))
        path.chmod(mode)
        return str(path)

    def spec(self, sandbox: str = "web", **options: Any) -> SandboxSpec:
        """The parsed options of a task."""
        named = {"hypervisor": self.hypervisor} if self.hypervisor else {}
        spec = parse_spec({"id": sandbox, **named, **self.TASK, **self.directories(), **options})
        self.ids.add(spec.id)
        return spec

    def run(self, sandbox: str = "web", *, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        """Run a task."""
        return converge(self.spec(sandbox, **options), check_mode, self.factory)

    def check(self, sandbox: str = "web", **options: Any) -> dict[str, Any]:
        """Run a task in check mode."""
        return self.run(sandbox, check_mode=True, **options)

    def start(self, sandbox: str = "web", **options: Any) -> dict[str, Any]:
        """Start a new sandbox."""
        return self.run(sandbox, **{"state": "started", **self.options, **options})

    def device(self, sandbox: str = "web", *, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        """Run a task of kata_device."""
        spec = parse_device_spec({"sandbox": sandbox, **self.directories(), **options})
        return converge(spec, check_mode, self.factory)

    def facts(self, sandbox: str = "web") -> dict[str, Any]:
        """What kata_sandbox_info returns of a sandbox."""
        return observe_only(self.spec(sandbox), self.factory)

    def driver(self, sandbox: str = "web") -> Hypervisor:
        """The driver of a sandbox that has a record."""
        layout = self.spec(sandbox).layout()
        record = Store(layout).load()
        assert record is not None
        driver = self.factory(self.hypervisor or "qemu", Context(sandbox, layout.run_dir, layout.state_dir))
        driver.load(record.driver, make_config(record.effective()))
        return driver

    def run_path(self, name: str, sandbox: str = "web") -> pathlib.Path:
        """A file in a sandbox's run directory."""
        return self.root / "run" / sandbox / name

    def console(self, sandbox: str = "web") -> str:
        """What the guest printed on its console."""
        return self.run_path("console.log", sandbox).read_text(errors="replace")

    def jails(self) -> list[str]:
        """What there is in the directory of jails."""
        return [str(path.relative_to(self.root)) for path in (self.root / "state" / "jails").glob("*/*")]

    def processes(self) -> list[str]:
        """PIDs and command lines of live processes that name this directory, or live in one of its jails."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            # A real jailer leaves nothing of the host's paths but where the console goes.
            places = []
            for link in ("root", "fd/1"):
                with contextlib.suppress(OSError):
                    places.append(os.readlink(entry / link))
            if state not in "ZX" and any(str(self.root) in place for place in (words, *places)):
                found.append(f"{entry.name} {words}")
        return found

    def close(self) -> None:
        """End connections to guests."""

    def remove_all(self) -> None:
        """Remove every sandbox, and look for leftovers."""
        self.close()
        for sandbox in sorted(self.ids):
            self.run(sandbox, state="absent", stop_timeout=0)
        assert self.processes() == []
        assert self.jails() == []
        left = [path for part in ("state/sandboxes", "run") for path in (self.root / part).glob("*") if path.is_dir()]
        assert left == []
        mounts = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
        assert [line for line in mounts if str(self.root) in line] == []

    def destroy(self) -> None:
        """End what a failed test left, and remove the directory."""
        self.close()
        for line in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line.split()[0]), signal.SIGKILL)
        shutil.rmtree(self.root, ignore_errors=True)


AnyLab = TypeVar("AnyLab", bound=SandboxLab)


@contextlib.contextmanager
def removed_afterwards(lab: AnyLab) -> Iterator[AnyLab]:
    """A laboratory whose sandboxes are removed at the end; nothing may be left of them."""
    try:
        yield lab
        lab.remove_all()
    finally:
        lab.destroy()


def nothing_ran(lab: SandboxLab, sandbox: str = "web") -> None:
    """Assert that nothing is left after a start that failed."""
    assert lab.processes() == [] and lab.jails() == []
    assert lab.facts(sandbox)["state"] == "absent"
