# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images by name, and images that stay as long as a root disk is based on them."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError, ConfigError, HostError
from ansible_collections.kata.hypervisor.plugins.module_utils.host.units import MIB
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning import image_users
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.asset_store import AssetStore, Wanted
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.built_files import BuiltFile
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.installed_images import (
    installed_image,
    installed_names,
    recorded_digest,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.records.layout import SandboxLayout
from ansible_collections.kata.hypervisor.plugins.module_utils.resources import root_disk

IMAGE = (b"\0" * 510 + b"\x55\xaa").ljust(MIB, b"i")


class Host:
    """A state directory with assets."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.state = str(root / "state")

    def install(
        self, name: str, version: str, content: bytes = IMAGE, file: str = "image", place: str = "images"
    ) -> str:
        """Install a version of an asset as the modules do; its path."""
        store = self.store(name, place)
        source = self.root / "source"
        source.write_bytes(content)

        def fetch(work: str) -> str:
            return shutil.copy(source, os.path.join(work, "fetched"))

        store.install(version, [Wanted("", file)], fetch, None, "", True, False)
        return store.path(version, file)

    def store(self, name: str, place: str = "images") -> AssetStore:
        return AssetStore(os.path.join(self.state, "assets", place).rstrip("/"), name)

    def build(self, name: str, content: bytes = IMAGE, **recipe: Any) -> str:
        """Build a file as kata_disk_image does; its path."""
        path = os.path.join(self.state, "assets/images", name)

        def make(work: str) -> tuple[str, dict[str, Any]]:
            made = pathlib.Path(work, "made")
            made.write_bytes(content)
            return str(made), {}

        BuiltFile(path).converge(recipe, make, False)
        return path

    def disk(self, sandbox: str, base: str, disk_format: str = "qcow2") -> root_disk.RootDisk:
        """Give a sandbox a root disk."""
        layout = SandboxLayout(sandbox, self.state, self.state)
        os.makedirs(layout.state_dir, 0o700)
        return root_disk.create_root_disk(layout, base, "raw", disk_format)

    def disk_base(self, sandbox: str) -> str:
        """What a sandbox's root disk is based on."""
        found = root_disk.find_root_disk(SandboxLayout(sandbox, self.state, self.state))
        assert found is not None
        return found.base

    def drop(self, sandbox: str) -> None:
        """Take it away."""
        root_disk.remove_root_disk(SandboxLayout(sandbox, self.state, self.state))


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(image_users, "STATE_ROOT", str(tmp_path / "unused"))
    for module in (installed_image, installed_names):
        monkeypatch.setitem(module.__globals__, "STATE_ROOT", str(tmp_path / "unused"))
    return Host(tmp_path)


# --- by name -----------------------------------------------------------------------------------------------------------


def test_a_name_is_the_version_in_use_and_its_path_names_the_version(host: Host) -> None:
    first = host.install("debian", "12.1")
    assert installed_image("debian", host.state) == (first, "raw")
    second = host.install("debian", "12.2")
    assert installed_image("debian", host.state) == (second, "raw")
    assert second.endswith("/assets/images/debian/12.2/image")
    assert installed_image("debian:12.1", host.state) == (first, "raw")


def test_an_asset_of_one_file_is_found_by_any_name_of_the_file(host: Host) -> None:
    path = host.install("cloud", "1", file="disk.raw", place="")
    assert installed_image("cloud", host.state) == (path, "raw")


def test_a_built_file_is_found_with_and_without_its_ending(host: Host) -> None:
    path = host.build("guest.img")
    assert installed_image("guest", host.state) == installed_image("guest.img", host.state) == (path, "raw")


@pytest.mark.skipif(not shutil.which("qemu-img"), reason="the image is made with qemu-img")
def test_a_qcow2_image_is_known_by_its_content(host: Host, tmp_path: pathlib.Path) -> None:
    source = tmp_path / "made.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(source), "1M"], check=True)
    path = host.install("debian", "12", source.read_bytes())
    assert installed_image("debian", host.state) == (path, "qcow2")


def test_an_unknown_name_names_those_that_are_installed(host: Host) -> None:
    host.install("debian", "12.1")
    host.install("debian", "12.2")
    host.install("firecracker", "1.16", b"a program", "firecracker", "")
    host.build("guest.img")
    pathlib.Path(host.state, "assets/images/stray.img").write_bytes(IMAGE)
    assert installed_names(host.state) == ["debian", "debian:12.1", "guest.img"]
    for name in ("debain", "debian:13", "stray.img"):
        with pytest.raises(AssetError, match=r"installed are debian, debian:12\.1, guest\.img") as caught:
            installed_image(name, host.state)
        assert caught.value.option == "image"


def test_an_asset_that_is_no_image_is_refused(host: Host) -> None:
    host.install("firecracker", "1.16", b"a program", "firecracker", "")
    with pytest.raises(AssetError, match="must be an image"):
        installed_image("firecracker", host.state)


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "./x"])
def test_what_is_no_name_is_refused(host: Host, name: str) -> None:
    with pytest.raises(ConfigError, match="must be the absolute path of an image, or the name"):
        installed_image(name, host.state)


def test_the_digest_is_the_one_that_was_recorded(host: Host, tmp_path: pathlib.Path) -> None:
    digest = hashlib.sha256(IMAGE).hexdigest()
    assert recorded_digest(host.install("debian", "12")) == digest
    assert recorded_digest(host.build("guest.img")) == digest
    stray = tmp_path / "stray"
    stray.write_bytes(IMAGE)
    assert recorded_digest(str(stray)) == ""


# --- stays -------------------------------------------------------------------------------------------------------------

needs_qemu_img = pytest.mark.skipif(not shutil.which("qemu-img"), reason="the disks are made with qemu-img")


