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

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError, HostError
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning import compression
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.compression import (
    decompress,
    decompress_file,
)

CONTENT = b"a kernel " * 1000 + random.Random(1).randbytes(50000)


def through(*argv: str) -> bytes:
    if shutil.which(argv[0]) is None:
        pytest.skip(f"this machine has no {argv[0]}")
    return subprocess.run(argv, input=CONTENT, capture_output=True, check=True).stdout


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
    with pytest.raises(AssetError, match="vmlinuz is damaged, or only a part"):
        decompress(data[: len(data) // 2], "vmlinuz")


def test_what_is_not_compressed_is_itself() -> None:
    assert decompress(b"\x7fELF and more", "vmlinux") == b"\x7fELF and more"


def test_a_file_of_zstd(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.tar.zst").write_bytes(through("zstd", "-c"))
    with open(tmp_path / "a.tar", "wb") as target:
        decompress_file(str(tmp_path / "a.tar.zst"), target)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT
    (tmp_path / "half.zst").write_bytes((tmp_path / "a.tar.zst").read_bytes()[:20000])
    with pytest.raises(AssetError, match=r"half\.zst is damaged"), open(tmp_path / "half", "wb") as target:
        decompress_file(str(tmp_path / "half.zst"), target)


def test_a_full_disk_is_not_called_a_damaged_archive(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.tar.zst").write_bytes(through("zstd", "-c"))
    with open("/dev/full", "wb") as target, pytest.raises(HostError, match="the disk is full"):
        decompress_file(str(tmp_path / "a.tar.zst"), target)


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression.shutil, "which", lambda _: None)
    with pytest.raises(HostError, match="vmlinuz is compressed with zstd, and the host has no such program") as caught:
        decompress(b"\x28\xb5\x2f\xfd" + bytes(20), "vmlinuz")
    assert caught.value.fix == "Install the package zstd."
