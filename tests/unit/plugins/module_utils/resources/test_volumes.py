# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes: created once, formatted once, grown, never given to two writers, removed when nobody has them. The programs are real."""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import shutil
import stat
import subprocess

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, HostError, StateError
from ansible_collections.kata.hypervisor.plugins.module_utils.host.units import MIB
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_options import make_device
from ansible_collections.kata.hypervisor.plugins.module_utils.records.layout import SandboxLayout
from ansible_collections.kata.hypervisor.plugins.module_utils.resources import root_disk, volumes
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.volumes import VolumeRequest


@pytest.fixture
def root(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "state")


def test_each_file_system_that_a_task_can_name_can_be_made() -> None:
    assert set(volumes.CHOICES) == {*volumes.FILE_SYSTEMS, volumes.NONE}


def sandbox(root: str, name: str) -> SandboxLayout:
    """A sandbox with a state directory."""
    layout = SandboxLayout(name, root, f"{root}/run")
    os.makedirs(layout.state_dir, 0o700, exist_ok=True)
    return layout


def blkid(path: str) -> dict[str, str]:
    """What the host's own program finds on a disk."""
    text = subprocess.run(["blkid", "-p", "-o", "export", path], capture_output=True, text=True, check=False).stdout
    return dict(line.split("=", 1) for line in text.splitlines())


def tree(root: str) -> list[str]:
    top = pathlib.Path(root, "volumes")
    return sorted(str(path.relative_to(top)) for path in top.rglob("*"))


@pytest.mark.parametrize(
    ("filesystem", "size", "label", "found"),
    [
        ("ext4", 64, None, "data"),
        ("xfs", 300, "logs", "logs"),
        ("btrfs", 128, None, "data"),
        ("vfat", 40, "BOOT", "BOOT"),
    ],
)
def test_a_volume_has_its_file_system_and_label(
    root: str, filesystem: str, size: int, label: str | None, found: str
) -> None:
    if not shutil.which(volumes.FILE_SYSTEMS[filesystem].program, path="/usr/sbin:/sbin:/usr/bin"):
        pytest.skip(f"there is no program for {filesystem}")
    request = VolumeRequest("data", size, filesystem, label)
    assert volumes.plan_volume(root, request) == []
    assert not os.path.exists(root)
    volume = volumes.create_volume(root, request)
    facts = blkid(volume.path)
    assert (facts["TYPE"], facts["LABEL"]) == (filesystem, found)
    assert (volume.filesystem, volume.label, volume.size_mb) == (filesystem, found, size)
    assert os.stat(volume.path).st_size == size * MIB
    assert volumes.find_volume(root, "data") == volume
    assert tree(root) == [".lock", "data", "data/disk.raw", "data/volume.json"]


def test_an_empty_volume_has_nothing_on_it_and_takes_nothing(root: str) -> None:
    volume = volumes.create_volume(root, VolumeRequest("raw", 1024, "none"))
    assert blkid(volume.path) == {}
    assert os.stat(volume.path).st_blocks == 0
    assert volume.label == ""


def test_files_and_directories_are_closed_whatever_the_umask(root: str) -> None:
    before = os.umask(0)
    try:
        volume = volumes.create_volume(root, VolumeRequest("a", 4, "none"))
        volumes.claim_volume(sandbox(root, "web"), "a")
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE(os.stat(os.path.join(root, "volumes", name)).st_mode) for name in tree(root)}
    assert modes == {".lock": 0o600, "a": 0o700, "a/disk.raw": 0o600, "a/volume.json": 0o600, "a/users.json": 0o600}
    assert stat.S_IMODE(os.stat(os.path.dirname(os.path.dirname(volume.path))).st_mode) == 0o700


def test_what_is_there_is_never_touched(root: str) -> None:
    request = VolumeRequest("data", 16, "ext4")
    volume = volumes.create_volume(root, request)
    with open(volume.path, "r+b") as stream:
        stream.seek(MIB)
        stream.write(b"the guest's")
    content = pathlib.Path(volume.path).read_bytes()
    assert volumes.create_volume(root, request) == volume
    assert volumes.create_volume(root, VolumeRequest("data")) == volume
    for other, option in (
        (VolumeRequest("data", 16, "xfs"), "filesystem"),
        (VolumeRequest("data", 16, "none"), "filesystem"),
        (VolumeRequest("data", label="other"), "label"),
        (VolumeRequest("data", 15), "size_mb"),
    ):
        for act in (volumes.plan_volume, volumes.create_volume):
            with pytest.raises(ConfigError) as caught:
                act(root, other)
            assert caught.value.option == option
    assert pathlib.Path(volume.path).read_bytes() == content


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "-a", ".new-x", "a" * 29, "a\n", "a b"])
def test_names_that_are_not_names_are_refused(root: str, name: str) -> None:
    for act in (volumes.find_volume, volumes.remove_volume):
        with pytest.raises(ConfigError, match="must be a valid name"):
            act(root, name) if act is volumes.find_volume or not os.makedirs(f"{root}/volumes", exist_ok=True) else None
    with pytest.raises(ConfigError, match="must be a valid name"):
        volumes.plan_volume(root, VolumeRequest(name, 10))


