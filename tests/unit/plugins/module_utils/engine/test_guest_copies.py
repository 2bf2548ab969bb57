# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies between a host and a guest, where this machine is both: the loop of the data channel runs here."""

from __future__ import annotations

import os
import pathlib
import stat
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.guest_copies import CopyError, FileCopy, copy_file
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, HostError
from tests.unit.plugins.module_utils.guest.test_channel import Guest


@pytest.fixture
def guest(tmp_path: pathlib.Path) -> Iterator[Guest]:
    made = Guest(tmp_path, "/bin/sh")
    yield made
    made.close()


def copied(guest: Guest, wanted: FileCopy, check_mode: bool = False) -> dict[str, Any]:
    with guest.channel() as channel:
        return copy_file(wanted, "web", channel, check_mode)


def mode_of(path: pathlib.Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_file_of_the_host_keeps_its_mode_or_gets_the_one_that_is_wanted(guest: Guest, tmp_path: pathlib.Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.write_bytes(b"one")
    copy = FileCopy(str(inside), str(outside), from_guest=True)
    assert copied(guest, copy)["changed"]
    assert mode_of(outside) == 0o600
    outside.chmod(0o640)
    inside.write_bytes(b"two")
    assert copied(guest, copy)["changed"]
    assert (outside.read_bytes(), mode_of(outside)) == (b"two", 0o640)
    wanted = FileCopy(str(inside), str(outside), from_guest=True, mode="0644")
    assert copied(guest, wanted, check_mode=True)["changed"]
    assert mode_of(outside) == 0o640
    assert copied(guest, wanted)["changed"]
    assert mode_of(outside) == 0o644
    assert not copied(guest, wanted)["changed"]
    assert not copied(guest, copy)["changed"]


@pytest.mark.parametrize("check_mode", [True, False])
def test_the_directory_on_the_host_must_exist(guest: Guest, tmp_path: pathlib.Path, check_mode: bool) -> None:
    (tmp_path / "inside").write_bytes(b"one")
    with pytest.raises(HostError, match="must exist on the host"):
        copied(guest, FileCopy(str(tmp_path / "inside"), str(tmp_path / "none" / "file"), from_guest=True), check_mode)


def test_a_file_that_becomes_shorter_leaves_no_part_in_the_guest(
    guest: Guest, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, place = tmp_path / "source", tmp_path / "place"
    source.write_bytes(b"x" * 1000)
    place.mkdir()
    with guest.channel() as channel:
        run = channel.run

        def longer(command: bytes, stdin: Any = None, size: int = 0, *more: Any) -> int:
            return run(command, stdin, size * 2, *more)

        monkeypatch.setattr(channel, "run", longer)
        with pytest.raises(Exception, match="1000 are missing"):
            copy_file(FileCopy(str(source), str(place / "file")), "web", channel, False)
    assert list(place.iterdir()) == []


def test_a_content_has_no_name_and_no_id(guest: Guest, tmp_path: pathlib.Path) -> None:
    source, place = tmp_path / "{id}", tmp_path / "place"
    source.write_bytes(b"text")
    place.mkdir()
    with pytest.raises(CopyError, match="it is a directory"):
        copied(guest, FileCopy(str(source), str(place), is_content=True))
    copied(guest, FileCopy(str(source), str(place / "{id}"), is_content=True))
    assert (place / "{id}").read_bytes() == b"text"


def test_files_of_several_guests_do_not_replace_each_other() -> None:
    with pytest.raises(ConfigError, match="do not replace each other"):
        FileCopy("/a", "/logs/", from_guest=True).check_places(["web-1", "web-2"])
    FileCopy("/a", "/logs/{id}", from_guest=True).check_places(["web-1", "web-2"])
    FileCopy("/a", "/logs/", from_guest=True).check_places(["web-1"])
    FileCopy("/a", "/logs/").check_places(["web-1", "web-2"])


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_source_that_would_never_end_is_refused(guest: Guest, tmp_path: pathlib.Path, check_mode: bool) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(HostError, match="must be a regular file"):
        copied(guest, FileCopy(str(tmp_path / "fifo"), str(tmp_path / "inside")), check_mode)
    assert not (tmp_path / "inside").exists()
