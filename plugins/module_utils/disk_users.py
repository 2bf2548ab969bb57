# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is a disk of the host's in use by the host itself? Such a disk is never given to a guest (CVE-2026-24054)."""

from __future__ import annotations

import glob
import os
import stat
from typing import Iterator


def user_of(path: str) -> str:
    """Who of the host uses a block device, or a file through a loop device; empty when nobody does.

    Looks at mounts, swap, and the devices built on it (device mapper, RAID, partitions).
    """
    try:
        status = os.stat(path)
    except OSError:
        return ""
    if stat.S_ISREG(status.st_mode):
        return _loop_device_of(path)
    if not stat.S_ISBLK(status.st_mode):
        return ""
    mounted = _mounted()
    for name in _family(f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"):
        number = _read(f"/sys/class/block/{name}/dev")
        if number in mounted:
            return f"{name} is mounted on {mounted[number]}"
        if f"/dev/{name}" in _swaps():
            return f"{name} is swap space"
        holders = os.listdir(f"/sys/class/block/{name}/holders") if os.path.isdir(f"/sys/class/block/{name}/holders") else []
        if holders:
            return f"{name} is part of {', '.join(sorted(holders))}"
    return ""


def _family(number: str) -> Iterator[str]:
    """The device itself, its partitions, and the disk it is a partition of."""
    directory = os.path.realpath(f"/sys/dev/block/{number}")
    name = os.path.basename(directory)
    yield name
    if os.path.exists(os.path.join(directory, "partition")):
        yield os.path.basename(os.path.dirname(directory))
    for partition in glob.glob(os.path.join(glob.escape(directory), "*", "partition")):
        yield os.path.basename(os.path.dirname(partition))


def _mounted() -> dict[str, str]:
    """Mount point by device number (proc(5), mountinfo)."""
    found = {}
    for line in _read("/proc/self/mountinfo").splitlines():
        fields = line.split()
        if len(fields) > 4:
            found[fields[2]] = fields[4]
    return found


def _swaps() -> list[str]:
    return [line.split()[0] for line in _read("/proc/swaps").splitlines()[1:] if line.split()]


def _loop_device_of(path: str) -> str:
    wanted = os.path.realpath(path)
    for backing in glob.glob("/sys/block/loop*/loop/backing_file"):
        if _read(backing) == wanted:
            return f"it is the file behind {backing.split('/')[3]}"
    return ""


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read().strip()
    except OSError:
        return ""
