# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file is the old one or the new one, and a failure leaves nothing beside it."""

from __future__ import annotations

import errno
import os
import pathlib
import signal
import threading

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import LockTimeout
from ansible_collections.kata.hypervisor.plugins.module_utils.host import atomic_files
from ansible_collections.kata.hypervisor.plugins.module_utils.host.atomic_files import (
    draft_directory,
    ensure_directory,
    locked,
    make_directories,
    put_in_place,
    replace_file,
)


def test_who_has_the_old_one_open_keeps_it(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "unit"
    replace_file(str(path), b"old")
    with open(path, "rb") as reader:
        replace_file(str(path), b"new", 0o600)
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_failure_leaves_the_old_one_and_nothing_else(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "unit"
    replace_file(str(path), b"old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic_files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        replace_file(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["unit"]


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens, in order: paths that are synced, and the new names of what is renamed."""
    done: list[str] = []
    fsync, rename, replace = os.fsync, os.rename, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: (done.append(os.readlink(f"/proc/self/fd/{descriptor}")), fsync(descriptor))[1]
    )
    monkeypatch.setattr(os, "rename", lambda old, new: (done.append(f"to {new}"), rename(old, new))[1])
    monkeypatch.setattr(os, "replace", lambda old, new: (done.append(f"to {new}"), replace(old, new))[1])
    return done


def test_a_file_is_synced_before_its_name_and_the_directory_after(tmp_path: pathlib.Path, synced: list[str]) -> None:
    replace_file(str(tmp_path / "unit"), b"new")
    draft, renamed, directory = synced
    assert draft.startswith(f"{tmp_path}/.unit-") and (renamed, directory) == (f"to {tmp_path}/unit", str(tmp_path))


def test_a_tree_is_synced_before_its_name_and_both_directories_after(tmp_path: pathlib.Path, synced: list[str]) -> None:
    (tmp_path / "work/tree/deep").mkdir(parents=True)
    (tmp_path / "work/tree/deep/file").write_text("x")
    (tmp_path / "work/tree/link").symlink_to("nowhere")
    put_in_place(str(tmp_path / "work/tree"), str(tmp_path / "final"))
    at = synced.index(f"to {tmp_path}/final")
    assert set(synced[:at]) == {f"{tmp_path}/work/tree{name}" for name in ("", "/deep", "/deep/file")}
    assert synced[at + 1 :] == [str(tmp_path), f"{tmp_path}/work"]
    (tmp_path / "work/link").symlink_to("final")
    put_in_place(str(tmp_path / "work/link"), str(tmp_path / "current"))
    assert os.readlink(tmp_path / "current") == "final"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_directories_have_the_mode_whatever_the_umask(tmp_path: pathlib.Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        make_directories(str(tmp_path / "a/b/c"), 0o755)
        make_directories(str(tmp_path / "a/b/c"), 0o700)
        make_directories(str(tmp_path / "p/q"), 0o700)
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b", "a/b/c", "p", "p/q")] == [
        0o755,
        0o755,
        0o755,
        0o700,
        0o700,
    ]
    (tmp_path / "a").chmod(0o777)
    ensure_directory(str(tmp_path / "a"))
    (tmp_path / "p").chmod(0o700)
    ensure_directory(str(tmp_path / "p"))
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "p")] == [0o755, 0o755]
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"exists|Not a directory"):
        make_directories(str(tmp_path / "file/x"))


def test_a_lock_that_another_process_holds_names_it(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "lock")
    reading, writing = os.pipe()
    holder = os.fork()
    if holder == 0:
        with locked(path, 1, "it"):
            os.write(writing, b"x")
            signal.pause()
    try:
        os.read(reading, 1)
        with (
            pytest.raises(LockTimeout, match="another task has held the lock of the things") as caught,
            locked(path, 0.2, "the things", "root"),
        ):
            pass
        assert (caught.value.option, caught.value.wanted) == ("root", path)
        assert caught.value.answer.startswith(f"the lock is held by process {holder} (")
    finally:
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
    with locked(path, 0.2, "the things"):
        pass


def test_a_lock_is_no_link(tmp_path: pathlib.Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic link"), locked(str(tmp_path / "lock"), 1, "it"):
        pass
    assert not (tmp_path / "other").exists()


def test_drafts_go_when_nobody_works_on_them(tmp_path: pathlib.Path) -> None:
    (tmp_path / ".new-left/deep").mkdir(parents=True)
    (tmp_path / ".new-file").write_text("no draft of ours")
    (tmp_path / ".new-link").symlink_to("/etc")
    with draft_directory(str(tmp_path)) as first, draft_directory(str(tmp_path)) as second:
        assert os.path.isdir(first) and os.path.isdir(second)
        assert os.stat(first).st_mode & 0o777 == 0o700
        assert not (tmp_path / ".new-left").exists()
    assert sorted(os.listdir(tmp_path)) == [".new-file", ".new-link"]


def test_many_at_once_do_not_take_each_others_drafts(tmp_path: pathlib.Path) -> None:
    problems: list[str] = []

    def work() -> None:
        for _number in range(20):
            with draft_directory(str(tmp_path)) as draft:
                pathlib.Path(draft, "file").write_text("x")
                if not os.path.exists(os.path.join(draft, "file")):
                    problems.append(draft)

    threads = [threading.Thread(target=work) for _number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == [] and os.listdir(tmp_path) == []
