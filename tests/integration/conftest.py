# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real QEMU on this host: guest assets, a laboratory of sandboxes, shells in guests."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import Any, Callable, Iterator

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from guest_assets import Assets, guest_assets  # noqa: E402
from guest_shell import GuestShell  # noqa: E402

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.converge import converge, observe_only  # noqa: E402
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import parse_device_spec, parse_spec  # noqa: E402
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import SandboxSpec  # noqa: E402


@pytest.fixture(scope="session")
def assets() -> Assets:
    """The guest, from the cache or made now by the roles kata_kernel and kata_image."""
    return guest_assets()


#: The first process of the image below. It runs from a file system that nobody can write to.
IMAGE_INIT = """#!/bin/busybox sh
/bin/busybox --install -s /tmp 2>/dev/null
export PATH=/bin:/tmp
echo "kata-guest: ready from image on $(busybox awk '$2 == "/" {print $1}' /proc/mounts | busybox tail -n 1)"
exec busybox setsid busybox sh -l <>/dev/ttyS0 >&0 2>&0
"""


@pytest.fixture(scope="session")
def root_image(assets: Assets, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """An ext4 image with busybox and a first process, made without mounting anything."""
    work = tmp_path_factory.mktemp("image")
    tree = work / "tree"
    for directory in ("bin", "sbin", "dev", "proc", "sys", "tmp", "mnt"):
        (tree / directory).mkdir(parents=True)
    busybox = next(assets.kernel.parent.glob("tools/busybox-static/**/bin/busybox"))
    (tree / "bin" / "busybox").write_bytes(busybox.read_bytes())
    (tree / "bin" / "sh").symlink_to("busybox")
    (tree / "sbin" / "init").write_text(IMAGE_INIT)
    for program in ("bin/busybox", "sbin/init"):
        (tree / program).chmod(0o755)
    path = work / "root.ext4"
    subprocess.run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-O", "^has_journal", "-d", str(tree), str(path), "32M"],
        check=True,
    )
    return path


