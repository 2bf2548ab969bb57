# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record store: whole or not at all, one writer, and never a crash on what it finds."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import pathlib
import stat
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import LockTimeout, StoreError
from ansible_collections.kata.hypervisor.plugins.module_utils.records import store as store_module
from ansible_collections.kata.hypervisor.plugins.module_utils.records.layout import SandboxLayout
from ansible_collections.kata.hypervisor.plugins.module_utils.records.record import SCHEMA, SandboxRecord, parse_record
from ansible_collections.kata.hypervisor.plugins.module_utils.records.store import Store, list_ids


@pytest.fixture
def store(tmp_path: pathlib.Path) -> Store:
    return Store(SandboxLayout("web", str(tmp_path / "state"), str(tmp_path / "run")))


def filled() -> SandboxRecord:
    return SandboxRecord(
        "web",
        "mock",
        options={"vcpus": 2, "kernel_params": ["quiet"]},
        defaults={"memory_mb": 128},
        devices=[{"id": "d", "type": "block", "index": 0}],
        desired="started",
        driver={"pid": 1},
    )


def test_what_is_saved_is_loaded(store: Store) -> None:
    with store.lock(1):
        record = filled()
        store.save(record)
        assert store.load() == record
        assert record.created == record.changed != ""


def test_files_are_private(store: Store, tmp_path: pathlib.Path) -> None:
    with store.lock(1):
        store.save(filled())
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").rglob("*")}
    assert modes == {"sandboxes": 0o700, "web": 0o700, "record.json": 0o600, "lock": 0o600, "spare": 0o600}


def test_no_record_is_none(store: Store) -> None:
    assert store.load() is None


def test_a_lock_without_a_record_leaves_nothing(store: Store, tmp_path: pathlib.Path) -> None:
    with store.lock(1):
        assert os.path.exists(store.layout.lock_path)
    assert list(tmp_path.iterdir()) == []


