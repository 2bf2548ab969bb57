# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns: of all threads of a task, only some work at the same time. A thread that only waits for its guest lets another one work meanwhile."""

from __future__ import annotations

import contextlib
import threading
from typing import Iterator

_mine = threading.local()


@contextlib.contextmanager
def turn(turns: threading.Semaphore) -> Iterator[None]:
    """Wait for a turn, and have it during the block."""
    with turns:
        _mine.turns = turns
        try:
            yield
        finally:
            _mine.turns = None


@contextlib.contextmanager
def without_turn() -> Iterator[None]:
    """Let another thread have this thread's turn during the block, which only waits. Then wait for a turn again."""
    turns: threading.Semaphore | None = getattr(_mine, "turns", None)
    if turns is None:
        yield
        return
    turns.release()
    try:
        yield
    finally:
        turns.acquire()
