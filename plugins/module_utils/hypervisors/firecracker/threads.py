# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which threads of a Firecracker are its vCPUs, by their names."""

from __future__ import annotations

import os
import re

from ...errors import VmmError

PREFIX = "fc_vcpu"


def vcpu_number(name: str) -> int | None:
    """The vCPU behind a thread's name (`fc_vcpu0` up to 0.25, `fc_vcpu 0` since); None for any other thread.

    :raises VmmError: it begins like a vCPU's and has no number
    """
    if not name.startswith(PREFIX):
        return None
    number = name[len(PREFIX) :].strip()
    if not re.fullmatch(r"[+-]?[0-9]{1,10}", number) or abs(int(number)) >= 2**31:
        raise VmmError("a vCPU's thread has no number in its name", answer=name)
    return int(number)


def vcpu_threads(pid: int, proc: str = "/proc") -> dict[int, int]:
    """Host threads by vCPU; empty for a process that is not there.

    :raises VmmError: a thread's name cannot be understood
    """
    found = {}
    try:
        names = os.listdir(os.path.join(proc, str(pid), "task")) if pid > 0 else []
    except FileNotFoundError:
        return {}
    for thread in names:
        if int(thread) == pid:
            continue
        try:
            with open(
                os.path.join(proc, str(pid), "task", thread, "comm"), encoding="utf-8", errors="replace"
            ) as stream:
                name = stream.read().rstrip("\n")
        except (FileNotFoundError, ProcessLookupError):
            continue  # It ended while we looked.
        number = vcpu_number(name)
        if number is not None:
            found[number] = int(thread)
    return dict(sorted(found.items()))