@pytest.mark.parametrize(
    ("request_", "option"),
    [
        (VolumeRequest("a"), "size_mb"),
        (VolumeRequest("a", -1), "size_mb"),
        (VolumeRequest("a", (16 << 20) + 1), "size_mb"),
        (VolumeRequest("a", 10, "ntfs"), "filesystem"),
        (VolumeRequest("a", 299, "xfs"), "size_mb"),
        (VolumeRequest("a", 40, "vfat", "lower"), "label"),
        (VolumeRequest("a", 40, "ext4", "x" * 17), "label"),
        (VolumeRequest("a", 40, "ext4", "x\n"), "label"),
        (VolumeRequest("a", 40, "none", "x"), "label"),
    ],
)
def test_bad_values_are_refused_before_anything_is_made(root: str, request_: VolumeRequest, option: str) -> None:
    with pytest.raises(ConfigError) as caught:
        volumes.create_volume(root, request_)
    assert caught.value.option == option
    assert [name for name in tree(root) if name != ".lock"] == []


def test_a_missing_program_is_an_error_that_names_its_package(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_arguments, **_more: None)
    with pytest.raises(HostError, match="must be installed") as caught:
        volumes.plan_volume(root, VolumeRequest("a", 400, "xfs"))
    assert "xfsprogs" in caught.value.fix


def test_a_volume_larger_than_the_free_space_is_a_warning_with_numbers(root: str) -> None:
    [warning] = volumes.plan_volume(root, VolumeRequest("big", 1 << 22, "none"))
    assert f"can grow to {1 << 22} MiB" in warning and "MiB free" in warning


