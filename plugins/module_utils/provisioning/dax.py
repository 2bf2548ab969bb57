# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Add the header to a root image that Linux needs to map it from an NVDIMM instead of reading it (DAX).

For each page of an NVDIMM in mode fsdax, the guest keeps a struct. A block at 4 KiB says where these structs are (struct nd_pfn_sb in Linux,
drivers/nvdimm/pfn.h). The content of /dev/pmem0 begins after them. Our header says that they are in the guest's memory, so it is as small as possible.
"""

from __future__ import annotations

import os
import struct

from ..guest.disks import DAX_BLOCK, DAX_OFFSET, DAX_SIGNATURE
from ..host.digests import file_digest
from ..host.sparse_files import Writer

#: The version of the block, and the sizes in it, bytes.
VERSION = (1, 4)
PAGE, PAGE_STRUCT, ALIGN = 4096, 64, 2 << 20
#: The mode in which the structs are in the guest's memory.
MODE_RAM = 1


def with_header(image: str, work: str) -> str:
    """Create, in the directory `work`, a raw image that a guest can map from one that it can read. Returns its path."""
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

    :param size: size of the file, header included, bytes
    :param identity: 16 bytes that identify this image
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
