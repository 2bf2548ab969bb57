# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images: made again only for a reason, converted from the format that was named, refused when they are none or lead elsewhere."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import (
    AssetError,
    ConfigError,
    HostError,
    HypervisorError,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning import disk_image
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.built_files import BuiltFile
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.root_image import Recipe, User

needs_qemu_img = pytest.mark.skipif(not shutil.which("qemu-img") or not shutil.which("mke2fs"), reason="needs qemu-img and mke2fs")


class Maker:
    """Makes a file, and counts how often."""

    def __init__(self, words: bytes) -> None:
        self.words, self.times = words, 0

    def __call__(self, work: str) -> tuple[str, dict[str, Any]]:
        self.times += 1
        path = pathlib.Path(work, "made")
        path.write_bytes(self.words)
        return str(path), {"packages": ["a=1"]}


def test_it_is_made_again_only_for_a_reason(tmp_path: pathlib.Path) -> None:
    path, maker = tmp_path / "images/guest.img", Maker(b"words")
    image = BuiltFile(str(path))
    assert image.converge({"suite": "x"}, maker, check_mode=True)["actions"] == [f"make {path}"]
    assert not path.parent.exists()
    first = image.converge({"suite": "x"}, maker, check_mode=False)
    assert (first["changed"], first["size"], first["about"]) == (True, 5, {"packages": ["a=1"]})
    again = image.converge({"suite": "x"}, maker, check_mode=False)
    assert (again["changed"], again["sha256"], maker.times) == (False, first["sha256"], 1)
    assert image.converge({"suite": "y"}, maker, check_mode=True)["actions"] == [f"make {path} again, with another suite"]
    assert maker.times == 1
    path.write_bytes(b"evil")
    assert image.converge({"suite": "x"}, maker, check_mode=False)["actions"] == [f"make {path} again, which was altered"]
    assert path.read_bytes() == b"words"
    assert image.remove(check_mode=False)["changed"]
    assert [entry.name for entry in path.parent.iterdir()] == [".lock"]
    assert not image.remove(check_mode=False)["changed"]


def test_a_failure_leaves_the_old_one(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "guest.img"
    image = BuiltFile(str(path))
    image.converge({"n": 1}, Maker(b"old"), check_mode=False)

    def full(work: str) -> tuple[str, dict[str, Any]]:
        pathlib.Path(work, "half").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(HostError, match="the disk is full"):
        image.converge({"n": 2}, full, check_mode=False)
    assert path.read_bytes() == b"old"
    assert image.converge({"n": 1}, full, check_mode=False)["changed"] is False
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".guest.img.json", ".lock", "guest.img"]


@pytest.fixture
def ext4(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "root.ext4"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", str(path), "8M"], check=True)
    return path


@needs_qemu_img
def test_an_image_is_converted_and_made_larger(tmp_path: pathlib.Path, ext4: pathlib.Path) -> None:
    qcow2 = tmp_path / "root.qcow2"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(ext4), str(qcow2)], check=True)
    made = pathlib.Path(disk_image.convert(str(qcow2), "qcow2", "raw", 32, str(tmp_path)))
    assert made.stat().st_size == 32 << 20
    assert made.read_bytes()[: 8 << 20] == ext4.read_bytes()
    with pytest.raises(ConfigError, match="never made smaller"):
        disk_image.convert(str(qcow2), "qcow2", "raw", 4, str(tmp_path))


@needs_qemu_img
def test_the_format_that_was_named_counts(tmp_path: pathlib.Path, ext4: pathlib.Path) -> None:
    with pytest.raises(AssetError, match=r"no image of that format.*not in qcow2 format"):
        disk_image.convert(str(ext4), "qcow2", "raw", 0, str(tmp_path))
    # What claims to be qcow2 is bytes of a raw image, when raw is what was named.
    qcow2 = tmp_path / "root.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(qcow2), "8M"], check=True)
    with pytest.raises(AssetError, match="neither a partition table nor a file system"):
        disk_image.convert(str(qcow2), "raw", "raw", 0, str(tmp_path))


@needs_qemu_img
def test_an_image_that_reads_files_of_the_host_is_refused(tmp_path: pathlib.Path) -> None:
    secret, evil = tmp_path / "secret", tmp_path / "evil.qcow2"
    secret.write_bytes(b"secret" * 512)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(secret), "-F", "raw", str(evil)], check=True)
    with pytest.raises(AssetError, match=r"needs other files.*secret"):
        disk_image.convert(str(evil), "qcow2", "raw", 0, str(tmp_path))
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path}/data,data_file_raw=on", str(evil), "1M"], check=True)
    with pytest.raises(AssetError, match=r"needs other files.*data"):
        disk_image.convert(str(evil), "qcow2", "raw", 0, str(tmp_path))
    vmdk = tmp_path / "flat.vmdk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", str(vmdk), "1M"], check=True)
    with pytest.raises(AssetError, match=r"needs other files.*flat-flat"):
        disk_image.convert(str(vmdk), "vmdk", "raw", 0, str(tmp_path))


@pytest.mark.parametrize("check", [disk_image.check_raw_image, disk_image.check_initrd, disk_image.check_kernel])
@pytest.mark.parametrize("words", [b"", b"<html>404 Not Found</html>" * 100, bytes(1 << 17)])
def test_what_is_nothing_to_boot_from(tmp_path: pathlib.Path, check: Any, words: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(words)
    with pytest.raises(AssetError, match="this is no"):
        check(str(path))


@pytest.mark.parametrize(
    "options",
    [
        {"name": "Root"},
        {"name": "x:0:0"},
        {"name": "x", "groups": ["wheel,root"]},
        {"name": "x", "ssh_keys": ["ssh-ed25519 AAAA\nssh-ed25519 BBBB"]},
        {"name": "x", "ssh_keys": ["AAAA"]},
        {"name": "x", "shell": "sh"},
    ],
)
def test_what_is_no_user(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        User.parse(options)


@pytest.mark.parametrize("change", [{"suite": "--help"}, {"packages": ("a,b",)}, {"packages": ("-x",)}, {"hostname": "a b"}, {"size_mb": -1}])
def test_what_is_no_recipe(change: dict[str, Any]) -> None:
    with pytest.raises(HypervisorError):
        Recipe(**{"suite": "bookworm", "packages": ("systemd-sysv",), **change}).checked()
