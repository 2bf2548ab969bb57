# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the way into the guest of a sandbox: its record, its VM's state, its agent and a data channel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..errors import HypervisorError, StateError, Unsupported, printable
from ..guest.agent import GuestAgent, run
from ..guest.channel import Channel, ScriptFailed
from ..guest.ways import GuestWays
from ..hypervisors import new_hypervisor
from ..options.spec import SandboxSpec
from .sandbox import DriverFactory, Sandbox
from .states import state_of

#: Bytes of what a script printed that an error shows.
SHOWN = 2000


@contextlib.contextmanager
def guest_channel(spec: SandboxSpec, timeout: float, factory: DriverFactory = new_hypervisor) -> Iterator[Channel]:
    """An open data channel into the guest of a sandbox.

    :param spec: names the sandbox and its directories
    :param timeout: seconds until the agent answers, a channel is free, and the shell at its other end runs
    :raises StateError: the sandbox is not there, or does not run
    :raises Unsupported: its VM has no agent or no channel
    :raises VmmError: the guest has no agent, or does not let it run programs, or another problem with the guest
    """
    with explained(spec):
        ways = guest_ways(spec, factory)
        channel = Channel(spec.layout().run_dir, ways, lambda script: run_script(ways, script, timeout), timeout)
    with channel, explained(spec):
        yield channel


@contextlib.contextmanager
def explained(spec: SandboxSpec) -> Iterator[None]:
    """Add the sandbox's id to errors."""
    try:
        yield
    except HypervisorError as problem:
        problem.sandbox = problem.sandbox or spec.id
        raise


def guest_ways(spec: SandboxSpec, factory: DriverFactory = new_hypervisor) -> GuestWays:
    """The ports that lead into the guest of a running sandbox."""
    sandbox = Sandbox(spec, factory)
    try:
        sandbox.load()
        state = state_of(sandbox.record, sandbox.observed)
        if sandbox.driver is None or sandbox.record is None or state == "absent":
            raise StateError(
                "the sandbox must exist",
                answer=f"there is none in {spec.state_dir}",
                fix="Check the id, and state_dir if it is not the default.",
            )
        if state != "started":
            raise StateError(
                "the sandbox must run, so that its guest can be entered",
                answer=f"it is {state}",
                fix="Start it with state=started.",
            )
        ways = sandbox.driver.guest_ways()
    finally:
        sandbox.disconnect()
    if not ways.channels:
        raise Unsupported(f"a VM of {sandbox.record.hypervisor} has no way into its guest")
    return ways


def run_script(ways: GuestWays, script: str, timeout: float) -> None:
    """Run a shell script through the guest's agent, as root.

    :raises AgentError: no agent answers, or it is not allowed to run programs
    :raises ScriptFailed: it failed
    :raises DeadlineExceeded: it did not end in time
    """
    if ways.agent is None:
        raise Unsupported("this VM has no guest agent")
    with GuestAgent(ways.agent, timeout) as agent:
        ended = run(agent, "/bin/sh", ["-s"], script.encode(), capture=True, timeout=timeout)
    if ended.code:
        printed = printable(ended.errors[-SHOWN:].decode("utf-8", "replace")).strip()
        raise ScriptFailed(f"a script that the agent ran in the guest failed with code {ended.code}", answer=printed)
