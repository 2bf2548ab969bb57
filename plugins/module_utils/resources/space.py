# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Space on the host for disks that take only what is written to them."""

from __future__ import annotations

import os

from ..errors import HostError
from ..host.facts import nearest_directory
from ..host.mounts import file_system_of
from ..host.qcow2 import disk_size, is_block_device
from ..host.units import MIB

#: File systems on which two files can share blocks. An xfs may have been made without that.
SHARING = ("bcachefs", "btrfs", "ocfs2", "xfs", "zfs", "overlay")


def free_bytes(directory: str) -> int:
    """What can still be written below a directory, which need not exist yet, bytes."""
    found = os.statvfs(nearest_directory(directory))
    return found.f_bavail * found.f_frsize


def allocated(path: str) -> int:
    """What a file takes on its disk, bytes; the size of a block device."""
    return disk_size(path, "raw") if is_block_device(path) else os.stat(path).st_blocks * 512


def thin_warning(directory: str, size: int, option: str) -> list[str]:
    """A warning about a disk that is larger than the free space: it is created, and a guest that fills it is paused with an I/O error.

    :param size: bytes
    """
    free, place = free_bytes(directory), nearest_directory(directory)
    if size <= free:
        return []
    numbers = f"{option}: the disk can grow to {size // MIB} MiB, and {place} has {free // MIB} MiB free."
    return [f"{numbers} The guest gets I/O errors when that is used up."]


def check_copy(source: str, directory: str, option: str, shared: bool = True) -> None:
    """Refuse to copy a file for which there is not enough space. Changes nothing.

    :param shared: the copy can share blocks with the source if the file system does that
    :raises HostError: says how much there is
    """
    place = nearest_directory(directory)
    if shared and os.stat(source).st_dev == os.stat(place).st_dev and file_system_of(place) in SHARING:
        return
    needed, free = allocated(source), free_bytes(directory)
    if needed > free:
        raise HostError(
            f"the copy of {source} takes {-(-needed // MIB)} MiB, and {place} has {free // MIB} MiB free",
            option=option,
            fix="Free some space there, or use a file system on which files share blocks (xfs, btrfs).",
        )
