# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller reads the files of an engine once in a run of Ansible, and every run sees the files that are there."""

from __future__ import annotations

import json
import multiprocessing
import os
import pathlib
import zipfile

import pytest
from ansible import constants as C
from ansible.errors import AnsibleError

from ansible_collections.kata.hypervisor.plugins.module_utils.delivery.engine_copy import digest_of
from ansible_collections.kata.hypervisor.plugins.plugin_utils import engine

FILES = {"modules/kata_one.py": "ONE = 1\n", "module_utils/two.py": "TWO = 2\n"}


@pytest.fixture
def plugins(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The plugins of a small collection."""
    directory = tmp_path / "plugins"
    for name, content in FILES.items():
        path = directory / name
        path.parent.mkdir(parents=True)
        path.write_text(content)
    monkeypatch.setattr(engine, "PLUGINS", str(directory))
    new_run(tmp_path, monkeypatch)
    return directory


def new_run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when Ansible is started: it has an empty temporary directory."""
    directory = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
    directory.mkdir()
    monkeypatch.setattr(C, "DEFAULT_LOCAL_TMP", str(directory))


def test_all_processes_of_a_run_read_the_files_once(plugins: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = plugins / "reads"

    def counted() -> dict[str, bytes]:
        with open(reads, "a", encoding="ascii") as stream:
            stream.write(f"{os.getpid()}\n")
        return {"one": b"1"}

    monkeypatch.setattr(engine, "engine_files", counted)
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=engine.engine_digest) for _number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 8
    assert engine.engine_digest() == digest_of({"one": b"1"})
    assert len(reads.read_text(encoding="ascii").splitlines()) == 1


def test_the_next_run_sees_a_change_that_no_time_or_size_shows(
    plugins: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = engine.engine_digest()
    path = plugins / "module_utils/two.py"
    before = path.stat()
    with open(path, "r+", encoding="ascii") as stream:
        stream.write("TWO = 3\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (before.st_size, before.st_mtime_ns, before.st_ino) == (after.st_size, after.st_mtime_ns, after.st_ino)
    new_run(tmp_path, monkeypatch)
    assert engine.engine_digest() == digest_of(engine.engine_files()) != first


def test_a_run_never_sends_files_that_are_not_those_of_its_digest(plugins: pathlib.Path) -> None:
    engine.engine_digest()
    (plugins / "module_utils/two.py").write_text("TWO = 3\n")
    with pytest.raises(AnsibleError, match="changed while Ansible runs"):
        engine.engine_archive()


def test_the_archive_has_the_files_of_the_digest(plugins: pathlib.Path) -> None:
    with zipfile.ZipFile(engine.engine_archive()) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert digest_of(files) == engine.engine_digest()
    assert {name: content.decode() for name, content in files.items() if not name.startswith("ansible/")} == FILES
    assert "ansible/module_utils/basic.py" in files
    assert not [name for name in files if name.startswith("ansible/module_utils/facts/")]


def test_options_are_text_for_the_module() -> None:
    options = {"id": "web", "labels": {"tier": "ü"}, "vcpus": 2}
    assert json.loads(engine._as_json(options)) == options
