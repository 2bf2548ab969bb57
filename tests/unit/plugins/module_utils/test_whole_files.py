# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file is the old one or the new one, and a failure leaves nothing beside it."""

from __future__ import annotations

import errno
import os
import pathlib

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils import whole_files
from ansible_collections.kata.hypervisor.plugins.module_utils.whole_files import replace_file


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

    monkeypatch.setattr(whole_files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        replace_file(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["unit"]
