# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages are unpacked aside and moved into place; damage shows; nothing that works is lost to a failure."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import (
    AssetError,
    ConfigError,
    HostError,
    LockTimeout,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.host.atomic_files import locked
from ansible_collections.kata.hypervisor.plugins.module_utils.host.programs import Ended
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning import packages
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.archives import Tree
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.packages import (
    Apt,
    Dnf,
    Package,
    PackageStore,
)

NAME = "linux-image-cloud-amd64"
RELEASE = "6.1.0-56-cloud-amd64"


class Distribution:
    """Stands for the distribution: offers one version, unpacks a kernel of that version."""

    def __init__(self) -> None:
        self.version = "1:6.1-1"
        self.downloads = 0
        self.refreshes = 0
        self.known = True
        self.fail = ""

    def resolve(self, name: str, follow: str) -> list[Package]:
        if not self.known:
            raise HostError("no such package")
        return [Package(name, self.version)]

    def refresh(self) -> None:
        self.refreshes += 1
        self.known = True

    def download(self, wanted: list[Package], directory: str) -> list[str]:
        if self.fail == "download":
            raise HostError("no network")
        self.downloads += 1
        return [os.path.join(directory, "one.deb")]

    def unpack(self, file: str, tree: Tree) -> None:
        root = pathlib.Path(tree.path)
        (root / "boot").mkdir()
        (root / f"lib/modules/{RELEASE}").mkdir(parents=True)
        (root / f"boot/vmlinuz-{RELEASE}").write_text(self.version)
        if self.fail == "unpack":
            raise HostError("no space left on device")
        (root / f"boot/config-{RELEASE}").write_text("CONFIG_X=y\n")


@pytest.fixture
def distribution(monkeypatch: pytest.MonkeyPatch) -> Distribution:
    made = Distribution()
    monkeypatch.setattr(packages, "package_manager", lambda: made)
    return made


@pytest.fixture
def store(tmp_path: pathlib.Path) -> PackageStore:
    return PackageStore(str(tmp_path / "kernels"))


def names(store: PackageStore) -> list[str]:
    return sorted(name for name in os.listdir(store.root) if name != ".lock")


def test_unpacked_once_and_then_left_alone(store: PackageStore, distribution: Distribution) -> None:
    first = store.converge(NAME, "present")
    assert first["changed"] and first["kernel"]["release"] == RELEASE
    assert pathlib.Path(first["kernel"]["path"]).read_text() == "1:6.1-1"
    assert first["directory"].endswith(f"{NAME}_1-6.1-1")
    distribution.version = "1:6.1-2"
    again = store.converge(NAME, "present")
    assert not again["changed"] and again["kernel"] == first["kernel"]
    assert distribution.downloads == 1


def test_latest_follows_and_keeps_the_old(store: PackageStore, distribution: Distribution) -> None:
    old = store.converge(NAME, "latest")
    distribution.version = "1:6.1-2"
    new = store.converge(NAME, "latest")
    assert new["changed"] and new["version"] == "1:6.1-2"
    assert os.path.exists(old["kernel"]["path"])
    assert not store.converge(NAME, "latest")["changed"]
    assert os.path.realpath(os.path.join(store.root, NAME)) == new["directory"]


@pytest.mark.parametrize("damage", ["alter", "remove", "add", "record"])
def test_damage_is_repaired(store: PackageStore, distribution: Distribution, damage: str) -> None:
    kernel = pathlib.Path(store.converge(NAME, "present")["kernel"]["path"])
    if damage == "alter":
        kernel.write_text("evil")
    elif damage == "remove":
        kernel.unlink()
    elif damage == "add":
        (kernel.parent / "extra").write_text("")
    else:
        (kernel.parents[1] / "package.json").write_text("{")
    result = store.converge(NAME, "present", check_mode=True)
    assert result["changed"] and "repair" in result["actions"][0]
    assert store.converge(NAME, "present")["changed"]
    assert kernel.read_text() == "1:6.1-1"
    assert not store.converge(NAME, "present")["changed"]


