# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a VM ended while nobody watched: QEMU writes its events to a file of the run directory (QEMU's docs/interop/qmp-spec, the event SHUTDOWN).

The file may be its VMM's user's, so what is in it is bounded and checked, and says something of this sandbox alone.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from ...errors import HostError
from ...untrusted.answers import AnswerError, Number, Record, Text, checked, parsed
from ...untrusted.files import Directory

#: The pair of files: commands to QEMU, and what it answers.
EVENTS = "events"
COMMANDS_FILE, EVENTS_FILE = f"{EVENTS}.in", f"{EVENTS}.out"
COMMANDS = b'{"execute":"qmp_capabilities"}\n'
#: Bytes of the ends of the events and of the console that are looked at.
TAIL = 16384
#: Why QEMU ends (QMP, ShutdownCause), and what that says of the guest.
BY_GUEST = {
    "guest-shutdown": "the guest has shut itself down",
    "guest-reset": "the guest has rebooted itself, which ends its VM",
    "guest-panic": "the kernel of the guest has panicked",
}
PANIC = "guest-panic"
PANICKED = BY_GUEST[PANIC]
#: What Linux prints at the very end of a panic after which it stands still.
PANIC_END = b"end Kernel panic - not syncing"
#: Bytes of the end of the events that are searched for a restart of the guest.
RESTARTS_TAIL = 1 << 20
#: What Linux prints last.
PANIC_WORDS = b"Kernel panic - not syncing"


#: The event that tells of a restart.
RESET = Record({"event": Text(64), "timestamp": Record({"seconds": Number(), "microseconds": Number(0, 999_999)})})


class Ending(NamedTuple):
    """How a VM ended.

    :param cause: QEMU's word, empty where nobody knows
    :param by_guest: the guest ended it, and is well
    :param reason: for people
    """

    cause: str = ""
    by_guest: bool = False
    reason: str = ""


def prepare(run_dir: str, uid: int = -1, gid: int = -1) -> None:
    """Make the files for a VM that starts.

    :param uid: whom QEMU runs as, -1 for ourselves
    :raises HostError: they cannot be made
    """
    try:
        with Directory.open(run_dir) as directory:
            for name, content in ((COMMANDS_FILE, COMMANDS), (EVENTS_FILE, b"")):
                directory.unlink(name)
                descriptor = directory.create(name, uid=uid, gid=gid)
                try:
                    os.write(descriptor, content)
                finally:
                    os.close(descriptor)
    except OSError as error:
        raise HostError(
            f"the files for events in {run_dir} cannot be made", option="run_dir", answer=str(error)
        ) from error


def ending(run_dir: str, console: str) -> Ending:
    """How the VM ended, as far as it is known. Without a device for it, a panic is a reboot to QEMU; then the console tells.

    :param console: name of the console's log in the run directory
    """
    try:
        with Directory.open(run_dir) as directory:
            events, printed = directory.tail(EVENTS_FILE, TAIL), directory.tail(console, TAIL)
    except OSError:
        return Ending()
    cause = _cause(events)
    if cause == "guest-reset" and PANIC_WORDS in printed:
        cause = PANIC
    return Ending(cause, cause in BY_GUEST and cause != PANIC, BY_GUEST.get(cause, ""))


def panicked(run_dir: str, console: str) -> bool:
    """Whether the last line on the console is that of a kernel that stands still after a panic. A guest says that of itself alone.

    :param console: name of the console's log in the run directory
    """
    try:
        with Directory.open(run_dir) as directory:
            printed = directory.tail(console, TAIL)
    except OSError:
        return False
    return PANIC_END in printed.rstrip().rpartition(b"\n")[2]


def restarted(run_dir: str, since: int) -> bool:
    """Whether the guest has restarted itself (QMP, the event RESET).

    :param since: a time in microseconds since 1970
    """
    try:
        with Directory.open(run_dir) as directory:
            events = directory.tail(EVENTS_FILE, RESTARTS_TAIL)
    except OSError:
        return False
    for line in reversed(events.splitlines()):
        if b"RESET" not in line:
            continue
        try:
            event = checked(RESET, parsed(line, "QEMU's events", TAIL), "QEMU's events")
        except AnswerError:
            continue
        if event["event"] == "RESET":
            when: int = event["timestamp"]["seconds"] * 1_000_000 + event["timestamp"]["microseconds"]
            return when > since
    return False


def _cause(events: bytes) -> str:
    """The reason of the last event SHUTDOWN, empty where there is none."""
    for line in reversed(events.splitlines()):
        if b"SHUTDOWN" not in line:
            continue
        try:
            event = parsed(line, "QEMU's events", TAIL)
        except AnswerError:
            continue
        data = event.get("data") if isinstance(event, dict) and event.get("event") == "SHUTDOWN" else None
        reason = data.get("reason") if isinstance(data, dict) else None
        if isinstance(reason, str) and reason.replace("-", "").isalnum() and len(reason) < 64:
            return reason
    return ""
