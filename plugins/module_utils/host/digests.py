# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compute digests of files, and parse the digests that tasks name."""

from __future__ import annotations

import os
import stat
import time

from ..errors import AssetError, ConfigError

#: Digests that a task can name, and their hexadecimal digits.
ALGORITHMS = {"sha256": 64, "sha384": 96, "sha512": 128}
#: The algorithm of a digest without a name, as in the annotations of Kata Containers.
USUAL = "sha512"
CHUNK = 1 << 20
#: Seconds after a change in which a file can change again with the same times. Its digest is cached only after them.
SETTLED_SECONDS = 2.0


def file_digest(path: str, algorithm: str = "sha256", option: str = "") -> str:
    """A file's digest in hexadecimal.

    :param option: the task's option that names the file
    :raises AssetError: it cannot be read
    """
    import hashlib

    digest = hashlib.new(algorithm)
    try:
        with open(path, "rb") as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
    except (OSError, ValueError) as problem:
        raise AssetError("the file cannot be read", option=option, wanted=path, answer=str(problem)) from problem
    return digest.hexdigest()


def named_digest(text: str, option: str) -> str:
    """A digest in its normal form, `ALGORITHM:DIGITS` in lower case.

    :param text: the same in any case, or the digits of a SHA-512 alone
    :raises ConfigError: it is not a digest
    """
    algorithm, colon, digits = text.strip().lower().rpartition(":")
    algorithm = algorithm if colon else USUAL
    if len(digits) != ALGORITHMS.get(algorithm, -1) or not set(digits) <= set("0123456789abcdef"):
        raise ConfigError(
            "must be a digest",
            option=option,
            wanted=text,
            fix=f"Write one of {', '.join(f'{name}:' for name in ALGORITHMS)} and the hexadecimal digits.",
        )
    return f"{algorithm}:{digits}"


def file_mark(path: str, times: bool = True) -> str:
    """Inode, size and time of change of a file, or the number and the size of a block device. Not its file system's number, which a reboot may change.

    :param times: whether the time of change is in it
    """
    try:
        status = os.stat(path)
        if stat.S_ISBLK(status.st_mode):
            return f"device {os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    except OSError as error:
        return f"missing ({error.strerror})"
    return f"inode {status.st_ino}, {status.st_size} bytes" + (f", changed at {status.st_mtime_ns}" if times else "")


def identity(path: str) -> str:
    """A text that differs for every other file, and for the same file after any change. Empty if a change could go unnoticed.

    That is so if another user could exchange the file, if it is not a regular file, or if it has just changed.
    """
    from ..errors import HostError
    from ..untrusted.files import check_parents

    try:
        check_parents(path, "")
        found = os.stat(path)
    except (HostError, OSError, ValueError):
        return ""
    settled = time.time() - max(found.st_mtime, found.st_ctime) > SETTLED_SECONDS
    if not settled or not os.path.isfile(path):
        return ""
    return f"{path}:{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}"
