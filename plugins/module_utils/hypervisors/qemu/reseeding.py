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

from ...errors import VmmError
from ...guest.agent import AgentError, GuestAgent, run
from .vmm import Vmm

#: Bytes of randomness that a clone is given.
SEED_SIZE = 512
#: Seconds that the script in the guest gets: 5 for each of its programs.
SCRIPT_SECONDS = 20.0
#: Linux's request to draw a new key from the entropy there is (random(4), RNDRESEEDCRNG).
RNDRESEEDCRNG = 0x5207

#: Sets the clock, adds to the entropy, and has the kernel use it. No command of a shell does the last, so a program of ours does, from a directory where
#: programs may be put and run.
SCRIPT = """
date -s @{seconds}.{nanoseconds:09} || date -s @{seconds}
printf '{seed}' >/dev/urandom
umask 077
for directory in /run ''; do
    path=$directory/kata-reseed-{name}
    printf '{program}' >"$path" && chmod 0700 "$path" && "$path"
    code=$?
    rm -f "$path"
    [ "$code" -ne 0 ] || exit 0
done
exit 1
"""


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
        try:
            # One command, since each takes a guest some time.
            run(agent, "/bin/sh", ("-c", reseed_script(architecture)), timeout=SCRIPT_SECONDS)
        except AgentError:
            # An agent may be forbidden to run commands.
            with contextlib.suppress(AgentError):
                agent.ask("guest-set-time", {"time": time.time_ns()})
            _write(agent, "/dev/urandom", os.urandom(SEED_SIZE))


def _write(agent: GuestAgent, path: str, data: bytes) -> None:
    handle = agent.ask("guest-file-open", {"path": path, "mode": "w"})
    try:
        agent.ask("guest-file-write", {"handle": handle, "buf-b64": base64.b64encode(data).decode()})
    finally:
        agent.ask("guest-file-close", {"handle": handle})


def reseed_script(architecture: str) -> str:
    """The shell script that sets the clock of a guest and reseeds its kernel. Ends with 0 where the kernel was reseeded."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return SCRIPT.format(
        seconds=seconds,
        nanoseconds=nanoseconds,
        seed=_printf_format(os.urandom(SEED_SIZE)),
        name=os.urandom(8).hex(),
        program=_printf_format(reseed_program(architecture)),
    )


def _printf_format(data: bytes) -> str:
    """What `printf` prints as these bytes."""
    return "".join(f"\\{byte:03o}" for byte in data)


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
