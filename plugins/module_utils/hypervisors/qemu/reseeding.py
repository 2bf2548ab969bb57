# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give a clone's guest what must not be its template's: the time, and randomness.

Two clones draw the same random bytes until their kernels reseed. A kernel with the driver vmgenid (Linux 5.18, CONFIG_VMGENID) does so at once, of
itself, since each clone has a generation id of its own. Where the guest's agent listens it is told to, which serves other kernels.
"""

from __future__ import annotations

import base64
import contextlib
import os
import time

from ...errors import DeadlineExceeded, VmmError
from ...guest.agent import AgentError, GuestAgent, run
from .vmm import Vmm

#: Bytes of randomness that a clone is given.
SEED_SIZE = 512
#: Directories of a guest in which a program may be put and run.
PROGRAM_DIRECTORIES = ("/run", "")
#: Seconds a program in the guest gets.
PROGRAM_SECONDS = 5.0
#: Linux's request to draw a new key from the entropy there is (random(4), RNDRESEEDCRNG).
RNDRESEEDCRNG = 0x5207


def reseed_guest(vmm: Vmm, architecture: str) -> None:
    """Set the clock and reseed the kernel of a clone, where its agent listens and lets us. Nobody listening is no error.

    :param architecture: the guest's
    """
    listens = any(
        chardev.get("label") == "agent" and chardev.get("frontend-open")
        for chardev in vmm.qmp().execute("query-chardev")
    )
    if not listens:
        return
    with contextlib.suppress(VmmError), GuestAgent(vmm.agent_way()) as agent:
        _set_time(agent)
        with contextlib.suppress(AgentError):
            _write(agent, "/dev/urandom", os.urandom(SEED_SIZE))
        _reseed(agent, architecture)


def _set_time(agent: GuestAgent) -> None:
    try:
        agent.ask("guest-set-time", {"time": time.time_ns()})
    except AgentError:
        # The agent refuses where it finds no /sbin/hwclock, which a small guest may have elsewhere.
        with contextlib.suppress(AgentError):
            _run(agent, "date", "-s", f"@{int(time.time())}")


def _reseed(agent: GuestAgent, architecture: str) -> None:
    """Have the guest's kernel use what it was given. There is no such command, so a program of ours does it."""
    for directory in PROGRAM_DIRECTORIES:
        path = f"{directory}/kata-reseed-{os.urandom(8).hex()}"
        with contextlib.suppress(AgentError):
            _write(agent, path, reseed_program(architecture))
            try:
                if _run(agent, "chmod", "0700", path) == 0 and _run(agent, path) == 0:
                    return
            finally:
                with contextlib.suppress(AgentError):
                    _run(agent, "rm", path)


def _write(agent: GuestAgent, path: str, data: bytes) -> None:
    handle = agent.ask("guest-file-open", {"path": path, "mode": "w"})
    try:
        agent.ask("guest-file-write", {"handle": handle, "buf-b64": base64.b64encode(data).decode()})
    finally:
        agent.ask("guest-file-close", {"handle": handle})


def _run(agent: GuestAgent, program: str, *arguments: str) -> int | None:
    """The exit code of a program in the guest, None when it did not end."""
    try:
        return run(agent, program, arguments, timeout=PROGRAM_SECONDS).code
    except DeadlineExceeded:
        return None


def reseed_program(architecture: str) -> bytes:
    """A static program that asks /dev/urandom to reseed, and ends with 0 where it did."""
    from ...guest.tiny_programs import RESULT, Call, program

    # With standard input closed, what is opened next has its number.
    calls = [
        Call("close", (0,)),
        Call("openat", (0, b"/dev/urandom\0", os.O_WRONLY)),
        Call("ioctl", (0, RNDRESEEDCRNG, 0)),
        Call("exit", (RESULT,)),
    ]
    return program(architecture, calls)
