# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cache of results of probes."""

from __future__ import annotations

import pathlib
import stat

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.host.boot_cache import MOST, cache_get, cache_put


def test_results_are_kept_beside_earlier_ones(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "run/cache.json"
    cache_put(str(path), {"a": 1, "b": {"c": [2]}})
    cache_put(str(path), {"a": 3})
    assert [cache_get(str(path), name) for name in ("a", "b", "other")] == [3, {"c": [2]}, None]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_oldest_results_are_removed(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "cache.json")
    for number in range(MOST):
        cache_put(path, {str(number): number})
    cache_put(path, {"x": "x", "y": "y"})
    assert [cache_get(path, name) for name in ("0", "1", "2", "x", "y")] == [None, None, 2, "x", "y"]


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"{", b"\xff", b"[" * 100_000])
def test_a_damaged_cache_is_replaced(tmp_path: pathlib.Path, content: bytes) -> None:
    path = tmp_path / "cache.json"
    path.write_bytes(content)
    assert cache_get(str(path), "a") is None
    cache_put(str(path), {"a": 1})
    assert cache_get(str(path), "a") == 1


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    cache_put(str(tmp_path / "file/cache.json"), {"a": 1})
    assert cache_get(str(tmp_path / "file/cache.json"), "a") is None
