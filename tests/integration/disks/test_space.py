# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What disks take on real file systems: copies that share blocks, and what happens when there is no space."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import shutil
import subprocess
from typing import Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HostError
from ansible_collections.kata.hypervisor.plugins.module_utils.host.mounts import file_system_of
from ansible_collections.kata.hypervisor.plugins.module_utils.host.units import MIB
from ansible_collections.kata.hypervisor.plugins.module_utils.records.layout import SandboxLayout
from ansible_collections.kata.hypervisor.plugins.module_utils.resources import root_disk, volumes
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.space import free_bytes
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.volumes import VolumeRequest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts file systems")

MAKE = {
    "xfs": (["mkfs.xfs", "-q", "-m", "reflink=1"], 512),
    "btrfs": (["mkfs.btrfs", "-q"], 512),
    "ext4": (["mkfs.ext4", "-q"], 256),
}


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file system of the type that the test names, in a file of its own."""
    command, size = MAKE[request.param]
    if not shutil.which(command[0], path="/usr/sbin:/sbin:/usr/bin"):
        pytest.skip(f"there is no {command[0]}")
    backing, point = tmp_path / "backing", tmp_path / "mounted"
    with backing.open("wb") as stream:
        stream.truncate(size * MIB)
    subprocess.run([*command, str(backing)], check=True)
    point.mkdir()
    done = subprocess.run(
        ["mount", "-o", "loop", str(backing), str(point)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"this host mounts no {request.param}: {done.stderr}")
    try:
        yield point
    finally:
        subprocess.run(["umount", str(point)], check=True)


def sandbox(place: pathlib.Path) -> SandboxLayout:
    layout = SandboxLayout("web", str(place / "state"), str(place / "run"))
    os.makedirs(layout.state_dir, 0o700)
    return layout


def image(place: pathlib.Path, size_mb: int) -> str:
    path = place / "image.raw"
    path.write_bytes(os.urandom(MIB) * size_mb)
    os.sync()
    return str(path)


@pytest.mark.parametrize("place", ["xfs", "btrfs"], indirect=True)
def test_a_copy_shares_the_blocks_of_its_image(place: pathlib.Path) -> None:
    base = image(place, 64)
    before, digest = free_bytes(str(place)), hashlib.sha256(pathlib.Path(base).read_bytes()).hexdigest()
    disk = root_disk.create_root_disk(sandbox(place), base, "raw", "raw", 1024)
    os.sync()
    assert before - free_bytes(str(place)) < 8 * MIB
    with open(disk.path, "r+b") as stream:
        assert hashlib.sha256(stream.read(64 * MIB)).hexdigest() == digest
        stream.seek(0)
        stream.write(b"the guest's")
    os.sync()
    assert hashlib.sha256(pathlib.Path(base).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("place", ["xfs", "btrfs", "ext4"], indirect=True)
def test_the_file_system_is_known(place: pathlib.Path, request: pytest.FixtureRequest) -> None:
    (place / "below").mkdir()
    assert file_system_of(str(place / "below")) == request.node.callspec.params["place"]


@pytest.mark.parametrize("place", ["ext4"], indirect=True)
def test_a_copy_that_does_not_fit_is_refused_before_anything_is_made(place: pathlib.Path) -> None:
    layout, base = sandbox(place), image(place, 130)
    for act in (root_disk.plan_root_disk, root_disk.create_root_disk):
        with pytest.raises(HostError, match=r"takes 13[01] MiB, and .* has \d+ MiB free"):
            act(layout, base, "raw", "raw", 200)
        assert os.listdir(layout.state_dir) == []
    [warning] = root_disk.plan_root_disk(layout, base, "raw", "qcow2", 500)
    assert "can grow to 500 MiB" in warning
    assert root_disk.create_root_disk(layout, base, "raw", "qcow2", 500).size_mb == 500


@pytest.mark.parametrize("place", ["ext4"], indirect=True)
def test_a_full_disk_leaves_nothing_of_a_volume(place: pathlib.Path) -> None:
    filler = place / "filler"
    with filler.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(bytes(64 * 1024))
    os.sync()
    # Its file system takes more than there is.
    with pytest.raises(HostError) as caught:
        volumes.create_volume(str(place / "state"), VolumeRequest("data", 4096, "ext4"))
    assert "full" in str(caught.value) or "No space" in str(caught.value)
    assert [path.name for path in (place / "state/volumes").iterdir()] == [".lock"]
    filler.unlink()
    assert volumes.create_volume(str(place / "state"), VolumeRequest("data", 64, "ext4")).size_mb == 64
