# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive is one that other programs read, and depends on nothing but what is put in."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.guest.cpio import Archive


def fields(record: bytes) -> list[int]:
    return [int(record[6 + 8 * index : 14 + 8 * index], 16) for index in range(13)]


def test_header_of_a_file_says_what_the_format_demands() -> None:
    archive = Archive()
    archive.add_file("/hello", b"12345", mode=0o755)
    content = archive.to_bytes()
    inode, mode, uid, gid, links, mtime, size, major, minor, rmajor, rminor, namesize, check = fields(content)
    assert content.startswith(b"070701")
    assert (mode, uid, gid, links, mtime, size) == (0o100755, 0, 0, 1, 0, 5)
    assert (major, minor, rmajor, rminor, namesize, check) == (0, 0, 0, 0, len(b"hello\0"), 0)
    assert inode > 0
    name_at = 110
    assert content[name_at : name_at + 6] == b"hello\0"
    # Header and name together are padded to four bytes: 110 + 6 is 116, which is one already.
    assert content[116:121] == b"12345"
    assert content[124:130] == b"070701"
    assert len(content) % 512 == 0


def test_a_device_node_carries_its_numbers() -> None:
    archive = Archive()
    archive.add_character_device("/console", 5, 1)
    values = fields(archive.to_bytes())
    assert values[1] == 0o020600
    assert values[9:11] == [5, 1]


def test_parents_come_before_their_children() -> None:
    archive = Archive()
    archive.add_file("/z/y/x", b"")
    archive.add_directory("/a")
    content = archive.to_bytes()
    places = [content.index(name) for name in (b"z\x00", b"z/y\x00", b"z/y/x\x00")]
    assert places == sorted(places)
    assert "/z/y" in archive


def test_order_of_adding_does_not_show() -> None:
    first, second = Archive(), Archive()
    for archive, names in ((first, "abc"), (second, "cab")):
        for name in names:
            archive.add_file(f"/{name}", name.encode())
    assert first.to_bytes() == second.to_bytes()


@pytest.mark.skipif(not shutil.which("busybox"), reason="needs a program that unpacks cpio archives")
def test_another_program_unpacks_it(tmp_path) -> None:
    archive = Archive()
    archive.add_file("/bin/tool", b"#!/bin/sh\n", mode=0o755)
    archive.add_file("/etc/odd size", b"x" * 1021)
    archive.add_symlink("/bin/link", "tool")
    done = subprocess.run(
        ["busybox", "cpio", "-id"],
        input=archive.to_bytes(),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "bin/tool").read_bytes() == b"#!/bin/sh\n"
    assert (tmp_path / "bin/tool").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "etc/odd size").read_bytes() == b"x" * 1021
    assert (tmp_path / "bin/link").readlink().name == "tool"
