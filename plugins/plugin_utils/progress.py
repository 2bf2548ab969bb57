# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugins of modules that can take minutes, such as those that build an image: the user sees that the module still runs."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, Iterator

from ansible.utils.display import Display

from ansible_collections.kata.hypervisor.plugins.plugin_utils.engine import EngineAction

#: How often the user is shown that a module still runs, seconds.
PROGRESS_SECONDS = 10.0

display = Display()


def show_progress(line: str) -> None:
    """Print a line for the user. On stderr, since stdout may be read by a program."""
    display.display(line, stderr=True)


@contextlib.contextmanager
def progress_shown(what: str) -> Iterator[None]:
    """Print a line with the elapsed time every `PROGRESS_SECONDS` seconds until the block ends."""
    ended = threading.Event()
    started = time.monotonic()

    def show() -> None:
        while not ended.wait(PROGRESS_SECONDS):
            show_progress(f"{what}: running for {time.monotonic() - started:.0f} s")

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class ProgressAction(EngineAction):
    """Runs the module that the task names, from the host's copy of the engine, and shows while it runs that it does."""

    #: The option that says what the module works on.
    SUBJECT = "path"

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Run the module."""
        host = (task_vars or {}).get("inventory_hostname", "host")
        subject = self._task.args.get(self.SUBJECT, "")
        shown = ", ".join(map(str, subject)) if isinstance(subject, list) else subject
        with progress_shown(f"{host}: {self._module_name()} {shown}"):
            return super().run(tmp, task_vars)
