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
from typing import TYPE_CHECKING, Any, Callable, Iterator, NamedTuple, Sequence

from ..errors import DeadlineExceeded, Unsupported, VmmError
from ..hypervisors.base import Capabilities, Hypervisor

if TYPE_CHECKING:
    import socket

#: Seconds between two checks.
POLL = 0.1

#: How many addresses of a guest are tried at most.
MOST_ADDRESSES = 8

#: How many bytes at the end of the console log are searched; a guest may print without end.
SEARCHED = 4 * 1024 * 1024


#: How many bytes of an ssh server's first lines are read, and how long a server gets to send them, seconds.
MOST_BANNER = 1024
BANNER_SECONDS = 5.0

#: What cloud-init prints on the console at its end, and what the script of the collection's own images prints.
CLOUD_INIT_DONE = re.compile(rb"Cloud-init v\. \S{1,80} finished at |kata-guest: the seed is applied")
#: Lines of the console that report an error of one of the two, and warnings that are none.
CLOUD_INIT_ERROR = re.compile(
    rb"[^\r\n]*(?:\[(?:WARNING|ERROR|CRITICAL)\]: [^\r\n]*(?:[Ff]ail|[Ee]rror|[Ii]nvalid|Unhandled|Unable)"
    rb"|kata-guest: (?:cannot|there is no|no address|no program|the user script ended with exit code [1-9]))[^\r\n]*"
)
NO_ERROR = re.compile(rb"DEPRECAT|[Dd]eprecat")
#: How many of these lines an error shows.
MOST_LINES = 10


def check_possible(
    condition: dict[str, Any],
    hypervisor: str,
    capabilities: Capabilities,
    sandbox: str,
    addresses: Sequence[str] = (),
    ssh_ports: Sequence[tuple[str, int]] = (),
) -> None:
    """Refuse a condition that this VM cannot report.

    :param addresses: those that the host gives the guest
    :param ssh_ports: addresses and ports of the host that lead to the guest's port 22
    :raises Unsupported: the condition needs a guest agent, and the VM has no channel to one
    """
    kind, argument = condition["kind"], str(condition["argument"])
    needs_agent = {
        "agent": "an agent",
        "port": "" if argument.rpartition(":")[0] else "a port without an address",
        "ssh": "" if argument.rpartition(":")[0] or addresses or ssh_ports else "an ssh server without an address",
        "address": "" if argument or addresses else "the address of a guest without a network of the host",
    }
    what = needs_agent.get(kind, "")
    if what and not capabilities.guest_agent:
        raise Unsupported(
            f"{what} cannot be waited for: this VM has no channel to a guest agent (driver {hypervisor})",
            sandbox=sandbox,
            option="wait_for",
            wanted=condition["argument"] or condition["kind"],
            fix="Wait for the console, or for a port with the guest's address before it, such as 'port: 192.0.2.7:22'.",
        )


def wait_for(
    condition: dict[str, Any],
    driver: Hypervisor,
    sandbox: str,
    console_start: int,
    interfaces: Sequence[str] = (),
    addresses: Sequence[str] = (),
    ssh_ports: Sequence[tuple[str, int]] = (),
) -> None:
    """Wait for a condition from `parse_wait_for`.

    :param console_start: where in the console's log this run of the VM begins, in bytes
    :param interfaces: the host's interfaces that lead to the guest
    :param addresses: those that the host gives the guest
    :param ssh_ports: addresses and ports of the host that lead to the guest's port 22
    :raises DeadlineExceeded: it was not reached in time; with the last lines of the console and of the VMM's log
    :raises VmmError: the VM ended before it was reached, or the guest reports errors of what was waited for
    """
    deadline = time.monotonic() + condition["timeout"]
    waiting = Waiting(
        condition["argument"],
        driver,
        sandbox,
        console_start,
        tuple(interfaces),
        deadline,
        tuple(addresses),
        tuple(ssh_ports),
    )
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
    :param addresses: those that the host gives the guest
    :param ssh_ports: addresses and ports of the host that lead to the guest's port 22
    """

    argument: Any
    driver: Hypervisor
    sandbox: str
    console_start: int
    interfaces: tuple[str, ...]
    deadline: float
    addresses: tuple[str, ...] = ()
    ssh_ports: tuple[tuple[str, int], ...] = ()


@contextlib.contextmanager
def _running(waiting: Waiting) -> Iterator[Reached]:
    yield lambda power: power == "running"


def _console_log(waiting: Waiting, wanted: str, purpose: str) -> str:
    """The path of the console's log.

    :raises Unsupported: the driver keeps none
    """
    path = waiting.driver.console_log()
    if not path:
        raise Unsupported(
            f"the {waiting.driver.name} driver keeps no console log{purpose}",
            sandbox=waiting.sandbox,
            option="wait_for",
            wanted=wanted,
        )
    return path


@contextlib.contextmanager
def _console(waiting: Waiting) -> Iterator[Reached]:
    path = _console_log(waiting, waiting.argument, " to search")
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
    with subprocess.Popen(  # pylint: disable=ansible-bad-function  # run_command needs a module, and waits for the end
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
        return any(
            _listens(found, number, waiting.deadline, interface)
            for found in _reported_addresses(waiting)
            for interface in waiting.interfaces
        )

    yield reached


def _reported_addresses(waiting: Waiting) -> list[str]:
    """The addresses that the guest's agent reports. It is not trusted: each must be reached through the guest's own network, and not be the host's."""
    from ..guest.agent import addresses_of

    return [found for found in addresses_of(waiting.driver.guest_facts()) if not _is_ours(found)][:MOST_ADDRESSES]


