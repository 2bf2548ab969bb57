# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image that a guest can map: laid out as Linux reads it. That Linux takes it is shown by a guest (test_images.py)."""

from __future__ import annotations

import pathlib
import struct

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.guest.disks import dax_offset, is_partitioned
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.dax import fletcher64, header, with_header


@pytest.mark.parametrize(("length", "padded"), [(1, 2 << 20), (2 << 20, 2 << 20), ((2 << 20) + 1, 4 << 20)])
def test_the_image_lies_behind_its_header(tmp_path: pathlib.Path, length: int, padded: int) -> None:
    image = tmp_path / "root.ext4"
    image.write_bytes(b"x" * length)
    made = pathlib.Path(with_header(str(image), str(tmp_path))).read_bytes()
    assert len(made) == (2 << 20) + padded
    assert made[2 << 20 :].rstrip(b"\0") == b"x" * length
    assert made[4096 : 4096 + 16] == b"NVDIMM_PFN_INFO\0"
    # dataoff and npfns (struct nd_pfn_sb).
    assert struct.unpack_from("<QQ", made, 4096 + 56) == (2 << 20, padded // 4096)


def test_the_checksum_is_of_the_block_with_none_in_it() -> None:
    block = header(64 << 20, b"i" * 16)
    assert len(block) == 4096
    assert struct.unpack("<Q", block[4088:])[0] == fletcher64(block[:4088] + bytes(8))
    # Two words, by hand: low 1 then 3, high 1 then 4.
    assert fletcher64(struct.pack("<II", 1, 2)) == 4 << 32 | 3


def test_what_such_an_image_is_told_by(tmp_path: pathlib.Path) -> None:
    plain = tmp_path / "plain"
    sector = bytearray(512)
    sector[450], sector[510:] = 0x83, b"\x55\xaa"
    plain.write_bytes(bytes(sector) + bytes(1 << 20))
    mapped = with_header(str(plain), str(tmp_path))
    assert (dax_offset(str(plain)), dax_offset(mapped), dax_offset(str(tmp_path / "none"))) == (0, 2 << 20, 0)
    assert is_partitioned(str(plain)) and is_partitioned(mapped)
