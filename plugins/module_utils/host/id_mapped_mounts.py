# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Open a file so that another user can open it again through the descriptor. The file's owner and mode stay unchanged.

The descriptor leads through a detached mount that shows the file's owner as that user (mount_setattr(2), ID-mapped mounts: Linux 5.12, and a file
system that supports them). The mount is removed with its last descriptor.
"""

from __future__ import annotations

import ctypes
import os
import struct

#: Numbers of the system calls, the same on all architectures that QEMU runs sandboxes on.
OPEN_TREE, MOUNT_SETATTR = 428, 442
OPEN_TREE_CLONE, AT_EMPTY_PATH = 1, 0x1000
MOUNT_ATTR_IDMAP = 0x00100000
CLONE_NEWUSER = 0x10000000


def open_for(path: str, uid: int, read_only: bool = False) -> int:
    """Open a file for a process of another user. The process can open it again as /proc/self/fd/NUMBER, with the rights of the file's owner.

    :param uid: of the user; the group has the same number
    :raises OSError: the kernel or the file system does not support this
    """
    flags = (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    opened = [os.open(path, flags)]
    try:
        found = os.fstat(opened[0])
        opened.append(_call(OPEN_TREE, opened[0], b"", AT_EMPTY_PATH | OPEN_TREE_CLONE | os.O_CLOEXEC))
        opened.append(_user_namespace((found.st_uid, uid), (found.st_gid, uid)))
        attributes = struct.pack("QQQQ", MOUNT_ATTR_IDMAP, 0, 0, opened[2])
        _call(MOUNT_SETATTR, opened[1], b"", AT_EMPTY_PATH, attributes, len(attributes))
        return os.open(f"/proc/self/fd/{opened[1]}", flags & ~os.O_NONBLOCK)
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _call(number: int, *arguments: int | bytes) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    result = library.syscall(
        ctypes.c_long(number), *(ctypes.c_long(one) if isinstance(one, int) else one for one in arguments)
    )
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)


def _user_namespace(users: tuple[int, int], groups: tuple[int, int]) -> int:
    """A descriptor of a user namespace that maps one user and one group, each from the first number to the second."""
    library = ctypes.CDLL(None, use_errno=True)
    ready_read, ready_write = os.pipe()
    done_read, done_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(done_write)
        os.write(ready_write, b"%d" % (library.unshare(CLONE_NEWUSER) and ctypes.get_errno()))
        os.read(done_read, 1)
        os._exit(0)
    try:
        os.close(ready_write)
        os.close(done_read)
        code = int(os.read(ready_read, 16) or b"1")
        if code:
            raise OSError(code, os.strerror(code))
        for name, (inside, outside) in (("uid_map", users), ("gid_map", groups)):
            with open(f"/proc/{child}/{name}", "w", encoding="ascii") as stream:
                stream.write(f"{inside} {outside} 1")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready_read)
        os.close(done_write)
        os.waitpid(child, 0)
