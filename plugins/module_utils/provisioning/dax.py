# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A root image that a guest maps instead of reading it: what Linux wants to find before it on an NVDIMM.

The guest keeps a struct for each page of such a memory (mode fsdax). Linux looks for a block that says where these lie, 4 KiB from the start
(struct nd_pfn_sb in its drivers/nvdimm/pfn.h); what the guest then has as /dev/pmem0 begins behind them. Here they lie in the guest's memory, so what is
before the image is as small as it can be.
"""

from __future__ import annotations

import os
import struct

from ..guest.disks import DAX_BLOCK, DAX_OFFSET, DAX_SIGNATURE
from ..host.digests import file_digest
from ..host.sparse_files import Writer

#: The block's version, and the sizes that it names, bytes.
VERSION = (1, 4)
PAGE, PAGE_STRUCT, ALIGN = 4096, 64, 2 << 20
#: The structs are kept in the guest's memory.
MODE_RAM = 1


def with_header(image: str, work: str) -> str:
    """A raw image that a guest can map, made of one that it can read; in the directory `work`."""
    length = -(-os.path.getsize(image) // ALIGN) * ALIGN
    made = os.path.join(work, "dax.img")
    with open(image, "rb") as source, open(made, "wb") as target:
        target.seek(DAX_BLOCK)
        target.write(header(DAX_OFFSET + length, bytes.fromhex(file_digest(image))[:16]))
        target.flush()
        writer = Writer(target.fileno(), DAX_OFFSET)
        while chunk := source.read(1 << 20):
            writer.write(chunk)
        writer.finish()
        target.truncate(DAX_OFFSET + length)
    return made


def header(size: int, identity: bytes) -> bytes:
    """The block, 4 KiB.

    :param size: of the whole file, bytes
    :param identity: 16 bytes that tell this image from others
    """
    pages = (size - DAX_OFFSET) // PAGE
    fields = struct.pack(
        "<16s16s16sIHHQQIIIIIH",
        DAX_SIGNATURE,
        identity,
        b"",
        0,
        *VERSION,
        DAX_OFFSET,
        pages,
        MODE_RAM,
        0,
        0,
        ALIGN,
        PAGE,
        PAGE_STRUCT,
    )
    block = fields.ljust(4088, b"\0") + bytes(8)
    return block[:4088] + struct.pack("<Q", fletcher64(block))


def fletcher64(data: bytes) -> int:
    """The checksum, as Linux's nd_fletcher64 computes it."""
    low = high = 0
    for (word,) in struct.iter_unpack("<I", data):
        low = (low + word) & 0xFFFFFFFF
        high = (high + low) & 0xFFFFFFFFFFFFFFFF
    return (high << 32 | low) & 0xFFFFFFFFFFFFFFFF