def test_a_lock_removes_only_the_directories_it_made(store: Store, tmp_path: pathlib.Path) -> None:
    (tmp_path / "state" / "sandboxes").mkdir(parents=True)
    with store.lock(1):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["state", "sandboxes"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_record(
    store: Store, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError(code, os.strerror(code))

    with store.lock(1):
        record = filled()
        store.save(record)
        with monkeypatch.context() as patch, pytest.raises(StoreError) as caught:
            patch.setattr(os, call, fail)
            store.save(dataclasses.replace(record, desired="stopped"))
        loaded = store.load()
        assert loaded is not None and loaded.desired == "started"
        # A full disk took the spare space.
        assert sorted(os.listdir(store.layout.state_dir)) == [
            "lock",
            "record.json",
            *(["spare"] if code != errno.ENOSPC else []),
        ]
    assert "sandbox web" in str(caught.value)
    assert ("the disk is full" in str(caught.value)) == (code == errno.ENOSPC)
    assert caught.value.fix


@pytest.mark.skipif(
    not os.path.exists("/dev/full") or os.getuid() != 0, reason="needs a file system that can be filled"
)
def test_a_disk_that_is_really_full(tmp_path: pathlib.Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", mount], check=False).returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        store = Store(SandboxLayout("web", str(mount), str(tmp_path / "run")))
        with store.lock(1):
            store.save(filled())
            with open(mount / "filler", "wb", buffering=0) as filler, pytest.raises(OSError, match="No space"):
                while True:
                    filler.write(b"x" * 4096)
            with pytest.raises(StoreError, match="the disk is full"):
                store.save(dataclasses.replace(filled(), options={"kernel_params": ["x" * 100] * 400}))
            loaded = store.load()
            assert loaded is not None and loaded.options == filled().options
    finally:
        subprocess.run(["umount", mount], check=True)


TEXT = json.dumps(dataclasses.asdict(filled()))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not complete JSON"),
        (TEXT[:-20], "not complete JSON"),
        ("[]", "must be the record of a sandbox"),
        ("[" * 100000, "not complete JSON"),
        (TEXT.replace('"web"', '"other"'), "another sandbox's"),
        (TEXT.replace(f'"schema": {SCHEMA}', f'"schema": {SCHEMA + 1}'), "newer than"),
        (TEXT.replace('"desired"', '"wished"'), "unknown field wished"),
        (TEXT.replace('"driver": {"pid": 1}', '"driver": 7'), "driver must be an object"),
        (TEXT.replace('"phase": ""', '"phase": "dreaming"'), "phase must be one of"),
    ],
)
def test_a_bad_record_is_an_error_that_says_what_to_do(text: str, words: str) -> None:
    with pytest.raises(StoreError) as caught:
        parse_record(text, "web", "/r/record.json")
    message = str(caught.value)
    assert words in message and "/r/record.json" in message and "sandbox web" in message
    assert "Nothing was changed" in caught.value.fix


@given(st.text() | st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_no_text_is_more_than_a_store_error(text: str) -> None:
    with pytest.raises(StoreError):
        parse_record(text, "web", "/r")


@given(st.integers(0, len(TEXT) - 1), st.characters())
def test_one_wrong_character_is_never_more_than_a_store_error(position: int, character: str) -> None:
    text = TEXT[:position] + character + TEXT[position + 1 :]
    try:
        record = parse_record(text, "web", "/r")
    except StoreError:
        return
    assert record.id == "web"


def test_a_record_that_is_no_text(store: Store) -> None:
    with store.lock(1):
        store.save(filled())
        pathlib.Path(store.layout.record_path).write_bytes(b"\xff\xfe\x00")
        with pytest.raises(StoreError, match="could not read"):
            store.load()


def test_a_directory_where_the_record_should_be(store: Store) -> None:
    os.makedirs(store.layout.record_path)
    with pytest.raises(StoreError, match="could not read"):
        store.load()


def test_a_file_where_a_directory_should_be(tmp_path: pathlib.Path) -> None:
    (tmp_path / "state").write_text("")
    store = Store(SandboxLayout("web", str(tmp_path / "state"), str(tmp_path / "run")))
    with pytest.raises(StoreError, match="could not lock"), store.lock(1):
        pass
    with pytest.raises(StoreError, match="could not read"):
        store.load()


def test_the_lock_names_its_holder(store: Store) -> None:
    code = (
        "import fcntl, os, sys, time\n"
        "fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "fcntl.flock(fd, fcntl.LOCK_EX)\n"
        "os.write(fd, b'%d\\n' % os.getpid())\n"
        "print('locked', flush=True)\n"
        "time.sleep(60)\n"
    )
    os.makedirs(store.layout.state_dir)
    with subprocess.Popen([sys.executable, "-c", code, store.layout.lock_path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        started = time.monotonic()
        with pytest.raises(LockTimeout) as caught, store.lock(0.3):
            pass
        assert time.monotonic() - started >= 0.3
        assert f"process {holder.pid}," in str(caught.value)
        holder.kill()
    with store.lock(5):
        pass


def test_one_writer_at_a_time(store: Store) -> None:
    """Threads that create and remove the same sandbox never hold its lock at once, though its lock file comes and goes."""
    inside, most = 0, 0
    problems: list[BaseException] = []

    def work() -> None:
        nonlocal inside, most
        try:
            for _turn in range(10):
                with Store(store.layout).lock(30):
                    inside += 1
                    most = max(most, inside)
                    time.sleep(0.001)
                    inside -= 1
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work) for _number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (problems, most) == ([], 1)


def test_removal_leaves_the_record_for_last(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []
    unlink = os.unlink
    with store.lock(1):
        store.save(filled())
        os.makedirs(os.path.join(store.layout.state_dir, "saved", "deep"))
        pathlib.Path(store.layout.state_dir, "note").write_text("x")
        monkeypatch.setattr(
            os, "unlink", lambda path, **more: (removed.append(os.path.basename(path)), unlink(path, **more))
        )
        store.remove()
        monkeypatch.undo()
    assert removed[-1] == "record.json" and "note" in removed
    assert not os.path.exists(store.layout.state_dir)


def test_ids_come_from_records_and_from_run_directories(tmp_path: pathlib.Path) -> None:
    for name in ("sandboxes/b", "sandboxes/a", "sandboxes/-odd"):
        (tmp_path / "state" / name).mkdir(parents=True)
    (tmp_path / "run" / "c").mkdir(parents=True)
    (tmp_path / "run" / "accelerator.json").write_text("{}")
    assert list_ids(str(tmp_path / "state"), str(tmp_path / "run")) == ["a", "b", "c"]
    assert list_ids(str(tmp_path / "nowhere"), str(tmp_path / "neither")) == []


def test_times_are_utc() -> None:
    assert time.strptime(store_module.now(), "%Y-%m-%dT%H:%M:%SZ")
