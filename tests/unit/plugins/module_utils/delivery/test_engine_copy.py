# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The copy that a host keeps is the one that was asked for, whole, and nobody else's."""

from __future__ import annotations

import os
import pathlib
import shutil
import time

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.delivery.engine_copy import (
    UNUSED_SECONDS,
    EngineCopy,
    archive_of,
    digest_of,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.delivery.engine_installation import install
from ansible_collections.kata.hypervisor.plugins.plugin_utils.engine import engine_files

FILES = {"modules/kata_one.py": b"ANSWER = 1\n", "module_utils/two.py": b"ANSWER = 2\n"}


@pytest.fixture
def archive(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "engine.zip"
    path.write_bytes(archive_of(FILES))
    return str(path)


@pytest.fixture
def copy(tmp_path: pathlib.Path) -> EngineCopy:
    return EngineCopy(digest_of(FILES), str(tmp_path / "engine"), str(tmp_path / "notes"))


def test_what_was_installed_is_whole_and_compiled(copy: EngineCopy, archive: str) -> None:
    assert not copy.is_usable()
    install(copy, archive)
    assert copy.is_usable()
    path = pathlib.Path(copy.path)
    assert {name: (path / name).read_bytes() for name in FILES} == FILES
    assert len(list(path.rglob("*.pyc"))) == len(FILES)
    install(copy, archive)
    assert os.listdir(copy.root) == [copy.digest], "a second installation leaves nothing beside the first"


def test_an_archive_of_something_else_is_refused(tmp_path: pathlib.Path, copy: EngineCopy) -> None:
    other = tmp_path / "other.zip"
    other.write_bytes(archive_of({**FILES, "modules/kata_one.py": b"import evil\n"}))
    with pytest.raises(ValueError, match=copy.digest):
        install(copy, str(other))
    assert not copy.is_usable() and os.listdir(copy.root) == []


def test_what_is_no_archive_is_refused(tmp_path: pathlib.Path, copy: EngineCopy) -> None:
    (tmp_path / "broken.zip").write_bytes(b"PK not really")
    with pytest.raises(ValueError, match="zip"):
        install(copy, str(tmp_path / "broken.zip"))
    assert not copy.is_usable()


@pytest.mark.parametrize("which", ["root", "path"])
def test_what_others_may_write_to_is_not_used(copy: EngineCopy, archive: str, which: str) -> None:
    install(copy, archive)
    os.chmod(getattr(copy, which), 0o777)
    assert not copy.is_usable()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_what_belongs_to_somebody_else_is_not_used(copy: EngineCopy, archive: str) -> None:
    install(copy, archive)
    os.chown(copy.path, 1234, 1234)
    assert not copy.is_usable()


def test_a_link_is_not_used(tmp_path: pathlib.Path, copy: EngineCopy, archive: str) -> None:
    elsewhere = EngineCopy(copy.digest, str(tmp_path / "elsewhere"), str(tmp_path / "notes"))
    install(elsewhere, archive)
    os.makedirs(copy.root)
    os.symlink(elsewhere.path, copy.path)
    assert not copy.is_usable()


def test_copies_that_nobody_uses_are_removed(copy: EngineCopy, archive: str) -> None:
    names = {"a" * 64: time.time() - UNUSED_SECONDS - 60, "b" * 64: time.time() - 60}
    for name, used in names.items():
        os.makedirs(os.path.join(copy.root, name))
        os.utime(os.path.join(copy.root, name), (used, used))
    install(copy, archive)
    assert sorted(os.listdir(copy.root)) == sorted(["b" * 64, copy.digest])


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_do_not_depend_on_the_umask(copy: EngineCopy, archive: str, umask: int) -> None:
    before = os.umask(umask)
    try:
        install(copy, archive)
    finally:
        os.umask(before)
    assert os.stat(copy.root).st_mode & 0o777 == 0o755
    assert os.stat(copy.path).st_mode & 0o777 == 0o700
    assert copy.is_usable()


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_a_parent_that_others_may_write_to(tmp_path: pathlib.Path, archive: str, mode: int) -> None:
    parent = tmp_path / "cache"
    copy = EngineCopy(digest_of(FILES), str(parent / "kata" / "engine"), str(tmp_path / "notes"))
    install(copy, archive)
    assert copy.is_usable()
    parent.chmod(mode)
    # Where the sticky bit is set, as in /tmp, nobody else can move what is ours.
    assert copy.is_usable() is bool(mode & 0o1000)
    link = tmp_path / "link"
    link.symlink_to(parent)
    assert EngineCopy(copy.digest, str(link / "kata" / "engine"), str(tmp_path / "notes")).is_usable() is bool(
        mode & 0o1000
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_a_parent_of_somebody_else(tmp_path: pathlib.Path, archive: str) -> None:
    copy = EngineCopy(digest_of(FILES), str(tmp_path / "cache" / "engine"), str(tmp_path / "notes"))
    install(copy, archive)
    os.chown(tmp_path / "cache", 1234, 1234)
    assert not copy.is_usable()


DAMAGES = {
    "empty source": ("modules/kata_one.py", b""),
    "zeros": ("module_utils/two.py", bytes(14)),
    "empty compiled file": ("compiled", b""),
    "zeros in the compiled file": ("compiled", None),
    "no note": ("contents.sha256", b""),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_a_power_loss_damaged_is_removed_at_the_next_boot(
    copy: EngineCopy, archive: str, tmp_path: pathlib.Path, damage: str
) -> None:
    install(copy, archive)
    assert copy.is_usable()
    name, content = DAMAGES[damage]
    path = next(pathlib.Path(copy.path).rglob("*.pyc")) if name == "compiled" else pathlib.Path(copy.path, name)
    path.write_bytes(path.read_bytes()[:16] + bytes(path.stat().st_size - 16) if content is None else content)
    assert copy.is_usable(), "until the next boot nobody looks, unless a module fails"
    shutil.rmtree(tmp_path / "notes")
    assert not copy.is_usable()
    assert os.listdir(copy.root) == []
    install(copy, archive)
    assert copy.is_usable()


def test_a_copy_that_is_looked_at_after_a_failure(copy: EngineCopy, archive: str) -> None:
    install(copy, archive)
    assert copy.is_usable() and copy.is_intact()
    pathlib.Path(copy.path, "modules/kata_one.py").write_bytes(b"")
    assert not copy.is_intact() and not copy.is_usable()


def test_drafts_of_tasks_that_were_killed_are_removed(copy: EngineCopy, archive: str) -> None:
    os.makedirs(os.path.join(copy.root, ".new-killed/engine"))
    install(copy, archive)
    assert os.listdir(copy.root) == [copy.digest]


@pytest.mark.parametrize("digest", ["", "..", "../" * 21 + "x", "A" * 64, "f" * 63])
def test_a_digest_is_a_digest(digest: str) -> None:
    with pytest.raises(ValueError, match="digest"):
        EngineCopy(digest)


def test_the_files_are_the_modules_and_what_they_use() -> None:
    files = engine_files()
    assert {
        "modules/kata_sandbox.py",
        "module_utils/engine/sandbox.py",
        "module_utils/hypervisors/qemu/driver.py",
    } <= set(files)
    assert archive_of(files) == archive_of(dict(reversed(files.items())))
