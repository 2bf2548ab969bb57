# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What QEMU and its guest take of an operation: the time in which the engine waits for them, and does nothing else."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Callable, Iterator

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.converge import converge
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import spawn, vmm
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.qmp import QmpClient
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import parse_spec

#: Where the engine waits: for QEMU's start, its greeting, its answers and events, its end, and between looks at what its guest does.
WAITS: tuple[tuple[Any, str], ...] = (
    (spawn, "launch"),
    (QmpClient, "__init__"),
    (QmpClient, "execute"),
    (QmpClient, "wait_event"),
    (vmm, "wait_gone"),
    (time, "sleep"),
)


class Waits:
    """The seconds that were waited. A wait within a wait counts once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0

    def timed(self, wait: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, whose time is counted."""

        def run(*arguments: Any, **options: Any) -> Any:
            self._depth += 1
            began = time.monotonic()
            try:
                return wait(*arguments, **options)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.monotonic() - began

        return run


@contextlib.contextmanager
def counted_waits() -> Iterator[Waits]:
    """Count the waits of this block."""
    waits = Waits()
    before = [(owner, name, getattr(owner, name)) for owner, name in WAITS]
    try:
        for owner, name, wait in before:
            setattr(owner, name, waits.timed(wait))
        yield waits
    finally:
        for owner, name, wait in before:
            setattr(owner, name, wait)


def wait_seconds(options: dict[str, Any]) -> float:
    """What QEMU and its guest take of a task of `kata_sandbox` with these options. Runs it in this process."""
    with counted_waits() as waits:
        converge(parse_spec(options))
    return waits.seconds
