# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a Firecracker ended: its exit codes, and what its log says last. Pure."""

from __future__ import annotations

import re

#: What Firecracker's exit codes mean (its sources, FcExitCode).
EXIT_CODES = {
    148: "the seccomp filter caught a forbidden system call",
    149: "a bus error: a file that backs memory is too short, or its file system is full",
    150: "a segmentation fault",
    151: "a file grew beyond its limit (jailer_limits fsize)",
    152: "a bad configuration",
    153: "arguments that this version does not know",
    154: "it used up its CPU time",
    155: "a broken pipe",
    156: "it was hung up",
    157: "an illegal instruction",
}
#: The exit code that follows a signal which Firecracker intercepts, by the signal's number on Linux.
SIGNALS = {7: 149, 11: 150, 25: 151, 24: 154, 13: 155, 1: 156, 4: 157}
INTERCEPTED = re.compile(r"Shutting down VM after intercepting signal (\d{1,3})")
BAD_SYSCALL = re.compile(r"Shutting down VM after intercepting a bad syscall \((\d{1,6})\)")


def exit_words(code: int) -> str:
    """How a process ended, with what Firecracker means by it.

    :param code: its exit code, or the negative number of the signal that killed it
    """
    how = f"ended with exit code {code}" if code >= 0 else f"was killed by signal {-code}"
    meaning = EXIT_CODES.get(code) or EXIT_CODES.get(SIGNALS.get(-code, 0), "")
    return f"{how} ({meaning})" if meaning else how


def reason_in(log: str) -> str:
    """What the end of a log says of the end of its Firecracker; empty where it says nothing."""
    call = BAD_SYSCALL.search(log)
    if call:
        return f"{EXIT_CODES[148]} (number {call[1]})"
    numbers = INTERCEPTED.findall(log)
    if not numbers:
        return ""
    number = int(numbers[-1])
    return EXIT_CODES.get(SIGNALS.get(number, 0), "") or f"signal {number}"