@contextlib.contextmanager
def _ssh(waiting: Waiting) -> Iterator[Reached]:
    address, _colon, port = str(waiting.argument).rpartition(":")
    number = int(port or 22)
    known = [(address.strip("[]"), number)] if address else [(one, number) for one in waiting.addresses]
    if number == 22 and not address:
        known = [*waiting.ssh_ports] or known

    def reached(power: str) -> bool:
        if power != "running":
            return False
        if known:
            return any(_greets(host, one, waiting.deadline) for host, one in known)
        found = _reported_addresses(waiting) if waiting.interfaces else []
        return any(
            _greets(host, number, waiting.deadline, interface) for host in found for interface in waiting.interfaces
        )

    yield reached


@contextlib.contextmanager
def _address(waiting: Waiting) -> Iterator[Reached]:
    from ..host import neighbours

    known = [waiting.argument] if waiting.argument else list(waiting.addresses)
    for one in known:
        neighbours.forget(one)

    def reached(power: str) -> bool:
        if power != "running":
            return False
        if known:
            return all(neighbours.answers(one) for one in known)
        from ..guest.agent import addresses_of

        return bool(addresses_of(waiting.driver.guest_facts()))

    yield reached


@contextlib.contextmanager
def _cloud_init(waiting: Waiting) -> Iterator[Reached]:
    path = _console_log(waiting, "cloud_init", ", which cloud-init prints its end on")

    def reached(power: str) -> bool:
        printed = _printed(path, waiting.console_start)
        if not CLOUD_INIT_DONE.search(printed):
            return False
        lines = [line for line in CLOUD_INIT_ERROR.findall(printed) if not NO_ERROR.search(line)]
        if lines:
            shown = b"\n".join(line[:300] for line in lines[:MOST_LINES])
            raise VmmError(
                "the guest has applied its seed, with errors",
                sandbox=waiting.sandbox,
                option="wait_for",
                wanted="cloud_init",
                answer=shown.decode("utf-8", "replace"),
                log=path,
                fix="The sandbox was left as it is. Correct the user data, or look at /var/log/cloud-init.log in the guest.",
            )
        return True

    yield reached


@contextlib.contextmanager
def _stopped(waiting: Waiting) -> Iterator[Reached]:
    yield lambda power: power == "off"


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
    seconds = min(1.0, deadline - time.monotonic())
    if seconds <= 0:
        return False
    try:
        with _connected(host, port, seconds, interface):
            return True
    except OSError:
        return False


def _connected(host: str, port: int, seconds: float, interface: str = "") -> socket.socket:
    """A connection, with a time limit for each of its operations.

    :raises OSError: nothing listens there
    """
    import socket

    if not interface:
        return socket.create_connection((host, port), timeout=seconds)
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.settimeout(seconds)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        made.connect((host, port))
    except BaseException:
        made.close()
        raise
    return made


def _greets(host: str, port: int, deadline: float, interface: str = "") -> bool:
    """Whether an ssh server sends its identification (RFC 4253, 4.2). A published port listens before the guest does, so a connection proves nothing."""
    seconds = min(BANNER_SECONDS, deadline - time.monotonic())
    if seconds <= 0:
        return False
    try:
        with _connected(host, port, seconds, interface) as connection:
            end, received = time.monotonic() + seconds, b""
            while len(received) < MOST_BANNER and time.monotonic() < end:
                piece = connection.recv(MOST_BANNER - len(received))
                received += piece
                if received.startswith(b"SSH-") or b"\nSSH-" in received:
                    return True
                if not piece:
                    return False
    except OSError:
        return False
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
    "ssh": _ssh,
    "cloud_init": _cloud_init,
    "address": _address,
    "stopped": _stopped,
}
