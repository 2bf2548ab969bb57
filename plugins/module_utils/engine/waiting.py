# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait for the condition of the option `wait_for`, such as a text on the console: a VM that runs has not necessarily booted."""

from __future__ import annotations

import contextlib
import math
import os
import re
import subprocess
import sys
import time
from typing import Any, Callable, Iterator, NamedTuple, Sequence

from ..errors import DeadlineExceeded, Unsupported, VmmError
from ..hypervisors.base import Capabilities, Hypervisor

#: Seconds between two checks.
POLL = 0.1

#: How many addresses of a guest are tried at most.
MOST_ADDRESSES = 8

#: How many bytes at the end of the console log are searched; a guest may print without end.
SEARCHED = 4 * 1024 * 1024


def check_possible(condition: dict[str, Any], hypervisor: str, capabilities: Capabilities, sandbox: str) -> None:
    """Refuse a condition that this VM cannot report.

    :raises Unsupported: the condition needs a guest agent, and the VM has no channel to one
    """
    needs_agent = condition["kind"] == "agent" or (
        condition["kind"] == "port" and not str(condition["argument"]).rpartition(":")[0]
    )
    if needs_agent and not capabilities.guest_agent:
        what = "an agent" if condition["kind"] == "agent" else "a port without an address"
        raise Unsupported(
            f"{what} cannot be waited for: this VM has no channel to a guest agent (driver {hypervisor})",
            sandbox=sandbox,
            option="wait_for",
            wanted=condition["argument"] or condition["kind"],
            fix="Wait for the console, or for a port with the guest's address before it, such as 'port: 192.0.2.7:22'.",
        )


def wait_for(
    condition: dict[str, Any], driver: Hypervisor, sandbox: str, console_start: int, interfaces: Sequence[str] = ()
) -> None:
    """Wait for a condition from `parse_wait_for`.

    :param console_start: where in the console's log this run of the VM begins, in bytes
    :param interfaces: the host's interfaces that lead to the guest
    :raises DeadlineExceeded: it was not reached in time; with the last lines of the console and of the VMM's log
    :raises VmmError: the VM ended before it was reached
    """
    deadline = time.monotonic() + condition["timeout"]
    waiting = Waiting(condition["argument"], driver, sandbox, console_start, tuple(interfaces), deadline)
    what = (
        f"{condition['kind']} {condition['argument']}".strip()
        if isinstance(condition["argument"], str)
        else condition["kind"]
    )
    with KINDS[condition["kind"]](waiting) as reached:
        while True:
            seen = driver.observe()
            if reached(seen.power):
                return
            # A VMM that does not answer may only be busy; one whose guest is lost reports a status.
            gone = seen.power == "off" or (seen.power == "failed" and bool(seen.vmm_status))
            if gone or time.monotonic() >= deadline:
                message = (
                    f"the VM is {seen.power}" if gone else f"it did not happen within {condition['timeout']:g} seconds"
                )
                if seen.reason:
                    message += f" ({seen.reason})"
                raise (VmmError if gone else DeadlineExceeded)(
                    f"waited for {what}, and {message}",
                    sandbox=sandbox,
                    option="wait_for",
                    wanted=condition["argument"] or condition["kind"],
                    answer=last_words(driver),
                    log=driver.console_log() or driver.vmm_log(),
                    fix="The sandbox was left as it is. Look at its console, or give wait_for more time.",
                )
            time.sleep(POLL)


def last_words(driver: Hypervisor, lines: int = 15) -> str:
    """The last lines of the console and of the VMM's log, for an error."""
    from ..host.processes import tail

    texts = []
    for title, path in (("console", driver.console_log()), ("VMM log", driver.vmm_log())):
        text = tail(path, lines).strip() if path else ""
        if text:
            texts.append(f"[{title}]\n{text}")
    return "\n".join(texts)


Reached = Callable[[str], bool]


class Waiting(NamedTuple):
    """The arguments of the functions in `KINDS`.

    :param argument: the value of the condition, such as a regular expression
    :param interfaces: the host's interfaces that lead to the guest
    :param deadline: a time of the monotonic clock, in seconds
    """

    argument: Any
    driver: Hypervisor
    sandbox: str
    console_start: int
    interfaces: tuple[str, ...]
    deadline: float


@contextlib.contextmanager
def _running(waiting: Waiting) -> Iterator[Reached]:
    yield lambda power: power == "running"


