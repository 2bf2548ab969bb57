# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cut the console logs of sandboxes that are too long.

The output of a guest goes into a file below /run, which is in the host's memory, and a guest can print without end. A log that is longer than the
limit is cut to its newer half, with a line that says so. It stays the same file, which the VMM has open and appends to.

A timer of the role `kata_host` runs this file as a program, console_logs.py LIMIT_MIB RUN_DIR, so it imports nothing of this collection.
The engine calls `free_space` before each start, so that one guest's output never keeps another sandbox from starting.
"""

from __future__ import annotations

import glob
import os
import stat
import sys

MIB = 1 << 20
#: If less space than this (or a quarter of the file system) is free, logs are cut to the second size, bytes.
LEAST_FREE = 64 * MIB
KEPT = MIB
NOTICE = b"[kata.hypervisor cut off what was printed before this]\n"
#: How often output that the guest prints during the cut is copied. If it prints even then, a few bytes may be lost.
ROUNDS = 50


def cut(path: str, limit: int) -> bool:
    """Cut a log that is longer than a limit in bytes to its newer half. Returns whether it was longer.

    The half is moved to the front of the same file, which needs no space. A reader of the file's end finds it unchanged meanwhile.

    :raises OSError: it is a link, or cannot be written
    """
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size <= limit:
            return False
        source = status.st_size - limit // 2
        target = os.pwrite(descriptor, NOTICE, 0)
        for _round in range(ROUNDS):
            while True:
                data = os.pread(descriptor, MIB, source)
                if not data:
                    break
                target += os.pwrite(descriptor, data, target)
                source += len(data)
            if os.fstat(descriptor).st_size == source:
                break
        os.ftruncate(descriptor, target)
        return True
    finally:
        os.close(descriptor)


def cut_all(run_dir: str, limit: int) -> list[str]:
    """Cut the logs of all sandboxes and templates, including rotated ones, that are longer than a limit in bytes.

    :returns: error messages
    """
    problems = []
    for pattern in ("*/console.log*", ".template-*/console.log*"):
        for path in glob.glob(os.path.join(glob.escape(run_dir), pattern)):
            try:
                cut(path, limit)
            except FileNotFoundError:
                pass  # Its sandbox was removed meanwhile.
            except OSError as problem:
                problems.append(f"{path}: {problem}")
    return problems


def free_space(run_dir: str) -> None:
    """Cut console logs if the file system of the run directories has little space left.

    :param run_dir: the directory of all run directories
    """
    try:
        found = os.statvfs(run_dir)
    except OSError:
        return  # The first start creates the directory.
    if found.f_bavail * found.f_frsize < min(LEAST_FREE, found.f_blocks * found.f_frsize // 4):
        cut_all(run_dir, KEPT)


def main(limit_mib: str, run_dir: str) -> int:
    """The program. Its exit code is 1 if a log could not be cut."""
    problems = cut_all(run_dir, int(limit_mib) * MIB)
    sys.stderr.writelines(problem + "\n" for problem in problems)
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
