# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root disks: made from an image, kept, grown, removed; and what is refused. The programs are real."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import shutil
import stat
import subprocess

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError, ConfigError, HostError
from ansible_collections.kata.hypervisor.plugins.module_utils.host import qcow2
from ansible_collections.kata.hypervisor.plugins.module_utils.host.units import MIB
from ansible_collections.kata.hypervisor.plugins.module_utils.records.layout import SandboxLayout
from ansible_collections.kata.hypervisor.plugins.module_utils.resources import root_disk
from ansible_collections.kata.hypervisor.plugins.module_utils.untrusted.answers import AnswerError
from tests.support.killing import KILLED, run_killed

pytestmark = pytest.mark.skipif(not shutil.which("qemu-img"), reason="the disks are made with qemu-img")


@pytest.fixture
def layout(tmp_path: pathlib.Path) -> SandboxLayout:
    """A sandbox with a state directory."""
    made = SandboxLayout("web", str(tmp_path / "state"), str(tmp_path / "run"))
    os.makedirs(made.state_dir, 0o700)
    return made


@pytest.fixture
def image(tmp_path: pathlib.Path) -> str:
    """A raw image of 3 MiB with a file system's signature, something to read, and a gap."""
    path = tmp_path / "image.raw"
    with path.open("wb") as stream:
        stream.write(b"\0" * 510 + b"\x55\xaa" + b"the image" * 500)
        stream.truncate(3 * MIB)
    return str(path)


def digest(path: str) -> str:
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def names(layout: SandboxLayout) -> list[str]:
    return sorted(os.listdir(layout.state_dir))


def test_an_overlay_names_no_other_file_and_has_its_size(layout: SandboxLayout, image: str) -> None:
    before = digest(image)
    assert root_disk.plan_root_disk(layout, image, "raw", "qcow2", 64) == []
    assert names(layout) == []
    disk = root_disk.create_root_disk(layout, image, "raw", "qcow2", 64)
    assert disk.path == f"{layout.state_dir}/root.qcow2"
    assert names(layout) == ["root-disk.json", "root.qcow2"]
    info = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", disk.path]))
    assert info["virtual-size"] == 64 * MIB
    assert "backing-filename" not in info
    descriptor = os.open(disk.path, os.O_RDONLY)
    assert qcow2.named_files(descriptor) == []
    os.close(descriptor)
    for name in names(layout):
        assert stat.S_IMODE(os.stat(os.path.join(layout.state_dir, name)).st_mode) == 0o600
    assert digest(image) == before
    # Nothing is left beside an image of the user's.
    assert sorted(os.listdir(os.path.dirname(image))) == ["image.raw", "state"]


def test_modes_do_not_depend_on_the_umask(layout: SandboxLayout, image: str) -> None:
    for kind, umask in (("qcow2", 0), ("raw", 0), ("qcow2", 0o777), ("raw", 0o777)):
        before = os.umask(umask)
        try:
            disk = root_disk.create_root_disk(layout, image, "raw", kind)
        finally:
            os.umask(before)
        assert stat.S_IMODE(os.stat(disk.path).st_mode) == 0o600
        assert root_disk.remove_root_disk(layout)


def test_a_copy_has_the_image_at_its_beginning_and_its_own_size(layout: SandboxLayout, image: str) -> None:
    disk = root_disk.create_root_disk(layout, image, "raw", "raw", 16)
    content = pathlib.Path(disk.path).read_bytes()
    assert content[: 3 * MIB] == pathlib.Path(image).read_bytes()
    assert content[3 * MIB :] == bytes(13 * MIB)
    assert os.stat(disk.path).st_blocks * 512 < MIB
    assert not disk.needs_base


