# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a jail's user puts into its jail, nothing outside of it is read, written, given away or waited for."""

from __future__ import annotations

import os
import pathlib
import shutil
import stat
import threading
from typing import Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HostError
from ansible_collections.kata.hypervisor.plugins.module_utils.host import mounts
from ansible_collections.kata.hypervisor.plugins.module_utils.host.processes import tail
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker import (
    jail_files,
    jailer,
    snapshots,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.state import Jail
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.vmm import jailed_pid
from ansible_collections.kata.hypervisor.plugins.module_utils.untrusted.files import UntrustedFile

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has jails")
USER = 0x70000123


@pytest.fixture
def jail(tmp_path: pathlib.Path) -> Iterator[Jail]:
    made = Jail(str(tmp_path / "jails"), "firecracker", "web", USER, USER)
    jail_files.make(made)
    os.chown(made.root, USER, USER)  # The jailer does that.
    yield made
    jail_files.remove(made)
    assert not os.path.exists(made.directory) and mounts.points_below(made.base) == []


@pytest.fixture
def outside(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file of root's that must stay as it is."""
    path = tmp_path / "outside"
    path.write_text("root's own")
    path.chmod(0o600)
    yield path
    found = path.stat()
    assert path.read_text() == "root's own" and (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, 0o600)


def put(path: str, what: str, target: object = None) -> None:
    """Something of a kind at a path."""
    if what == "link":
        os.symlink(str(target), path)
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "directory":
        os.mkdir(path)
    else:
        pathlib.Path(path).touch()


def disk(tmp_path: pathlib.Path, name: str = "disk", mode: int = 0o666) -> str:
    path = tmp_path / name
    path.write_bytes(b"disk" * 1024)
    path.chmod(mode)
    return str(path)


def test_a_fifo_in_the_place_of_the_pid_file_or_the_log_is_not_waited_for(jail: Jail, tmp_path: pathlib.Path) -> None:
    for name in ("firecracker.pid", "vmm.log"):
        os.mkfifo(jail.path(name))
    assert jailed_pid(jail) == 0
    jail_files.keep_log(jail, "vmm.log", str(tmp_path / "kept"))
    assert not (tmp_path / "kept").exists()
    assert tail(jail.path("vmm.log")) == ""


@pytest.mark.parametrize("content", ["", "x", "-1", "0", "1", "9" * 16, "9" * 5000, "١٢"])
def test_a_pid_file_of_any_content_names_nobody_who_does_not_live_there(jail: Jail, content: str) -> None:
    pathlib.Path(jail.path("firecracker.pid")).write_text(content)
    assert jailed_pid(jail) == 0


def test_links_in_the_places_of_files_are_not_followed(
    jail: Jail, outside: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    for name in ("disk_d", ".new-disk_d", "copy", ".new-copy", "vmm.log", "firecracker.pid", "snapshot"):
        os.symlink(outside, jail.path(name))
    jail_files.bring(jail, disk(tmp_path), "disk_d", read_only=False)
    assert os.path.samefile(jail.path("disk_d"), tmp_path / "disk")
    jail_files.bring(jail, disk(tmp_path, "secret", 0o600), "copy", read_only=True)
    copied = os.lstat(jail.path("copy"))
    assert (copied.st_uid, stat.S_IMODE(copied.st_mode), stat.S_ISREG(copied.st_mode)) == (USER, 0o400, True)
    with pytest.raises(FileExistsError):
        jail_files.make_file(jail, "vmm.log")
    assert jail_files.tail(jail, "vmm.log", 100) == b"" and jailed_pid(jail) == 0
    jail_files.make_directory(jail, "snapshot").close()
    assert os.lstat(jail.path("snapshot")).st_uid == USER


@pytest.mark.parametrize("what", ["directory", "fifo", "link", "file"])
def test_what_has_a_disks_name_is_replaced(
    jail: Jail, tmp_path: pathlib.Path, outside: pathlib.Path, what: str
) -> None:
    """A task was killed between the link and the request, or the jail's user put something there."""
    for name in ("disk_d", ".new-disk_d"):
        path = pathlib.Path(jail.path(name))
        if what == "directory":
            (path / "deep").mkdir(parents=True)
            (path / "deep/link").symlink_to(outside)
        else:
            put(str(path), what, outside)
    jail_files.bring(jail, disk(tmp_path), "disk_d", read_only=False)
    assert os.path.samefile(jail.path("disk_d"), tmp_path / "disk")
    jail_files.drop(jail, "disk_d")
    jail_files.drop(jail, "disk_d")
    assert not os.path.lexists(jail.path("disk_d")) and os.path.exists(tmp_path / "disk")


def test_a_disk_that_cannot_be_brought_leaves_the_old_one_there(jail: Jail, tmp_path: pathlib.Path) -> None:
    jail_files.bring(jail, disk(tmp_path), "disk_d", read_only=False)
    with pytest.raises(HostError, match="cannot be brought"):
        jail_files.bring(jail, str(tmp_path / "nowhere"), "disk_d", read_only=False)
    assert os.path.samefile(jail.path("disk_d"), tmp_path / "disk")


def test_only_what_was_written_in_the_passage_is_taken_out(
    jail: Jail, outside: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """The directory is exchanged for one with the files of another sandbox, or its files for links."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "memory").write_text("another guest's")
    target = tmp_path / "saved"
    target.mkdir()
    with jail_files.make_directory(jail, "snapshot") as passage:
        pathlib.Path(jail.path("snapshot/memory")).write_text("its own")
        os.chown(jail.path("snapshot/memory"), USER, USER)
        os.rename(jail.path("snapshot"), jail.path("elsewhere"))
        os.symlink(other, jail.path("snapshot"))
        snapshots._take_out(jail, passage, "memory", str(target / "memory"))
        taken = (target / "memory").stat()
        assert (target / "memory").read_text() == "its own" and (taken.st_uid, stat.S_IMODE(taken.st_mode)) == (
            0,
            0o600,
        )
        inside = pathlib.Path(jail.path("elsewhere"))
        for make in (
            lambda path: path.symlink_to(outside),
            lambda path: os.link(other / "memory", path),
            os.mkfifo,
            pathlib.Path.mkdir,
            lambda path: path.write_text("root wrote that"),
        ):
            make(inside / "state")
            with pytest.raises((OSError, HostError, snapshots.VmmError)):
                snapshots._take_out(jail, passage, "state", str(target / "state"))
            assert not os.path.lexists(target / "state")
            (inside / "state").rmdir() if (inside / "state").is_dir() and not (inside / "state").is_symlink() else (
                inside / "state"
            ).unlink()
    assert (other / "memory").read_text() == "another guest's"


def test_a_mount_is_found_and_removed_wherever_its_directory_went(jail: Jail, tmp_path: pathlib.Path) -> None:
    shm = pathlib.Path("/dev/shm") / tmp_path.name
    shm.mkdir()
    try:
        jail_files.bring(jail, disk(shm), "disk_far", read_only=False)
        assert os.path.samefile(jail.path("disk_far"), shm / "disk")
        assert [point.path for point in mounts.points_below(jail.directory)] == [jail.path("disk_far")]
        jail_files.bring(jail, disk(shm, "two"), "disk_far", read_only=False)
        assert os.path.samefile(jail.path("disk_far"), shm / "two")
        jail_files.drop(jail, "disk_far")
        assert mounts.points_below(jail.directory) == [] and not os.path.lexists(jail.path("disk_far"))
        jail_files.bring(jail, disk(shm), "disk_far", read_only=False)
        jail_files.remove(jail)
        assert (shm / "disk").stat().st_size == 4096
        jail_files.make(jail)
    finally:
        shutil.rmtree(shm)


def test_a_mount_elsewhere_is_not_taken_for_one_in_the_jail(jail: Jail, tmp_path: pathlib.Path) -> None:
    """A link in the place of a directory leads to a mount of somebody else's."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    target = elsewhere / "disk"
    target.touch()
    source, over = os.open(disk(tmp_path), os.O_RDONLY), os.open(target, os.O_RDONLY)
    mounts.bind(source, over)
    os.close(source)
    os.close(over)
    try:
        os.symlink(elsewhere, jail.path("dir"))
        (point,) = mounts.points_below(str(elsewhere))
        mounts._detach_at(jail.directory, mounts.MountPoint(point.number, jail.path("dir/disk")))
        mounts._detach_at(jail.directory, mounts.MountPoint(point.number, str(target)))
        assert mounts.points_below(str(elsewhere)) == [point]
    finally:
        mounts.remove_below(str(tmp_path), str(elsewhere))


def test_a_jail_is_removed_though_somebody_adds_to_it(jail: Jail, outside: pathlib.Path) -> None:
    """A process of the jail's user that was not found goes on with a descriptor of a directory in it."""
    os.mkdir(jail.path("deep"))
    os.chown(jail.path("deep"), USER, USER)
    child = os.fork()
    if child == 0:
        directories = [os.open(path, os.O_RDONLY) for path in (jail.root, jail.path("deep"))]
        os.setgroups([])
        os.setgid(USER)
        os.setuid(USER)
        for number in range(100_000):
            directory = directories[number % 2]
            try:
                if number % 3:
                    os.mkdir(f"d{number}", dir_fd=directory)
                else:
                    os.symlink(outside, f"l{number}", dir_fd=directory)
            except OSError:
                pass
        os._exit(0)
    try:
        jail_files.remove(jail)
        assert not os.path.exists(jail.directory)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        jail_files.make(jail)


def test_files_exchanged_in_a_loop_lead_nowhere(jail: Jail, outside: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Names of the jail change between link, directory, FIFO and file as fast as they can, while the engine works there."""
    over = threading.Event()
    names = ("disk_d", ".new-disk_d", "snapshot", "firecracker.pid")

    def exchange() -> None:
        turn = 0
        while not over.is_set():
            turn += 1
            path = jail.path(names[turn % len(names)])
            try:
                shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
                put(path, ("link", "directory", "fifo", "link")[turn // 4 % 4], (outside, tmp_path)[turn % 2])
            except OSError:
                pass

    attacker = threading.Thread(target=exchange)
    attacker.start()
    source = disk(tmp_path)
    try:
        for _round in range(300):
            for act in (
                lambda: jail_files.bring(jail, source, "disk_d", read_only=False),
                lambda: jail_files.bring(jail, source, "disk_d", read_only=True),
                lambda: jail_files.drop(jail, "disk_d"),
                lambda: jail_files.make_directory(jail, "snapshot").close(),
                lambda: jail_files.make_file(jail, "disk_d"),
                lambda: jailed_pid(jail),
            ):
                try:
                    act()
                except (UntrustedFile, HostError, OSError):
                    pass
    finally:
        over.set()
        attacker.join()
    found = os.stat(source)
    assert (found.st_uid, stat.S_IMODE(found.st_mode), found.st_size) == (0, 0o666, 4096)
    assert os.stat(tmp_path).st_uid == 0
    assert jailer.cgroups(jail) == []
