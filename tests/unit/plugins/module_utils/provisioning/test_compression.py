# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is compressed comes out whole, or the file is named."""

from __future__ import annotations

import bz2
import gzip
import lzma
import pathlib
import random
import shutil
import subprocess
from typing import IO

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError, HostError
from ansible_collections.kata.hypervisor.plugins.module_utils.host.sparse_files import Writer
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning import compression
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.compression import (
    Limit,
    decompress,
    decompress_file,
)

CONTENT = b"a kernel " * 1000 + random.Random(1).randbytes(50000)


def through(*argv: str, data: bytes = CONTENT) -> bytes:
    if shutil.which(argv[0]) is None:
        pytest.skip(f"this machine has no {argv[0]}")
    return subprocess.run(argv, input=data, capture_output=True, check=True).stdout


KINDS = {
    "gzip": lambda: gzip.compress(CONTENT),
    "xz": lambda: lzma.compress(CONTENT),
    "lzma": lambda: lzma.compress(CONTENT, format=lzma.FORMAT_ALONE),
    "bzip2": lambda: bz2.compress(CONTENT),
    "lz4": lambda: through("lz4", "-l", "-c"),
    "zstd": lambda: through("zstd", "-c"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_it_comes_out(kind: str) -> None:
    assert decompress(KINDS[kind](), "vmlinuz") == CONTENT


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_is_refused_by_the_files_name(kind: str) -> None:
    data = KINDS[kind]()
    with pytest.raises(AssetError, match="vmlinuz is damaged or incomplete"):
        decompress(data[: len(data) // 2], "vmlinuz")


def test_what_is_not_compressed_is_itself() -> None:
    assert decompress(b"\x7fELF and more", "vmlinux") == b"\x7fELF and more"


def expand(path: pathlib.Path, target: IO[bytes], most: int = 0) -> None:
    with open(path, "rb") as source:
        decompress_file(source, str(path), Writer(target.fileno()), Limit(str(path), path.stat().st_size, most))


@pytest.mark.parametrize("kind", ["gzip", "xz", "bzip2"])
def test_streams_one_after_the_other_are_one(kind: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "two").write_bytes(KINDS[kind]() * 2 + bytes(4) + KINDS[kind]() + b"what follows is no stream")
    with open(tmp_path / "out", "wb") as target:
        expand(tmp_path / "two", target)
    assert (tmp_path / "out").read_bytes() == CONTENT * 3


BOMB = bytes(40 << 20)
BOMBS = {
    "gzip": lambda: gzip.compress(BOMB),
    "xz": lambda: lzma.compress(BOMB),
    "bzip2": lambda: bz2.compress(BOMB),
    "lz4": lambda: through("lz4", "-l", "-c", data=BOMB),
    "zstd": lambda: through("zstd", "-c", data=BOMB),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_what_expands_too_far_is_refused_before_it_is_all_there(kind: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(BOMBS[kind]())
    with open(tmp_path / "out", "wb") as target, pytest.raises(AssetError, match="must have at most 4 MiB") as caught:
        expand(path, target, most=4 << 20)
    assert caught.value.option == "max_size_mb"
    assert (tmp_path / "out").stat().st_size <= 4 << 20
    with pytest.raises(AssetError, match="must have at most 4 MiB"):
        decompress(path.read_bytes(), "module.ko", most=4 << 20)


def test_the_usual_limit_grows_with_the_file() -> None:
    assert Limit("x", 1000).most == compression.FREE_BYTES
    assert Limit("x", 100 << 20).most == (100 << 20) * compression.MOST_RATIO
    assert Limit("x", 1 << 40).most == compression.MOST_BYTES
    assert Limit("x", 1 << 40, 5).most == 5


@pytest.mark.parametrize(
    "block", [b"\x0f\0\0", b"\x10a\0\0", b"\x10a\2\0", b"\x1fa\1\0" + b"\xff" * 40000 + b"\0", b"\xf0\xff", b"\x50ab"]
)
def test_lz4_without_its_program(block: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy from nowhere, one of what is not there yet, more than a block may have, and literals that are cut off."""
    monkeypatch.setattr(compression.shutil, "which", lambda _: None)
    with pytest.raises(AssetError, match="damaged"):
        decompress(compression.LZ4 + len(block).to_bytes(4, "little") + block, "vmlinuz")
    with pytest.raises(AssetError, match="damaged"):
        decompress(compression.LZ4 + b"\xff\xff\xff\x7f" + block, "vmlinuz")


def test_whatever_is_in_it_the_error_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression.shutil, "which", lambda _: None)
    chance = random.Random(10)
    small = b"a kernel " * 200 + chance.randbytes(500)
    seeds = [
        gzip.compress(small),
        lzma.compress(small),
        lzma.compress(small, format=lzma.FORMAT_ALONE),
        bz2.compress(small),
    ]
    seeds.append(compression.LZ4 + b"\x0b\0\0\0\x1fa\1\0" + b"\xff" * 6 + b"\0")
    outcomes = set()
    for number in range(5000):
        data = bytearray(seeds[number % len(seeds)])
        for _change in range(chance.randint(1, 4)):
            data[chance.randrange(3, len(data))] = chance.randrange(256)
        try:
            decompress(bytes(data[: chance.randint(3, len(data))] if number % 3 == 0 else data), "x", most=1 << 20)
            outcomes.add("taken")
        except (AssetError, HostError) as problem:
            outcomes.add(type(problem).__name__)
    assert {"taken", "AssetError"} <= outcomes


def test_a_file_of_zstd(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.tar.zst").write_bytes(through("zstd", "-c"))
    with open(tmp_path / "a.tar", "wb") as target:
        expand(tmp_path / "a.tar.zst", target)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT
    (tmp_path / "half.zst").write_bytes((tmp_path / "a.tar.zst").read_bytes()[:20000])
    with pytest.raises(AssetError, match=r"half\.zst is damaged"), open(tmp_path / "half", "wb") as target:
        expand(tmp_path / "half.zst", target)


def test_a_full_disk_is_not_called_a_damaged_archive(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.tar.zst").write_bytes(through("zstd", "-c"))
    with open("/dev/full", "wb") as target, pytest.raises(HostError, match="the disk is full"):
        expand(tmp_path / "a.tar.zst", target)


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression.shutil, "which", lambda _: None)
    with pytest.raises(HostError, match="zstd must be installed to decompress vmlinuz") as caught:
        decompress(b"\x28\xb5\x2f\xfd" + bytes(20), "vmlinuz")
    assert caught.value.fix == "Install the package zstd."