@needs_qemu_img
def test_a_version_stays_while_a_root_disk_is_based_on_it(host: Host) -> None:
    base = host.install("debian", "1")
    host.disk("web", base)
    store = host.store("debian")
    for version in ("2", "3", "4"):
        host.install("debian", version)
    # An upgrade with keep: 0 removes what nobody uses.
    assert store.prune(0, "", False) == ["remove debian 3", "remove debian 2"]
    assert os.path.exists(base)
    for version in ("1", ""):
        for check_mode in (True, False):
            with pytest.raises(HostError, match="debian 1 must stay: the root disk of sandbox web is based on it"):
                store.remove(version, check_mode)
    assert store.versions() == ["4", "1"]
    host.drop("web")
    assert store.remove("", False) == ["remove debian 4", "remove debian 1"]


@needs_qemu_img
def test_a_version_is_not_exchanged_for_another_content(host: Host) -> None:
    base = host.install("debian", "1")
    host.disk("web", base)
    with pytest.raises(HostError, match="sandbox web"):
        host.install("debian", "1", IMAGE + b"more", file="other")
    # But a damaged one is repaired.
    with open(base, "ab") as stream:
        stream.write(b"damage")
    host.install("debian", "1")
    assert pathlib.Path(base).read_bytes() == IMAGE


@needs_qemu_img
def test_a_built_image_can_be_built_again_and_what_it_was_stays(host: Host) -> None:
    path = host.build("guest.img", serial="1")
    old = host.disk("web", path)
    kept = pathlib.Path(old.base)
    assert kept.parent == pathlib.Path(path).parent / ".kept" and kept.samefile(path)
    root_disk.check_base(old)
    host.build("guest.img", IMAGE + bytes(512), serial="2")
    assert pathlib.Path(path).read_bytes() == IMAGE + bytes(512)
    assert kept.read_bytes() == IMAGE
    root_disk.check_base(old)
    new = host.disk("db", path)
    assert pathlib.Path(new.base).samefile(path) and new.base != old.base
    # The same disk, whatever has its image's name by now.
    layout = SandboxLayout("web", host.state, host.state)
    assert root_disk.create_root_disk(layout, path, "raw", "qcow2") == old
    host.drop("web")
    assert not kept.exists()
    assert installed_names(host.state) == ["guest.img"]
    with pytest.raises(HostError, match="the root disk of sandbox db is based on it"):
        BuiltFile(path).remove(True)
    host.drop("db")
    assert not kept.parent.exists()
    assert BuiltFile(path).remove(False)["changed"]
    assert os.listdir(os.path.dirname(path)) == [".lock"]


@needs_qemu_img
def test_disks_of_one_image_share_its_second_name(host: Host) -> None:
    path = host.build("guest.img")
    assert host.disk("one", path).base == host.disk("two", path).base
    host.drop("one")
    assert image_users.image_users(path) == [image_users.ImageUser("two", host.disk_base("two"))]
    assert os.path.exists(host.disk_base("two"))


@needs_qemu_img
def test_an_image_that_cannot_be_linked_is_not_replaced(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    path = host.build("guest.img", serial="1")

    def refused(*_arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", refused)
        assert host.disk("web", path).base == path
    for act in (lambda: host.build("guest.img", IMAGE + bytes(512), serial="2"), lambda: BuiltFile(path).remove(True)):
        with pytest.raises(HostError, match="the root disk of sandbox web is based on it"):
            act()
    assert pathlib.Path(path).read_bytes() == IMAGE
    assert host.build("guest.img", serial="1") == path


@needs_qemu_img
@pytest.mark.parametrize("kind", ["asset", "built"])
def test_sandboxes_of_another_state_dir_are_found(host: Host, tmp_path: pathlib.Path, kind: str) -> None:
    base = host.install("debian", "1") if kind == "asset" else host.build("guest.img")
    layout = SandboxLayout("far", str(tmp_path / "elsewhere"), host.state)
    os.makedirs(layout.state_dir)
    root_disk.create_root_disk(layout, base, "raw", "qcow2")
    assert host.store("debian").drift("1") == []
    assert installed_names(host.state) == [{"asset": "debian", "built": "guest.img"}[kind]]
    for check_mode in (True, False):
        with pytest.raises(HostError, match="the root disk of sandbox far is based on it"):
            host.store("debian").remove("", check_mode) if kind == "asset" else BuiltFile(base).remove(check_mode)
    root_disk.remove_root_disk(layout)
    assert host.store("debian").remove("", False) if kind == "asset" else BuiltFile(base).remove(False)["changed"]


def test_a_copy_keeps_nothing(host: Host) -> None:
    base = host.install("debian", "1")
    host.disk("web", base, "raw")
    assert image_users.users_of(base) == []
    assert host.store("debian").remove("", False) == ["remove debian 1"]


@needs_qemu_img
def test_links_and_other_paths_of_the_image_count(host: Host, tmp_path: pathlib.Path) -> None:
    base = host.install("debian", "1")
    link = tmp_path / "link"
    link.symlink_to(os.path.join(os.path.dirname(os.path.dirname(base)), "current"))
    host.disk("web", str(link / "image"))
    assert image_users.users_of(base) == ["web"]
    with pytest.raises(HostError, match="sandbox web"):
        host.store("debian").remove("1", False)


def test_what_cannot_be_read_is_nobodys(host: Host) -> None:
    base = host.install("debian", "1")
    for name, text in (("a", "garbage"), ("b", "[]"), ("c", json.dumps({"base": base}))):
        directory = pathlib.Path(host.state, "sandboxes", name)
        directory.mkdir(parents=True)
        (directory / "root-disk.json").write_text(text)
    assert image_users.image_users(base) == []