@pytest.mark.parametrize("fail", ["download", "unpack"])
def test_a_failure_leaves_what_works(store: PackageStore, distribution: Distribution, fail: str) -> None:
    old = store.converge(NAME, "present")
    distribution.version, distribution.fail = "1:6.1-2", fail
    with pytest.raises(HostError):
        store.converge(NAME, "latest")
    assert names(store) == [NAME, f"{NAME}_1-6.1-1"]
    assert store.converge(NAME, "present")["kernel"] == old["kernel"]


def test_old_lists_are_fetched_anew(store: PackageStore, distribution: Distribution) -> None:
    distribution.known = False
    assert store.converge(NAME, "present")["changed"]
    assert distribution.refreshes == 1


def test_check_mode_touches_nothing(store: PackageStore, distribution: Distribution) -> None:
    distribution.known = False
    assert store.converge(NAME, "present", check_mode=True)["version"] == "unknown"
    assert distribution.refreshes == 0
    assert not os.path.exists(store.root)


def test_absent_removes_all_versions_of_this_package_only(store: PackageStore, distribution: Distribution) -> None:
    assert not store.converge(NAME, "absent")["changed"]
    store.converge(NAME, "present")
    distribution.version = "2"
    store.converge(NAME, "latest")
    store.converge("busybox-static", "present")
    assert store.converge(NAME, "absent", check_mode=True)["changed"]
    assert store.converge(NAME, "absent")["actions"] == [f"remove {NAME}_1-6.1-1", f"remove {NAME}_2"]
    assert names(store) == ["busybox-static", "busybox-static_2"]


@pytest.mark.parametrize("name", ["", "../evil", "-o", "a/b", "a b"])
def test_a_name_cannot_lead_elsewhere(store: PackageStore, name: str) -> None:
    with pytest.raises(ConfigError):
        store.converge(name, "present")


SHOWN = {
    "linux-image-virtual": "Package: linux-image-virtual\nVersion: 5.15.1\nDepends: linux-image-5.15.0-1-generic, other (>= 2)\n",
    "linux-image-5.15.0-1-generic": (
        "Package: linux-image-5.15.0-1-generic\nVersion: 5.15.0-1.1\nDepends: kmod, linux-modules-5.15.0-1-generic:any\n"
        "Description: a\n with Version: 9 inside\n\nPackage: second\nVersion: 8\n"
    ),
    "linux-modules-5.15.0-1-generic": "Package: linux-modules-5.15.0-1-generic\nVersion: 5.15.0-1.1\n",
}


def test_apt_follows_matching_dependencies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        packages,
        "run",
        lambda argv, *_rest, **_more: Ended(argv, 0, "\n\n".join(SHOWN[name] for name in argv[4:]).encode(), ""),
    )
    assert Apt().resolve("linux-image-virtual", "^linux-(image|modules)-[0-9]") == [
        Package("linux-image-virtual", "5.15.1"),
        Package("linux-image-5.15.0-1-generic", "5.15.0-1.1"),
        Package("linux-modules-5.15.0-1-generic", "5.15.0-1.1"),
    ]
    assert len(Apt().resolve("linux-image-virtual", "")) == 1


def test_a_package_that_rpm_cannot_read_is_an_error_with_its_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "rpm2cpio").write_text("#!/bin/sh\necho 'argument is not an RPM package' >&2\nexit 1\n")
    (tmp_path / "rpm2cpio").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(HostError, match="rpm2cpio failed with exit code 1") as caught:
        (tmp_path / "odd.rpm").write_bytes(b"odd")
        Dnf().unpack(str(tmp_path / "odd.rpm"), Tree(str(tmp_path)))
    assert caught.value.answer == "argument is not an RPM package"


def test_names_are_compared_as_they_are(store: PackageStore, distribution: Distribution) -> None:
    """Removing mod does not touch mod_ssl, which is another package."""
    for name in ("mod", "mod_ssl", "mod_2"):
        store.converge(name, "present")
    assert store.converge("mod", "absent")["actions"] == ["remove mod_1-6.1-1"]
    assert names(store) == ["mod_2", "mod_2_1-6.1-1", "mod_ssl", "mod_ssl_1-6.1-1"]
    assert not store.converge("mod_ssl", "present")["changed"]