def test_a_failed_format_leaves_nothing(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = volumes.FILE_SYSTEMS["ext4"]
    broken = volumes.FileSystem(real.program, real.packages, ("-t", "no-such-type"), real.label, 2)
    monkeypatch.setitem(volumes.FILE_SYSTEMS, "ext4", broken)
    with pytest.raises(HostError, match="failed with exit code"):
        volumes.create_volume(root, VolumeRequest("a", 10))
    assert tree(root) == [".lock"]


# --- grow and remove ---------------------------------------------------------------------------------------------------


def test_a_volume_grows_and_its_file_system_is_as_it_was(root: str) -> None:
    volume = volumes.create_volume(root, VolumeRequest("data", 16, "ext4"))
    before = blkid(volume.path)
    assert volumes.grow_volume(root, "data", 32).size_mb == 32
    assert os.stat(volume.path).st_size == 32 * MIB
    assert blkid(volume.path) == before
    assert volumes.grow_volume(root, "data", 32).size_mb == 32
    with pytest.raises(ConfigError, match="never made smaller"):
        volumes.grow_volume(root, "data", 31)
    subprocess.run(["e2fsck", "-fn", volume.path], check=True, capture_output=True)
    with pytest.raises(ConfigError, match="there are data"):
        volumes.grow_volume(root, "other", 10)


def test_removal_is_idempotent_and_leaves_nothing(root: str) -> None:
    assert not volumes.remove_volume(root, "data")
    assert not os.path.exists(root)
    volumes.create_volume(root, VolumeRequest("data", 4, "none"))
    assert volumes.remove_volume(root, "data")
    assert not volumes.remove_volume(root, "data")
    assert tree(root) == [".lock"]


def test_a_volume_that_a_process_writes_to_is_neither_grown_nor_removed(root: str) -> None:
    volume = volumes.create_volume(root, VolumeRequest("data", 4, "none"))
    with open(volume.path, "r+b") as stream:
        holder = subprocess.Popen(["sleep", "60"], stdin=stream)
    try:
        for act in (lambda: volumes.grow_volume(root, "data", 8), lambda: volumes.remove_volume(root, "data", True)):
            with pytest.raises(StateError, match=f"pid {holder.pid}"):
                act()
    finally:
        holder.kill()
        holder.wait()
    assert volumes.remove_volume(root, "data")


# --- who has it --------------------------------------------------------------------------------------------------------


def test_one_sandbox_writes_or_many_read(root: str) -> None:
    volumes.create_volume(root, VolumeRequest("data", 4, "none"))
    one, two = sandbox(root, "one"), sandbox(root, "two")
    volumes.claim_volume(one, "data")
    volumes.claim_volume(one, "data")
    for read_only in (True, False):
        with pytest.raises(StateError, match="sandbox one has volume data and writes to it"):
            volumes.claim_volume(two, "data", read_only)
    volumes.claim_volume(one, "data", read_only=True)
    volumes.claim_volume(two, "data", read_only=True)
    with pytest.raises(StateError, match="sandbox two"):
        volumes.claim_volume(one, "data")
    assert volumes.claims_of(two) == {"data": {"read_only": True, "keep": True}}
    volumes.release_volume(two, "data")
    volumes.release_volume(two, "data")
    volumes.claim_volume(one, "data")
    assert volumes.users_of_volume(root, "data") == {"one": False}


def test_a_sandbox_that_is_gone_has_no_volume(root: str) -> None:
    volumes.create_volume(root, VolumeRequest("data", 4, "none"))
    gone = sandbox(root, "gone")
    volumes.claim_volume(gone, "data")
    with pytest.raises(StateError, match="sandbox gone"):
        volumes.remove_volume(root, "data")
    os.rmdir(gone.state_dir)
    volumes.claim_volume(sandbox(root, "web"), "data")
    assert list(volumes.users_of_volume(root, "data")) == ["web"]
    assert volumes.remove_volume(root, "data", force=True)
    volumes.release_volume(sandbox(root, "web"), "data")


def test_an_unknown_volume_cannot_be_claimed(root: str) -> None:
    volumes.create_volume(root, VolumeRequest("data", 4, "none"))
    with pytest.raises(ConfigError, match="there are data"):
        volumes.claim_volume(sandbox(root, "web"), "dota")


def _claim(root: str, name: str) -> bool:
    try:
        volumes.claim_volume(sandbox(root, name), "data")
        return True
    except StateError:
        return False


def test_of_many_at_once_one_gets_the_volume(root: str) -> None:
    volumes.create_volume(root, VolumeRequest("data", 4, "none"))
    names = [f"sandbox-{number}" for number in range(12)]
    with multiprocessing.get_context("fork").Pool(6) as pool:
        got = pool.starmap(_claim, [(root, name) for name in names])
    assert sum(got) == 1
    assert list(volumes.users_of_volume(root, "data")) == [names[got.index(True)]]


# --- as a device -------------------------------------------------------------------------------------------------------


def test_a_volume_is_a_disk_with_its_name(root: str) -> None:
    name = "a-name-of-twenty-eight-chars"
    volume = volumes.create_volume(root, VolumeRequest(name, 4, "none"))
    device = volumes.device_of(volume, hypervisor="qemu")
    assert device["id"] == f"vol-{name}"
    assert device["serial"] == name[:20]
    made = make_device(device)
    assert made.host_file == (volume.path, True)
    assert "serial" not in volumes.device_of(volume, read_only=True, hypervisor="firecracker")
    assert make_device(volumes.device_of(volume, read_only=True, hypervisor="firecracker")).host_file == (
        volume.path,
        False,
    )


@pytest.mark.parametrize("how", ["path", "link", "hard link", "dots"])
def test_the_file_of_a_volume_is_no_device_of_a_task(root: str, tmp_path: pathlib.Path, how: str) -> None:
    volume = volumes.create_volume(root, VolumeRequest("data", 4, "none"))
    path = str(tmp_path / "disk")
    if how == "link":
        os.symlink(volume.path, path)
    elif how == "hard link":
        os.link(volume.path, path)
    else:
        path = volume.path if how == "path" else f"{root}/volumes/../volumes/data/disk.raw"
    web = sandbox(root, "web")
    with pytest.raises(ConfigError, match="device d must not be the disk of volume data"):
        volumes.refuse_own_files(web, [{"id": "d", "type": "block", "file": path}])
    (tmp_path / "other").touch()
    volumes.refuse_own_files(web, [{"id": "d", "file": str(tmp_path / "other")}, {"id": "n", "type": "net"}])


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/loop-control"), reason="needs loop devices")
def test_neither_is_a_loop_device_on_it(root: str) -> None:
    volume = volumes.create_volume(root, VolumeRequest("data", 4, "none"))
    found = subprocess.run(["losetup", "--find", "--show", volume.path], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"no loop device: {found.stderr}")
    device = found.stdout.strip()
    try:
        with pytest.raises(ConfigError, match="the disk of volume data"):
            volumes.refuse_own_files(sandbox(root, "web"), [{"id": "d", "file": device}])
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def test_nor_the_root_disk_of_a_sandbox(root: str, tmp_path: pathlib.Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(MIB))
    disk = root_disk.create_root_disk(sandbox(root, "db"), str(image), "raw", "raw")
    with pytest.raises(ConfigError, match="the disk of sandbox db"):
        volumes.refuse_own_files(sandbox(root, "web"), [{"id": "d", "file": disk.path}])
