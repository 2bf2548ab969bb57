# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cache of results of probes, valid until the next boot, in small files.

If a file cannot be read or written, the probe runs again.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, Mapping

#: How many results a file keeps; the oldest are removed first.
MOST = 16
#: Bytes that such a file may have.
MOST_BYTES = 1 << 20


def fingerprint(path: str) -> str:
    """A text that differs for another file, and for the same file after a change."""
    try:
        stat = os.stat(path)
    except OSError:
        return f"{path}:-"
    return f"{path}:{stat.st_ino}:{stat.st_mtime_ns}:{stat.st_size}:{stat.st_mode:o}"


def cache_get(path: str, question: str) -> Any:
    """The cached result, None if there is none."""
    try:
        with open(path, encoding="utf-8") as stream:
            answers = json.loads(stream.read(MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return answers.get(question) if isinstance(answers, dict) else None


def cache_put(path: str, new: Mapping[str, Any]) -> None:
    """Add results to a cache file. No error is raised if it cannot be written."""
    from .atomic_files import replace_file

    answers: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, RecursionError), open(path, encoding="utf-8") as stream:
        found = json.loads(stream.read(MOST_BYTES))
        answers = found if isinstance(found, dict) else {}
    kept = [(question, answer) for question, answer in answers.items() if question not in new]
    answers = dict([*kept, *new.items()][-MOST:])
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        replace_file(path, json.dumps(answers).encode(), 0o600)
