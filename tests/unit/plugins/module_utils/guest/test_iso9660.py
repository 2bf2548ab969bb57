# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file system is one that other programs read, and depends on nothing but what is put in."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.module_utils.guest.iso9660 import SECTOR, image

FILES = {"meta-data": b"instance-id: a\n", "user-data": b"x" * 5000, "empty": b"", "network-config": b"y" * SECTOR}


def needs(program: str) -> None:
    if not shutil.which(program):
        pytest.skip(f"{program} is not here")


@pytest.mark.parametrize("names", [["-J"], []])
def test_isoinfo_reads_every_file_by_both_kinds_of_names(tmp_path, names) -> None:
    needs("isoinfo")
    path = tmp_path / "seed.iso"
    path.write_bytes(image("cidata", FILES))
    for name, content in FILES.items():
        shown = f"/{name if names else name.upper()};1"
        command = ["isoinfo", "-i", str(path), *names, "-x", shown]
        assert subprocess.run(command, capture_output=True, check=True).stdout == content


def test_xorriso_finds_the_label_and_the_files(tmp_path) -> None:
    needs("xorriso")
    path = tmp_path / "seed.iso"
    path.write_bytes(image("cidata", FILES))
    command = ["xorriso", "-indev", str(path), "-osirrox", "on", "-extract", "/", str(tmp_path / "out")]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Volume id    : 'cidata'" in found.stderr + found.stdout
    assert {one.name: one.read_bytes() for one in (tmp_path / "out").iterdir()} == FILES


def test_blkid_finds_the_label(tmp_path) -> None:
    needs("blkid")
    path = tmp_path / "seed.iso"
    path.write_bytes(image("cidata", FILES))
    found = subprocess.run(["blkid", "-o", "export", "-p", str(path)], capture_output=True, text=True, check=True)
    assert {"LABEL=cidata", "TYPE=iso9660"} <= set(found.stdout.split("\n"))


@given(
    st.dictionaries(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,27}", fullmatch=True), st.binary(max_size=5000), max_size=8)
)
def test_order_does_not_count_and_sectors_are_full(files) -> None:
    made = image("cidata", files)
    assert made == image("cidata", dict(reversed(list(files.items()))))
    assert len(made) % SECTOR == 0
    # The size in the primary volume descriptor, in sectors.
    assert int.from_bytes(made[16 * SECTOR + 80 : 16 * SECTOR + 84], "little") == len(made) // SECTOR


@pytest.mark.parametrize(
    ("label", "files"),
    [
        ("", {}),
        ("a" * 17, {}),
        ("cidata", {"../x": b""}),
        ("cidata", {"": b""}),
        ("cidata", {"a" * 29: b""}),
        ("cidata", {f"file{number}": b"" for number in range(60)}),
    ],
)
def test_what_cannot_be_written_is_refused(label, files) -> None:
    with pytest.raises(ValueError):
        image(label, files)
