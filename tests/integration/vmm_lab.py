# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sandboxes of any hypervisor in directories of their own, through the engine, and what they left on the host."""

from __future__ import annotations

import atexit
import os
import pathlib
import shutil
import signal
import tempfile
from typing import Any

import pytest
from stub_kernel import stub_kernel

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.converge import converge, observe_only
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors import new_hypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context, Hypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.driver import (
    FirecrackerHypervisor,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import parse_spec
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import SandboxSpec, make_config
from ansible_collections.kata.hypervisor.plugins.module_utils.records.store import Store


def _executables() -> pathlib.Path:
    """The stand-ins as programs: in a directory of this session, each under its real name."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="kata-doubles-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    for source in (pathlib.Path(__file__).resolve().parents[1] / "doubles").glob("*.py"):
        program = directory / source.stem.replace("_", "-")
        program.write_text("#!/usr/bin/env python3\n" + source.read_text())
        program.chmod(0o755)
    directory.chmod(0o755)
    return directory


DOUBLES = _executables()
#: Real programs, where the environment names them.
REAL_FIRECRACKER = os.environ.get("KATA_TEST_FIRECRACKER", "")
REAL_JAILER = os.environ.get("KATA_TEST_JAILER", "")
FIRECRACKER = REAL_FIRECRACKER or str(DOUBLES / "firecracker")
JAILER = REAL_JAILER or str(DOUBLES / "jailer")
IS_ROOT = os.geteuid() == 0


class VmmLab:
    """Directories for sandboxes of one hypervisor.

    :param options: of every new sandbox
    """

    def __init__(self, hypervisor: str, **options: Any) -> None:
        # The directory is short, since the kernel limits a socket's path.
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="kt-"))
        self.hypervisor = hypervisor
        self.options = options
        self.ids: set[str] = set()

    def file(self, name: str, size: int = 4096, mode: int = 0o666, content: bytes = b"") -> str:
        """A file with some content, or of zeros."""
        path = self.root / name
        if not path.exists():
            path.write_bytes(content or bytes(size))
        path.chmod(mode)
        return str(path)

    def spec(self, sandbox: str = "web", **options: Any) -> SandboxSpec:
        """A task's wish."""
        self.ids.add(sandbox)
        paths = {"state_dir": str(self.root / "state"), "run_dir": str(self.root / "run")}
        return parse_spec(
            {"id": sandbox, "hypervisor": self.hypervisor, "lock_timeout": 5, "start_timeout": 20, **paths, **options}
        )

    def run(self, sandbox: str = "web", **options: Any) -> dict[str, Any]:
        """Run a task."""
        return converge(self.spec(sandbox, **options))

    def check(self, sandbox: str = "web", **options: Any) -> dict[str, Any]:
        """Run a task in check mode."""
        return converge(self.spec(sandbox, **options), check_mode=True)

    def start(self, sandbox: str = "web", **options: Any) -> dict[str, Any]:
        """A new sandbox that runs."""
        return self.run(sandbox, **{"state": "started", **self.options, **options})

    def facts(self, sandbox: str = "web") -> dict[str, Any]:
        """What an info module would tell."""
        return observe_only(self.spec(sandbox))

    def driver(self, sandbox: str = "web") -> Hypervisor:
        """The driver of a sandbox that has a record."""
        layout = self.spec(sandbox).layout()
        record = Store(layout).load()
        assert record is not None
        driver = new_hypervisor(self.hypervisor, Context(sandbox, layout.run_dir, layout.state_dir))
        driver.load(record.driver, make_config(record.effective()))
        return driver

    def run_path(self, name: str, sandbox: str = "web") -> pathlib.Path:
        """A file in a sandbox's run directory."""
        return self.root / "run" / sandbox / name

    def jails(self) -> list[str]:
        """What there is in the directory of jails."""
        return [str(path.relative_to(self.root)) for path in (self.root / "state" / "jails").glob("*/*")]

    def console(self, sandbox: str = "web") -> str:
        """What was printed."""
        return self.run_path("console.log", sandbox).read_text(errors="replace")

    def processes(self) -> list[str]:
        """Command lines of live processes that name this laboratory, or live in one of its jails."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                # A real jailer leaves nothing of the host's paths but where the console goes.
                places = os.readlink(entry / "root"), os.readlink(entry / "fd" / "1")
            except OSError:
                continue
            if state not in "ZX" and any(str(self.root) in place for place in (words, *places)):
                found.append(f"{entry.name} {words}")
        return found

    def remove_all(self) -> None:
        """Remove every sandbox, and look for leftovers."""
        for sandbox in sorted(self.ids):
            self.run(sandbox, state="absent", stop_timeout=0)
        assert self.processes() == []
        assert self.jails() == []
        left = [path for part in ("state/sandboxes", "run") for path in (self.root / part).glob("*") if path.is_dir()]
        assert left == []
        assert [
            line for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines() if str(self.root) in line
        ] == []

    def destroy(self) -> None:
        """End what a failed test left, and remove the directory."""
        for line in self.processes():
            try:
                os.kill(int(line.split()[0]), signal.SIGKILL)
            except ProcessLookupError:
                pass
        shutil.rmtree(self.root, ignore_errors=True)


def firecracker_lab(jailed: bool = False, **options: Any) -> VmmLab:
    """A laboratory of Firecrackers: real ones where the environment names them, else stand-ins."""
    lab = VmmLab("firecracker")
    lab.options = {
        "kernel_path": lab.file("vmlinux", mode=0o644, content=stub_kernel()),
        "image_path": lab.file("image", 1 << 20, 0o644),
        "hypervisor_path": FIRECRACKER,
        "vcpus": 1,
        "memory_mb": 128,
        **({"jailer_path": JAILER} if jailed else {"jailer": "none"}),
        **options,
    }
    return lab


def acrn_lab(**options: Any) -> VmmLab:
    """A laboratory of stand-ins for ACRN's device model."""
    lab = VmmLab("acrn")
    os.environ["ACRN_DOUBLE_MANAGER"] = str(lab.root / "mngr")
    lab.options = {
        "kernel_path": lab.file("bzImage"),
        "image_path": lab.file("image", 1 << 20),
        "hypervisor_path": str(DOUBLES / "acrn-dm"),
        "hypervisor_ctl_path": str(DOUBLES / "acrnctl"),
        "memory_mb": 128,
        **options,
    }
    return lab


#: What a real Firecracker cannot be told to do, or cannot do without a guest that boots and helps.
double_only = pytest.mark.skipif(
    bool(REAL_FIRECRACKER), reason="a real Firecracker cannot be told to misbehave, nor to be another version"
)
needs_guest = pytest.mark.skipif(
    bool(REAL_FIRECRACKER), reason="this takes a guest that boots and helps; only the stand-in has one here"
)
needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can make a jail or a tap")
needs_tun = pytest.mark.skipif(
    not os.access("/dev/net/tun", os.R_OK | os.W_OK), reason="there is no /dev/net/tun to use"
)


def nothing_ran(lab: VmmLab, sandbox: str = "web") -> None:
    """After a start that failed nothing is left."""
    assert lab.processes() == [] and lab.jails() == []
    assert lab.facts(sandbox)["state"] == "absent"


def firecracker_driver(lab: VmmLab, sandbox: str = "web") -> FirecrackerHypervisor:
    found = lab.driver(sandbox)
    assert isinstance(found, FirecrackerHypervisor)
    return found