def test_creating_twice_keeps_what_is_there(layout: SandboxLayout, image: str) -> None:
    first = root_disk.create_root_disk(layout, image, "raw", "raw", 16)
    with open(first.path, "r+b") as stream:
        stream.write(b"the guest's")
    assert root_disk.create_root_disk(layout, image, "raw", "raw", 16) == first
    assert pathlib.Path(first.path).read_bytes()[:11] == b"the guest's"
    assert root_disk.find_root_disk(layout) == first


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_without_a_size_it_has_the_images(layout: SandboxLayout, image: str, kind: str) -> None:
    with open(image, "ab") as stream:
        stream.write(b"x")
    assert root_disk.create_root_disk(layout, image, "raw", kind).size_mb == 4


def test_a_disk_smaller_than_its_image_is_refused(layout: SandboxLayout, image: str) -> None:
    with pytest.raises(ConfigError, match="Set root_disk_mb to at least 3"):
        root_disk.plan_root_disk(layout, image, "raw", "qcow2", 2)
    with pytest.raises(ConfigError, match="Set root_disk_mb to at least 3"):
        root_disk.create_root_disk(layout, image, "raw", "qcow2", 2)
    assert names(layout) == []


def test_an_image_is_measured_by_its_disk_and_not_by_its_file(layout: SandboxLayout, tmp_path: pathlib.Path) -> None:
    image = str(tmp_path / "small.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "100M"], check=True)
    with pytest.raises(ConfigError, match="the image has 100 MiB"):
        root_disk.plan_root_disk(layout, image, "qcow2", "qcow2", 50)
    assert root_disk.create_root_disk(layout, image, "qcow2", "qcow2").size_mb == 100


def test_raw_readers_take_no_qcow2_image(layout: SandboxLayout, tmp_path: pathlib.Path) -> None:
    image = str(tmp_path / "image.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "1M"], check=True)
    with pytest.raises(ConfigError, match="kata_disk_image"):
        root_disk.plan_root_disk(layout, image, "qcow2", "raw", 10)


def test_an_image_that_names_a_file_is_refused(layout: SandboxLayout, tmp_path: pathlib.Path, image: str) -> None:
    bad = str(tmp_path / "bad.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", image, "-F", "raw", bad], check=True)
    with pytest.raises(AssetError, match="must not name other files"):
        root_disk.plan_root_disk(layout, bad, "qcow2", "qcow2", 10)


@pytest.mark.parametrize("make", ["missing", "empty", "directory", "text"])
def test_what_is_no_image_is_refused(layout: SandboxLayout, tmp_path: pathlib.Path, make: str) -> None:
    path = tmp_path / make
    if make == "directory":
        path.mkdir()
    elif make != "missing":
        path.write_bytes(b"" if make == "empty" else b"no image")
    with pytest.raises(AssetError) as caught:
        root_disk.plan_root_disk(layout, str(path), "qcow2" if make == "text" else "raw", "qcow2", 10)
    assert caught.value.option == "image"
    assert names(layout) == []


def test_a_disk_larger_than_the_free_space_is_a_warning_with_numbers(layout: SandboxLayout, image: str) -> None:
    [warning] = root_disk.plan_root_disk(layout, image, "raw", "qcow2", 1 << 30)
    free = os.statvfs(layout.state_dir)
    assert str(1 << 30) in warning
    assert f"{free.f_bavail * free.f_frsize // MIB // 1000}" in warning or "MiB free" in warning


def test_a_copy_that_does_not_fit_is_an_error(
    layout: SandboxLayout, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(image, "r+b") as stream:
        stream.write(os.urandom(2 * MIB))
    monkeypatch.setattr(
        root_disk.check_copy.__globals__["os"],
        "statvfs",
        lambda _path: os.statvfs_result((4096, 4096, 99, 99, 99, 9, 9, 9, 0, 255)),
    )
    monkeypatch.setitem(root_disk.check_copy.__globals__, "file_system_of", lambda _path: "ext4")
    with pytest.raises(HostError, match="MiB free"):
        root_disk.plan_root_disk(layout, image, "raw", "raw", 10)


# --- the base ----------------------------------------------------------------------------------------------------------


def test_a_changed_or_missing_base_is_noticed(layout: SandboxLayout, image: str) -> None:
    disk = root_disk.create_root_disk(layout, image, "raw", "qcow2", 64)
    root_disk.check_base(disk)
    with open(image, "r+b") as stream:
        stream.seek(MIB)
        stream.write(b"changed")
    os.utime(image, (1, 1))
    with pytest.raises(AssetError, match="must be as it was") as caught:
        root_disk.check_base(disk)
    assert "Put the image back" in caught.value.fix
    os.unlink(image)
    with pytest.raises(AssetError, match="missing"):
        root_disk.check_base(disk)


def test_a_copy_does_not_need_its_base(layout: SandboxLayout, image: str) -> None:
    disk = root_disk.create_root_disk(layout, image, "raw", "raw", 64)
    os.unlink(image)
    root_disk.check_base(disk)


def test_an_image_installed_again_with_the_same_content_is_taken(
    layout: SandboxLayout, tmp_path: pathlib.Path, image: str
) -> None:
    version = tmp_path / "assets/images/debian/12"
    version.mkdir(parents=True)
    base = str(version / "image")
    shutil.copy(image, base)
    files = {"image": {"sha256": digest(image), "mode": 0o644}}
    (version / ".asset.json").write_text(json.dumps({"files": files}))
    disk = root_disk.create_root_disk(layout, base, "raw", "qcow2", 64)
    assert disk.base_identity.endswith(f", sha256 {digest(image)}")
    os.unlink(base)
    shutil.copy(image, base)
    os.utime(base, (1, 1))
    root_disk.check_base(disk)
    with open(base, "ab") as stream:
        stream.write(b"more")
    with pytest.raises(AssetError, match=f"sha256 {digest(image)}"):
        root_disk.check_base(disk)


def test_another_image_for_a_disk_that_is_there_is_refused(
    layout: SandboxLayout, tmp_path: pathlib.Path, image: str
) -> None:
    root_disk.create_root_disk(layout, image, "raw", "qcow2", 64)
    other = str(tmp_path / "other.raw")
    shutil.copy(image, other)
    with pytest.raises(ConfigError, match="Remove the sandbox"):
        root_disk.plan_root_disk(layout, other, "raw", "qcow2", 64)
    with pytest.raises(ConfigError, match="Remove the sandbox"):
        root_disk.create_root_disk(layout, other, "raw", "qcow2", 64)
    with pytest.raises(ConfigError, match="never made smaller"):
        root_disk.plan_root_disk(layout, image, "raw", "qcow2", 63)


# --- grow and remove ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_a_disk_grows_and_never_shrinks(layout: SandboxLayout, image: str, kind: str) -> None:
    disk = root_disk.create_root_disk(layout, image, "raw", kind, 10)
    grown = root_disk.grow_root_disk(disk, 20)
    assert (grown.size_mb, qcow2.disk_size(disk.path, kind)) == (20, 20 * MIB)
    assert root_disk.find_root_disk(layout) == grown
    assert root_disk.grow_root_disk(grown, 20) == grown
    with pytest.raises(ConfigError, match="Set root_disk_mb to at least 20"):
        root_disk.grow_root_disk(grown, 19)
    assert qcow2.disk_size(disk.path, kind) == 20 * MIB


def test_an_overlay_whose_header_names_a_file_by_now_is_not_grown(layout: SandboxLayout, image: str) -> None:
    disk = root_disk.create_root_disk(layout, image, "raw", "qcow2", 10)
    subprocess.run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw", disk.path], check=True)
    with pytest.raises(AssetError, match="must not name other files"):
        root_disk.grow_root_disk(disk, 20)


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_removal_leaves_nothing_and_is_idempotent(layout: SandboxLayout, image: str, kind: str) -> None:
    root_disk.create_root_disk(layout, image, "raw", kind, 10)
    pathlib.Path(layout.state_dir, root_disk.DRAFT).touch()
    assert root_disk.remove_root_disk(layout)
    assert names(layout) == []
    assert not root_disk.remove_root_disk(layout)
    assert os.path.exists(image)


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
@pytest.mark.parametrize("step", ["_drop", "_write_record", "_make", "put_in_place"])
@pytest.mark.parametrize("killed", [True, False])
def test_a_creation_that_ends_at_any_step_converges(
    layout: SandboxLayout, image: str, monkeypatch: pytest.MonkeyPatch, kind: str, step: str, killed: bool
) -> None:
    """A kill does not run the code that cleans up, an error does."""
    if step == "_make":
        step = "_make_overlay" if kind == "qcow2" else "_make_copy"
    real = getattr(root_disk, step)

    def ends(*arguments: object) -> None:
        real(*arguments)
        if killed:
            patched.setattr(root_disk, "_drop", lambda _path: None)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(root_disk, step, ends)
        with pytest.raises((HostError, OSError)):
            root_disk.create_root_disk(layout, image, "raw", kind, 10)
    if not killed and step != "_drop":
        assert names(layout) == []
    disk = root_disk.create_root_disk(layout, image, "raw", kind, 10)
    assert names(layout) == ["root-disk.json", f"root.{kind}"]
    assert qcow2.disk_size(disk.path, kind) == 10 * MIB
    assert root_disk.remove_root_disk(layout)
    assert names(layout) == []


# --- the record --------------------------------------------------------------------------------------------------------


def test_a_record_comes_back(layout: SandboxLayout, image: str) -> None:
    disk = root_disk.create_root_disk(layout, image, "raw", "qcow2", 10)
    assert root_disk.RootDisk.from_record(json.loads(json.dumps(disk.as_record()))) == disk
    with pytest.raises(AnswerError):
        root_disk.RootDisk.from_record({**disk.as_record(), "size_mb": "ten"})


def test_a_description_of_another_disk_is_refused(layout: SandboxLayout, image: str) -> None:
    disk = root_disk.create_root_disk(layout, image, "raw", "qcow2", 10)
    note = pathlib.Path(layout.state_dir, "root-disk.json")
    note.write_text(json.dumps(dataclasses.replace(disk, path="/etc/shadow").as_record()))
    with pytest.raises(AssetError, match="this sandbox's own disk"):
        root_disk.find_root_disk(layout)
    note.write_text("garbage")
    with pytest.raises(AssetError, match="cannot be read"):
        root_disk.find_root_disk(layout)
    note.unlink()
    with pytest.raises(AssetError, match="must have a description"):
        root_disk.find_root_disk(layout)
    assert root_disk.remove_root_disk(layout)


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
@pytest.mark.parametrize("what", ["create", "grow", "remove"])
def test_killed_at_every_step_the_next_task_converges(tmp_path: pathlib.Path, image: str, what: str, kind: str) -> None:
    before = digest(image)

    def act(layout: SandboxLayout) -> None:
        if what == "remove":
            root_disk.remove_root_disk(layout)
            return
        disk = root_disk.create_root_disk(layout, image, "raw", kind, 10)
        if what == "grow":
            root_disk.grow_root_disk(disk, 20)

    for change in range(1, 60):
        layout = SandboxLayout("web", str(tmp_path / f"state-{change}"), str(tmp_path / "run"))
        os.makedirs(layout.state_dir, 0o700)
        if what != "create":
            root_disk.create_root_disk(layout, image, "raw", kind, 10)
        code = run_killed(pathlib.Path(layout.state_dir), change, functools.partial(act, layout))
        assert code in (0, KILLED)
        found = root_disk.find_root_disk(layout)
        if found is not None and kind == "qcow2":
            subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", found.path], check=True)
        act(layout)
        assert names(layout) == ([] if what == "remove" else ["root-disk.json", f"root.{kind}"])
        if what != "remove":
            now = root_disk.find_root_disk(layout)
            assert now is not None and now.size_mb == (20 if what == "grow" else 10)
            assert json.loads(pathlib.Path(layout.state_dir, "root-disk.json").read_text())["size_mb"] == now.size_mb
        assert digest(image) == before
        if code == 0:
            return
    raise AssertionError("the task makes more changes than expected")
