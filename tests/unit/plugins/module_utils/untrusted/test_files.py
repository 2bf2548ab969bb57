# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing in a directory that others can write to leads out of it, blocks, or gets past a check."""

from __future__ import annotations

import os
import pathlib
import stat

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HostError
from ansible_collections.kata.hypervisor.plugins.module_utils.untrusted.files import (
    Directory,
    UntrustedFile,
    check_parents,
)


@pytest.fixture
def directory(tmp_path: pathlib.Path) -> Directory:
    (tmp_path / "jail").mkdir()
    return Directory.open(str(tmp_path / "jail"))


def test_a_link_is_not_followed(directory: Directory, tmp_path: pathlib.Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("root's")
    os.symlink(outside, tmp_path / "jail/log")
    with pytest.raises((OSError, UntrustedFile)):
        directory.open_file("log", os.O_WRONLY)
    with pytest.raises(FileExistsError):
        directory.create("log", 0o666)
    assert directory.tail("log", 100) == b""
    directory.unlink("log")
    assert outside.read_text() == "root's"


def test_a_fifo_does_not_block(directory: Directory, tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "jail/pid")
    with pytest.raises(UntrustedFile, match="a FIFO"):
        directory.read("pid")
    assert directory.tail("pid", 10) == b""


@pytest.mark.parametrize("name", ["", ".", "..", "../outside", "a/b", "/etc/passwd", "a\0b"])
def test_a_name_is_one_component(directory: Directory, name: str) -> None:
    for use in (
        directory.open_file,
        directory.create,
        directory.make_directory,
        directory.unlink,
        directory.remove,
        directory.enter,
    ):
        with pytest.raises(UntrustedFile):
            use(name)


def test_a_hard_link_is_seen(directory: Directory, tmp_path: pathlib.Path) -> None:
    (tmp_path / "shadow").write_text("secret")
    os.link(tmp_path / "shadow", tmp_path / "jail/memory")
    with pytest.raises(UntrustedFile, match="it has 2"):
        directory.open_file("memory", links=1)


def test_too_large_is_refused(directory: Directory, tmp_path: pathlib.Path) -> None:
    (tmp_path / "jail/pid").write_bytes(b"1" * 11)
    with pytest.raises(UntrustedFile, match="at most 10 bytes"):
        directory.read("pid", 10)
    assert directory.tail("pid", 3) == b"111"


@pytest.mark.parametrize("umask", [0, 0o077, 0o777])
def test_modes_do_not_depend_on_the_umask(directory: Directory, tmp_path: pathlib.Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        os.close(directory.create("file", 0o640))
        directory.make_directory("sub", 0o710).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "jail/file").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "jail/sub").stat().st_mode) == 0o710


def test_a_link_to_an_open_file(directory: Directory, tmp_path: pathlib.Path) -> None:
    source = tmp_path / "disk"
    source.write_text("data")
    descriptor = os.open(source, os.O_RDONLY)
    directory.link(descriptor, "disk_data")
    os.close(descriptor)
    assert os.path.samefile(source, tmp_path / "jail/disk_data")


def test_everything_below_is_removed_whatever_its_depth(directory: Directory, tmp_path: pathlib.Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("kept")
    deep = directory.make_directory("deep")
    os.symlink(tmp_path / "kept", tmp_path / "jail/deep/link")
    os.symlink(tmp_path / "kept/file", tmp_path / "jail/link")
    descriptor = deep.descriptor
    for _level in range(3000):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    deep.descriptor = -1
    directory.clear()
    assert directory.names() == []
    assert (tmp_path / "kept/file").read_text() == "kept"
    directory.remove("not there")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_parents_must_be_closed_to_others(tmp_path: pathlib.Path) -> None:
    place = tmp_path / "a/b"
    place.mkdir(parents=True)
    os.chmod(tmp_path / "a", 0o755)
    check_parents(str(place), "state_dir")
    check_parents(str(place / "not/there"), "state_dir")
    os.chmod(tmp_path / "a", 0o777)
    with pytest.raises(HostError, match="others can write"):
        check_parents(str(place), "state_dir")
    os.chmod(tmp_path / "a", 0o1777)
    check_parents(str(place), "state_dir")
    os.chmod(tmp_path / "a", 0o755)
    os.chown(tmp_path / "a", 65534, 65534)
    with pytest.raises(HostError, match="belongs to user 65534"):
        check_parents(str(place), "state_dir")
    os.chown(tmp_path / "a", 0, 0)
    (tmp_path / "open").mkdir()
    os.chmod(tmp_path / "open", 0o777)
    (tmp_path / "open/state").mkdir()
    os.symlink(tmp_path / "open/state", tmp_path / "a/link")
    with pytest.raises(HostError, match="open has mode 0777"):
        check_parents(str(tmp_path / "a/link"), "state_dir")
    os.symlink("loop", tmp_path / "a/loop")
    with pytest.raises(HostError, match="so many symbolic links"):
        check_parents(str(tmp_path / "a/loop"), "state_dir")


def test_what_is_new_may_be_in_a_directory_with_the_sticky_bit(tmp_path: pathlib.Path) -> None:
    """As in /tmp: nobody else can move what is ours there. The directory itself must not be such a one."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    check_parents(str(shared / "new"), "root", itself=False)
    check_parents(str(shared / "new" / "er"), "root")
    with pytest.raises(HostError, match="others can write to it"):
        check_parents(str(shared), "root")
