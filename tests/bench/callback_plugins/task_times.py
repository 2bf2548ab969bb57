# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes down how long each task of a play took, as a user of it waits: from the task's start to its result."""

from __future__ import annotations

import json
import os
import resource
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: task_times
type: aggregate
short_description: Durations of tasks as lines of JSON
description: Appends a line for every result to the file that BENCH_TIMES names.
"""


class CallbackModule(CallbackBase):
    """One JSON line a result: name, seconds, changed."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_times"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._started = 0.0
        self._name = ""

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._started = time.monotonic()
        self._name = task.get_name()  # With its role before it.

    def _write(self, result: Any, failed: bool) -> None:
        line = {"name": self._name, "seconds": time.monotonic() - self._started, "failed": failed}
        with open(os.environ["BENCH_TIMES"], "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

    def v2_runner_on_ok(self, result: Any) -> None:
        self._write(result, False)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._write(result, True)

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._write(result, False)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Write the CPU seconds of the process through which all results go; its workers are other processes."""
        if os.environ.get("BENCH_MAIN_CPU"):
            used = resource.getrusage(resource.RUSAGE_SELF)
            with open(os.environ["BENCH_MAIN_CPU"], "w", encoding="utf-8") as stream:
                stream.write(str(used.ru_utime + used.ru_stime))