@contextlib.contextmanager
def _console(waiting: Waiting) -> Iterator[Reached]:
    path = waiting.driver.console_log()
    if not path:
        raise Unsupported(
            f"the {waiting.driver.name} driver keeps no console log to search",
            sandbox=waiting.sandbox,
            option="wait_for",
            wanted=waiting.argument,
        )
    pattern = waiting.argument.encode()
    if not SPECIAL.search(waiting.argument):
        yield lambda power: pattern in _printed(path, waiting.console_start)
        return
    # A regular expression can take exponential time, and this process could not interrupt it, so another process searches.
    seconds = max(1, math.ceil(waiting.deadline - time.monotonic()))
    arguments = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        SEARCH,
        path,
        str(waiting.console_start),
        str(SEARCHED),
        str(seconds),
    ]
    with subprocess.Popen(
        [*arguments, pattern], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
    ) as search:
        try:
            yield lambda power: search.poll() == 0
        finally:
            search.kill()


#: Characters with a special meaning in a regular expression.
SPECIAL = re.compile(r"[\\^$.|?*+(){}\[\]]")

#: A program that searches a console until a regular expression matches, and then exits with 0. alarm(2) ends it when its time is up.
SEARCH = """
import os, re, signal, stat, sys, time
path, start, most, seconds, pattern = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), re.compile(os.fsencode(sys.argv[5]))
signal.alarm(seconds)
parent, seen = os.getppid(), -1
while os.getppid() == parent:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        descriptor = -1
    if descriptor >= 0 and not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
    elif descriptor >= 0:
        with open(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if status.st_size != seen:
                seen = status.st_size
                stream.seek(max(start if start <= seen else 0, seen - most))
                if pattern.search(stream.read(most)):
                    sys.exit(0)
    time.sleep(0.1)
sys.exit(1)
"""


@contextlib.contextmanager
def _agent(waiting: Waiting) -> Iterator[Reached]:
    yield lambda power: power == "running" and bool(waiting.driver.guest_facts())


@contextlib.contextmanager
def _port(waiting: Waiting) -> Iterator[Reached]:
    address, _colon, port = str(waiting.argument).rpartition(":")
    number, named = int(port), address.strip("[]")

    def reached(power: str) -> bool:
        if named:
            return _listens(named, number, waiting.deadline)
        if power != "running" or not waiting.interfaces:
            return False
        from ..guest.agent import addresses_of

        # The guest reports its address and is not trusted: the address must be reachable through its own network, and not be the host's.
        addresses = [found for found in addresses_of(waiting.driver.guest_facts()) if not _is_ours(found)][
            :MOST_ADDRESSES
        ]
        return any(
            _listens(found, number, waiting.deadline, interface)
            for found in addresses
            for interface in waiting.interfaces
        )

    yield reached


def _is_ours(address: str) -> bool:
    """Whether an address belongs to this host, which is so if a socket can be bound to it."""
    import socket

    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
            return True
    except OSError:
        return False


def _listens(host: str, port: int, deadline: float, interface: str = "") -> bool:
    """Whether a program listens on a port.

    :param deadline: a time of the monotonic clock, in seconds. Nothing is tried after it, and a try takes a second at most
    :param interface: the only interface of the host that the connection may take; empty for any
    """
    import socket

    seconds = min(1.0, deadline - time.monotonic())
    if seconds <= 0:
        return False
    if not interface:
        try:
            with socket.create_connection((host, port), timeout=seconds):
                return True
        except OSError:
            return False
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.settimeout(seconds)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
            probe.connect((host, port))
            return True
    except OSError:
        return False


def _printed(path: str, start: int) -> bytes:
    """What the guest has printed since it started. A log that is shorter than `start` has been rotated, so all of it counts."""
    from ..untrusted.files import Directory, UntrustedFile

    try:
        with Directory.open(os.path.dirname(path)) as directory:
            descriptor = directory.open_file(os.path.basename(path))
    except (OSError, UntrustedFile):
        return b""
    with open(descriptor, "rb") as stream:
        size = os.fstat(descriptor).st_size
        stream.seek(max(start if start <= size else 0, size - SEARCHED))
        return stream.read(SEARCHED)


#: The kinds of conditions. Each function returns the check that is repeated until it is true.
KINDS: dict[str, Callable[[Waiting], contextlib.AbstractContextManager[Reached]]] = {
    "running": _running,
    "console": _console,
    "agent": _agent,
    "port": _port,
}