def test_drafts_of_tasks_that_were_killed_are_removed(store: PackageStore, distribution: Distribution) -> None:
    store.converge(NAME, "present")
    os.makedirs(os.path.join(store.root, ".new-killed/tree/boot"))
    distribution.version = "2"
    store.converge(NAME, "latest")
    assert names(store) == [NAME, f"{NAME}_1-6.1-1", f"{NAME}_2"]


def test_modes_are_what_the_code_says_whatever_the_umask(store: PackageStore, distribution: Distribution) -> None:
    for number, umask in enumerate((0o000, 0o077)):
        before = os.umask(umask)
        try:
            distribution.version = str(number)
            directory = store.converge(NAME, "latest")["directory"]
        finally:
            os.umask(before)
        assert os.stat(store.root).st_mode & 0o777 == os.stat(directory).st_mode & 0o777 == 0o755


def test_a_lock_that_is_held_has_a_limit_and_names_its_holder(
    store: PackageStore, distribution: Distribution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "_LOCK_SECONDS", 0.2)
    os.makedirs(store.root)
    with (
        locked(os.path.join(store.root, ".lock"), 1, "it"),
        pytest.raises(LockTimeout, match="held the lock of the packages") as caught,
    ):
        store.converge(NAME, "present")
    assert f"process {os.getpid()} " in caught.value.answer


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="this machine has no dpkg-deb")
def test_a_package_of_debian(tmp_path: pathlib.Path) -> None:
    """One that is well made, and one whose links lead outside, through which its files would go."""
    for name, target in (("good", "real"), ("evil", "../../outside")):
        source, tree = tmp_path / name, tmp_path / f"{name}-tree"
        (source / "DEBIAN").mkdir(parents=True)
        (source / "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.com>\nDescription: x\n"
        )
        (source / "lib/real").mkdir(parents=True)
        (source / "lib/real/file").write_text("content")
        (source / "lib/link").symlink_to(target)
        (source / "lib/absolute").symlink_to("/lib/real/file")
        subprocess.run(
            ["dpkg-deb", "--build", str(source), str(tmp_path / f"{name}.deb")], check=True, capture_output=True
        )
        tree.mkdir()
        unpacked = Tree(str(tree))
        if name == "evil":
            with pytest.raises(AssetError, match="leads outside"):
                Apt().unpack(str(tmp_path / f"{name}.deb"), unpacked)
            assert not (tmp_path / "outside").exists()
        else:
            Apt().unpack(str(tmp_path / f"{name}.deb"), unpacked)
            unpacked.finish()
            assert (tree / "lib/link/file").read_text() == (tree / "lib/absolute").read_text() == "content"
    (tmp_path / "broken.deb").write_bytes(b"!<arch>\nbroken")
    with pytest.raises(HostError, match="dpkg-deb failed"):
        Apt().unpack(str(tmp_path / "broken.deb"), Tree(str(tmp_path)))


def test_apt_is_asked_once_for_all_dependencies_of_one_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call of apt-cache reads the lists of all packages, which takes a good part of a second."""
    depends = {
        "agent": "libc6 (>= 2.38), libglib2.0-0t64, init-system, libvirtual",
        "libc6": "libgcc-s1",
        "libglib2.0-0t64": "libc6, libffi8 (>= 3.4), zlib1g:any",
        "libgcc-s1": "libc6",
        "libffi8": "",
        "zlib1g": "libc6",
    }
    calls: list[list[str]] = []

    def run(argv: list[str], *more: object, **options: object) -> Ended:
        wanted = argv[argv.index("--no-all-versions") + 1 :]
        calls.append(wanted)
        records = [f"Package: {name}\nVersion: 1\nDepends: {depends[name]}\n" for name in wanted if name in depends]
        return Ended(argv, 0 if records else 100, "\n".join(records).encode(), "")

    monkeypatch.setattr(packages, "run", run)
    found = Apt().resolve("agent", "^z?lib")
    assert [package.name for package in found] == [
        "agent",
        "libc6",
        "libglib2.0-0t64",
        "libgcc-s1",
        "libffi8",
        "zlib1g",
    ]
    assert [sorted(names) for names in calls] == [
        ["agent"],
        ["libc6", "libglib2.0-0t64", "libvirtual"],
        ["libffi8", "libgcc-s1", "zlib1g"],
    ]
    with pytest.raises(HostError, match="offers no package missing"):
        Apt().resolve("missing", "")
