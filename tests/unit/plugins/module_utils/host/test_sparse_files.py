# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holes stay holes, and what is between them stays what it is."""

from __future__ import annotations

import os
import pathlib
import random

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.host import sparse_files


@pytest.mark.parametrize("seed", range(20))
def test_what_is_written_in_any_pieces_is_what_is_there(tmp_path: pathlib.Path, seed: int) -> None:
    chance = random.Random(seed)
    zeros = [bytes(chance.choice([1, 100, 4096, 70000, 3 << 20])) for _number in range(6)]
    parts = [*zeros, *(chance.randbytes(chance.choice([1, 4096, 9000])) for _number in range(6))]
    chance.shuffle(parts)
    content = b"".join(parts)
    path = tmp_path / "x"
    path.write_bytes(b"what was there before" * 1000)
    start = chance.choice([0, 5, 4096])
    before = path.read_bytes()[:start]
    descriptor = os.open(path, os.O_RDWR)
    writer = sparse_files.Writer(descriptor, start)
    place = 0
    while place < len(content):
        size = chance.choice([1, 7, 4096, 65536, 2 << 20])
        writer.write(content[place : place + size])
        place += size
    writer.finish()
    os.close(descriptor)
    assert path.read_bytes() == before + content


def test_zeros_take_no_space(tmp_path: pathlib.Path) -> None:
    with open(tmp_path / "x", "wb") as stream:
        writer = sparse_files.Writer(stream.fileno())
        writer.write(bytes(50 << 20) + b"x" + bytes(50 << 20))
        writer.finish()
    assert os.stat(tmp_path / "x").st_size == (100 << 20) + 1
    assert os.stat(tmp_path / "x").st_blocks * 512 <= 64 << 10
