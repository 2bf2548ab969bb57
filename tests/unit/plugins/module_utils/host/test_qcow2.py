# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a qcow2 image names beside itself is found, whatever its header is."""

from __future__ import annotations

import os
import pathlib
import random
import shutil
import struct
import subprocess

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError
from ansible_collections.kata.hypervisor.plugins.module_utils.host.qcow2 import (
    NotQcow2,
    check_image,
    named_files,
    open_disk,
)


def header(
    version: int = 3,
    backing: bytes = b"",
    features: int = 0,
    length: int = 104,
    extensions: bytes = b"",
    offset: int = 4096,
    bits: int = 16,
) -> bytes:
    """The first cluster of an image."""
    start = struct.pack(">4sIQII", b"QFI\xfb", version, offset if backing else 0, len(backing), bits) + bytes(48)
    if version == 3:
        start += struct.pack(">QQQII", features, 0, 0, 4, length)
    data = bytearray((start + extensions).ljust(1 << 16, b"\0"))
    data[offset : offset + len(backing)] = backing
    return bytes(data)


def extension(kind: int, content: bytes) -> bytes:
    """A header extension, padded."""
    return struct.pack(">II", kind, len(content)) + content + bytes(-len(content) % 8)


def names(path: pathlib.Path, data: bytes) -> list[str]:
    """What an image with that beginning names."""
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return named_files(descriptor)
    finally:
        os.close(descriptor)


def test_headers(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "image"
    assert names(path, header()) == [] and names(path, header(2)) == []
    assert names(path, header(backing=b"/etc/shadow")) == ["the backing file /etc/shadow"]
    assert names(path, header(2, backing=b"json:{}")) == ["the backing file json:{}"]
    assert names(path, header(backing=b"\x1b[2J\n")) == ["the backing file \\x1b[2J\n"]
    assert names(path, header(features=4)) == ["the data file (without a name)"]
    others = extension(0xE2792ACA, b"raw") + extension(0x6803F857, bytes(96))
    assert names(path, header(extensions=others + extension(0x44415441, b"/etc/passwd"))) == [
        "the data file /etc/passwd"
    ]
    assert names(path, header(2, extensions=extension(0x44415441, b"/x"))) == ["the data file /x"]
    assert names(path, header(extensions=others)) == []
    for wrong in (
        b"",
        b"QFI\xfb",
        header()[:80],
        b"raw" * 100,
        header(1),
        header(4),
        header(length=72),
        header(length=1 << 20),
        header(bits=8),
        header(bits=40),
        header(extensions=struct.pack(">II", 7, 1 << 30)),
    ):
        with pytest.raises(NotQcow2):
            names(path, wrong)


def test_whatever_bytes_come_only_one_error_comes_out(tmp_path: pathlib.Path) -> None:
    numbers = random.Random(5)
    start = header(backing=b"/b", extensions=extension(0x44415441, b"/d"))
    for _round in range(2000):
        data = bytearray(start[: numbers.choice((60, 104, 200, 65536))])
        for _change in range(numbers.randint(1, 6)):
            data[numbers.randrange(min(len(data), 140))] = numbers.choice((0, 1, 4, 127, 128, 255))
        try:
            assert isinstance(names(tmp_path / "image", bytes(data)), list)
        except NotQcow2:
            pass


@pytest.mark.skipif(not shutil.which("qemu-img"), reason="there is no qemu-img")
def test_images_of_qemu(tmp_path: pathlib.Path) -> None:
    def create(name: str, *words: str) -> str:
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *words, name, "8M"], cwd=tmp_path, check=True)
        return str(tmp_path / name)

    base = create("base.qcow2")
    check_image(base, "qcow2", "image_path")
    check_image(create("old.qcow2", "-o", "compat=0.10"), "qcow2", "image_path")
    check_image(create("big.qcow2", "-o", "cluster_size=2M,extended_l2=on"), "qcow2", "image_path")
    for words, named in (
        (("-b", base, "-F", "qcow2"), base),
        (("-o", "compat=0.10", "-b", base, "-F", "qcow2"), base),
        (("-o", "data_file=elsewhere.raw"), "elsewhere.raw"),
        (("-o", "data_file=elsewhere.raw,data_file_raw=on"), "elsewhere.raw"),
    ):
        path = create("overlay.qcow2", *words)
        check_image(path, "raw", "image_path")
        with pytest.raises(AssetError, match="must not name other files") as refused:
            check_image(path, "qcow2", "image_path")
        assert named in refused.value.answer and refused.value.option == "image_path"


def test_a_disk_is_a_file_or_a_block_device(tmp_path: pathlib.Path) -> None:
    fifo, socket_like = tmp_path / "fifo", tmp_path / "link"
    os.mkfifo(fifo)
    socket_like.symlink_to(fifo)
    for path in (fifo, socket_like, pathlib.Path("/dev/null")):
        with pytest.raises(AssetError, match="must be a regular file or a block device"):
            open_disk(str(path), True, "devices")
    with pytest.raises(AssetError, match="directory"):
        open_disk(str(tmp_path), True, "devices")
    with pytest.raises(AssetError, match="disk does not exist"):
        open_disk(str(tmp_path / "gone"), True, "devices")
    with pytest.raises(AssetError, match="cannot be opened") as refused:
        open_disk("/proc/version", False, "devices") if os.geteuid() else open_disk(
            "/sys/kernel/notes", False, "devices"
        )
    assert "ermission denied" in refused.value.answer or "Read-only" in refused.value.answer