class Host:
    """Sandboxes of one test in directories of their own, removed at its end whatever happens."""

    def __init__(self, root: pathlib.Path, assets: Assets) -> None:
        self.root = root
        self.assets = assets
        self.ids: set[str] = set()
        self.shells: list[GuestShell] = []

    def spec(self, **options: Any) -> SandboxSpec:
        """A task's wish, with these directories and, for a new sandbox, our guest."""
        options = {
            "id": "web",
            "start_timeout": 30,
            "state_dir": str(self.root / "state"),
            "run_dir": str(self.root / "run"),
            **options,
        }
        self.ids.add(options["id"])
        return parse_spec(options)

    def converge(self, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        """Run one task."""
        return converge(self.spec(**options), check_mode)

    def device(self, check_mode: bool = False, sandbox: str = "web", **options: Any) -> dict[str, Any]:
        """Run a kata_device task."""
        where = {"state_dir": str(self.root / "state"), "run_dir": str(self.root / "run")}
        return converge(parse_device_spec({"sandbox": sandbox, **where, **options}), check_mode)

    def facts(self, sandbox: str = "web") -> dict[str, Any]:
        """What kata_sandbox_info would tell."""
        return observe_only(self.spec(id=sandbox))

    def start(self, sandbox: str = "web", words: tuple[str, ...] = (), **options: Any) -> dict[str, Any]:
        """A new sandbox that runs, booted to user space, with a shell on its console."""
        options.setdefault("kernel_path", str(self.assets.kernel))
        if "image_path" not in options:
            options.setdefault("initrd_path", str(self.assets.initrd))
        options.setdefault("memory_mb", 192)
        options.setdefault("vcpus", 1)
        options.setdefault("accelerator", "tcg")
        options.setdefault("wait_for", {"console": "kata-guest: ready", "timeout": 120})
        options.setdefault("kernel_params", ["kata.shell=ttyS0", *words])
        return self.converge(id=sandbox, state="started", **options)

    @staticmethod
    def lacks(made: dict[str, Any], *version: int) -> bool:
        """Whether the QEMU of a sandbox is older than the one that brought something."""
        return tuple(map(int, made["sandbox"]["vmm_version"].split("."))) < version

    def shell(self, sandbox: str = "web") -> GuestShell:
        """A shell in a guest."""
        shell = GuestShell(self.root / "run" / sandbox / "console.sock")
        self.shells.append(shell)
        return shell

    def run_path(self, name: str, sandbox: str = "web") -> pathlib.Path:
        """A file in a sandbox's run directory."""
        return self.root / "run" / sandbox / name

    def processes(self) -> list[str]:
        """Command lines of the live processes that belong to this test."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                except OSError:
                    continue
                if state not in "ZX" and any(os.fsencode(str(self.root)) in word for word in words):
                    found.append(b" ".join(words).decode("utf-8", "replace"))
        return found

    def remove_all(self) -> None:
        """Remove every sandbox, and look for leftovers."""
        for shell in self.shells:
            shell.close()
        for sandbox in sorted(self.ids):
            self.converge(id=sandbox, state="absent", stop_timeout=0)
        assert self.processes() == []
        left = [path for part in ("state/sandboxes", "run") for path in (self.root / part).glob("*") if path.is_dir()]
        assert left == []


@contextlib.contextmanager
def _new_host(assets: Assets) -> Iterator[Host]:
    """A host whose directory is short, since the kernel limits a socket's path."""
    root = pathlib.Path(tempfile.mkdtemp(prefix="kt-"))
    made = Host(root, assets)
    try:
        yield made
        made.remove_all()
    finally:
        _kill_everything(made)
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def host(assets: Assets) -> Iterator[Host]:
    """A host of one test."""
    with _new_host(assets) as made:
        yield made


@pytest.fixture(scope="module")
def shared_host(assets: Assets) -> Iterator[Host]:
    """A host that the tests of a module share."""
    with _new_host(assets) as made:
        yield made


def _kill_everything(host: Host) -> None:
    """What a failed test left running."""
    for sandbox in host.ids:
        pidfile = host.run_path("pid", sandbox)
        if pidfile.exists():
            with contextlib.suppress(ValueError, ProcessLookupError):
                os.kill(int(pidfile.read_text()), 9)


@pytest.fixture
def tool() -> Callable[..., str]:
    """Run a program of the host and return what it printed."""

    def run(*words: str) -> str:
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    return run


@pytest.fixture
def macvtap(tool: Callable[..., str]) -> Iterator[tuple[str, str]]:
    """A macvtap interface on one end of a pair; the other end is 192.0.2.1, in a network namespace of the test's own."""
    name, parent, peer, elsewhere = (f"kt{letter}{os.getpid() % 100000}" for letter in "mpqn")
    tool("ip", "netns", "add", elsewhere)
    try:
        tool("ip", "link", "add", parent, "up", "type", "veth", "peer", "name", peer, "netns", elsewhere)
        tool("ip", "-n", elsewhere, "address", "add", "192.0.2.1/24", "dev", peer)
        tool("ip", "-n", elsewhere, "link", "set", peer, "up")
        try:
            tool("ip", "link", "add", "link", parent, "name", name, "type", "macvtap", "mode", "bridge")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this host makes no macvtap interfaces: {error.stderr.strip()}")
        index = pathlib.Path(f"/sys/class/net/{name}/ifindex").read_text().strip()
        node = pathlib.Path(f"/dev/tap{index}")
        if not node.exists():
            # Where no udev runs, nobody makes the node.
            major, minor = pathlib.Path(f"/sys/class/net/{name}/tap{index}/dev").read_text().strip().split(":")
            tool("mknod", str(node), "c", major, minor)
        yield name, elsewhere
        tool("ip", "link", "delete", parent)
        node.unlink(missing_ok=True)
    finally:
        tool("ip", "netns", "delete", elsewhere)
