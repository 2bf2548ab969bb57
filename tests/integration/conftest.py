# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real QEMU on this host: guest assets and laboratories of sandboxes."""

from __future__ import annotations

import os
import pathlib
import subprocess
from typing import Callable, Iterator

import pytest

from tests.support.guest_assets import Assets, guest_assets
from tests.support.lab import removed_afterwards
from tests.support.qemu_lab import QemuLab

HERE = pathlib.Path(__file__).resolve().parent
#: What shares something of this machine, so that its tests never run at the same time: jails (the uid of a jail comes from the sandbox's name
#: alone), the copy of the engine in /var/cache and the usual directories of sandboxes, and users whose processes are attacked.
SHARING = {
    "jails": ("firecracker/", "acrn/", "hardware/", "test_contract.py", "test_whose_programs.py", "test_vmm_facts.py"),
    "engine copy": (
        "test_ansible.py",
        "test_docs.py",
        "test_tarball.py",
        "test_kept_engine.py",
        "test_provisioning.py",
    ),
    "users": ("qemu/test_attacks.py", "qemu/test_own_user.py", "qemu/test_vmm_user.py"),
}
#: The groups that take longest, longest first: one that is begun last would keep one worker busy while the other has nothing to do.
LONGEST = [
    "hosts/test_example_inventory.py",
    "engine copy",
    "test_molecule.py",
    "qemu/test_cloud_images.py",
    "jails",
    "users",
]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group tests for `pytest -n 2 --dist loadgroup --no-loadscope-reorder`: what shares something of the machine, and what is in one file."""
    rank = {}
    for item in items:
        if HERE in item.path.parents:
            path = item.path.relative_to(HERE).as_posix()
            group = next((name for name, starts in SHARING.items() if path.startswith(starts)), path)
            item.add_marker(pytest.mark.xdist_group(group))
            rank[item] = LONGEST.index(group) if group in LONGEST else len(LONGEST)
    items.sort(key=lambda item: rank.get(item, len(LONGEST)))


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


@pytest.fixture
def lab(assets: Assets) -> Iterator[QemuLab]:
    """Sandboxes of QEMU for one test."""
    with removed_afterwards(QemuLab(assets)) as made:
        yield made


@pytest.fixture(scope="module")
def shared_lab(assets: Assets) -> Iterator[QemuLab]:
    """Sandboxes of QEMU that the tests of a module share."""
    with removed_afterwards(QemuLab(assets)) as made:
        yield made


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
