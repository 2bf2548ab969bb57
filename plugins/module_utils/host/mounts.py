# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create and remove bind mounts in directories that others can write to: by descriptor, never by path."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from ..errors import HostError
from ..untrusted.answers import brief
from ..untrusted.files import Directory, through

MOUNT_INFO = "/proc/self/mountinfo"
MOUNT_NUMBER = re.compile("[0-9]{1,10}")
MS_BIND = 0x1000
MNT_DETACH = 2
#: How often the search for mounts is repeated, since they can be moved while they are removed.
ATTEMPTS = 20


class MountPoint(NamedTuple):
    """A mount and where it is at this moment.

    :param number: its id, which no other mount has while it exists (proc(5), mountinfo)
    """

    number: int
    path: str


def bind(source: int, target: int) -> None:
    """Mount the file of one descriptor over the file of another (mount(2), MS_BIND).

    :raises OSError: the kernel refuses
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(os.fsencode(through(source)), os.fsencode(through(target)), None, ctypes.c_ulong(MS_BIND), None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def detach(descriptor: int) -> None:
    """Unmount the mount whose root a descriptor holds. Files of it that are open stay usable (umount2(2), MNT_DETACH).

    :raises OSError: it is not the root of a mount, or the kernel refuses
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(through(descriptor)), MNT_DETACH):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def points_below(path: str) -> list[MountPoint]:
    """Mount points at or below a path, the deepest first (proc(5), mountinfo; blanks are written as octal numbers)."""
    with open(MOUNT_INFO, encoding="utf-8", errors="surrogateescape", newline="") as stream:
        points = parse_mounts(stream.read())
    below = [one for one in points if one.path == path or one.path.startswith(path.rstrip("/") + "/")]
    return sorted(below, key=lambda one: len(one.path), reverse=True)


def parse_mounts(text: str) -> list[MountPoint]:
    """The mount points in the content of mountinfo. Only blanks, tabs, line breaks and backslashes are written as octal numbers there.

    :raises HostError: a line does not describe a mount
    """
    found = []
    for line in text.split("\n"):
        words = line.split(" ")
        if line and (len(words) < 5 or not MOUNT_NUMBER.fullmatch(words[0])):
            raise HostError(f"{MOUNT_INFO} cannot be parsed", answer=brief(line))
        if line:
            found.append(
                MountPoint(int(words[0]), re.sub(r"\\([0-3][0-7]{2})", lambda octal: chr(int(octal[1], 8)), words[4]))
            )
    return found


def file_system_of(path: str) -> str:
    """The type of the file system that a path is on, such as ext4; empty if it cannot be found."""
    path, longest, found = os.path.realpath(path), -1, ""
    with open(MOUNT_INFO, encoding="utf-8", errors="surrogateescape", newline="") as stream:
        for line in stream.read().split("\n"):
            words = line.split(" ")
            for point in parse_mounts(line):
                inside = path == point.path or path.startswith(point.path.rstrip("/") + "/")
                # Of two mounts at one place, the later one is seen.
                if inside and len(point.path) >= longest and "-" in words:
                    longest, found = len(point.path), words[words.index("-") + 1]
    return found


def mount_number(descriptor: int) -> int:
    """The id of the mount that contains the file of a descriptor (proc(5), fdinfo); 0 if the kernel does not report it."""
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii", errors="replace") as stream:
        for line in stream:
            name, _colon, value = line.partition(":")
            if name == "mnt_id" and MOUNT_NUMBER.fullmatch(value.strip()):
                return int(value)
    return 0


def remove_below(top: str, path: str) -> None:
    """Unmount everything at or below a path. Nothing outside of `top` is unmounted, even if another user exchanges directories below it meanwhile.

    :param top: a directory whose path is trusted, at or above `path`
    :raises HostError: a mount cannot be removed
    """
    for _attempt in range(ATTEMPTS):
        points = points_below(path)
        if not points:
            return
        for point in points:
            _detach_at(top, point)
    raise HostError("the mount cannot be removed", wanted=points[0].path)


def _detach_at(top: str, point: MountPoint) -> None:
    """Unmount one mount if it is where its path leads, without following a link."""
    names = os.path.relpath(point.path, top).split("/")
    if names == ["."] or ".." in names:
        return
    directory = None
    try:
        directory = Directory.open(top)
        for name in names[:-1]:
            inner = directory.enter(name)
            directory.close()
            directory = inner
        with directory.held(names[-1]) as descriptor:
            if mount_number(descriptor) == point.number:
                detach(descriptor)
    except OSError:
        return  # It was moved in this moment; the next search finds it.
    finally:
        if directory is not None:
            directory.close()
