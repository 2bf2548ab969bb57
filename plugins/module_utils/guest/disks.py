# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of disks: their addresses on a SCSI bus, and the size and kind of an image."""

from __future__ import annotations

import os

from ..errors import ConfigError

LUNS_PER_SCSI_ID = 256
MAX_SCSI_INDEX = 65535

#: An image that a guest maps has a header with this signature, and begins at this offset, bytes (see `provisioning/dax.py`).
DAX_SIGNATURE = b"NVDIMM_PFN_INFO\0"
DAX_BLOCK, DAX_OFFSET = 4096, 2 << 20


def scsi_id_lun(index: int) -> tuple[int, int]:
    """The SCSI id and the LUN of the disk of that index.

    :raises ConfigError: the index is negative, or beyond the last of 65536 disks
    """
    if not 0 <= index <= MAX_SCSI_INDEX:
        raise ConfigError(f"a SCSI disk's index must be from 0 to {MAX_SCSI_INDEX}", option="index", wanted=index)
    return divmod(index, LUNS_PER_SCSI_ID)


def dax_offset(image: str) -> int:
    """The offset of the file system in an image that a guest can map, bytes; 0 for any other image."""
    try:
        with open(image, "rb") as stream:
            stream.seek(DAX_BLOCK)
            return DAX_OFFSET if stream.read(len(DAX_SIGNATURE)) == DAX_SIGNATURE else 0
    except OSError:
        return 0


def is_partitioned(image: str) -> bool:
    """Whether an image has a partition table (a boot sector's signature and a first partition)."""
    offset = dax_offset(image)
    try:
        with open(image, "rb") as stream:
            stream.seek(offset)
            sector = stream.read(512)
    except OSError:
        return False
    return len(sector) == 512 and sector[510:] == b"\x55\xaa" and sector[450] != 0


def size_of(path: str) -> int:
    """The length of a file or of a block device in bytes, 0 when there is none."""
    try:
        with open(path, "rb") as stream:
            return stream.seek(0, os.SEEK_END)
    except OSError:
        return 0
