# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until a sandbox is what its user calls ready. "Running" does not mean booted."""

from __future__ import annotations

import os
import re
import time
from typing import Any, Callable

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import (
    ConfigError,
    DeadlineExceeded,
    Unsupported,
    VmmError,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Hypervisor

DEFAULT_TIMEOUT = 60.0

#: Seconds between two looks.
POLL = 0.1

#: Bytes of the console that are searched, from its end; a guest may print for ever.
SEARCHED = 4 * 1024 * 1024


def parse_wait_for(value: Any, timeout: float = DEFAULT_TIMEOUT) -> dict[str, Any] | None:
    """The task's C(wait_for) as a dictionary of one kind of L(KINDS) and C(timeout); None when there is none.

    :param value: C(running), C(console: REGEX) or C(console=REGEX), or a dictionary
    :raises ConfigError: it cannot be understood
    """

    def wrong(message: str) -> ConfigError:
        kinds = ", ".join(KINDS)
        return ConfigError(
            message, option="wait_for", wanted=value, fix=f"Give one of {kinds}, such as 'console: login'."
        )

    if value in (None, "", {}):
        return None
    if isinstance(value, str):
        # A command line has many equals signs, so one is as good as the colon.
        kind, argument = [*re.split("[:=]", value, maxsplit=1), ""][:2]
        value = {kind.strip(): argument.strip()}
    if not isinstance(value, dict):
        raise wrong("this cannot be waited for")
    wish = dict(value)
    seconds = wish.pop("timeout", timeout)
    try:
        if isinstance(seconds, bool):
            raise ValueError("true and false are no numbers")
        seconds = float(seconds)
    except (TypeError, ValueError, OverflowError) as problem:
        raise wrong("the timeout must be a number of seconds") from problem
    if len(wish) != 1 or not set(wish) <= set(KINDS) or not 0 < seconds < 86400:
        raise wrong("this is not one thing to wait for, with a timeout of up to a day")
    kind, argument = wish.popitem()
    if kind == "console":
        try:
            if not argument or not isinstance(argument, str):
                raise wrong("the console needs a regular expression")
            re.compile(argument.encode())
        except re.error as problem:
            raise wrong(f"this is no regular expression: {problem}") from problem
    if kind == "port":
        port = str(argument).rpartition(":")[2]
        if not port.isdigit() or not 0 < int(port) < 65536:
            raise wrong("a port is a number from 1 to 65535, after an address and a colon where the guest has no agent to ask")
    return {"kind": kind, "argument": argument, "timeout": seconds}


def wait_for(wish: dict[str, Any], driver: Hypervisor, sandbox: str, console_start: int) -> None:
    """Wait for what L(parse_wait_for) gave.

    :param console_start: where in the console's log this run of the VM begins, in bytes
    :raises DeadlineExceeded: it did not come in time; with the last lines of the console and of the VMM's log
    :raises VmmError: the VM ended while it was waited for
    """
    deadline = time.monotonic() + wish["timeout"]
    reached = KINDS[wish["kind"]](wish["argument"], driver, sandbox, console_start)
    what = f"{wish['kind']} {wish['argument']}".strip() if isinstance(wish["argument"], str) else wish["kind"]
    while True:
        seen = driver.observe()
        if reached(seen.power):
            return
        # One that does not answer may only have much to do; what is lost says so.
        gone = seen.power == "off" or (seen.power == "failed" and bool(seen.vmm_status))
        if gone or time.monotonic() >= deadline:
            message = f"the VM is {seen.power}" if gone else f"it did not come within {wish['timeout']:g} seconds"
            if seen.reason:
                message += f" ({seen.reason})"
            raise (VmmError if gone else DeadlineExceeded)(
                f"waited for {what}, and {message}",
                sandbox=sandbox,
                option="wait_for",
                wanted=wish["argument"] or wish["kind"],
                answer=last_words(driver),
                log=driver.console_log() or driver.vmm_log(),
                fix="The sandbox was left as it is. Look at its console, or give wait_for more time.",
            )
        time.sleep(POLL)


def last_words(driver: Hypervisor, lines: int = 15) -> str:
    """The end of the console and of the VMM's log, for an error."""
    from ansible_collections.kata.hypervisor.plugins.module_utils.process import tail

    texts = []
    for title, path in (("console", driver.console_log()), ("VMM log", driver.vmm_log())):
        text = tail(path, lines).strip() if path else ""
        if text:
            texts.append(f"[{title}]\n{text}")
    return "\n".join(texts)


Reached = Callable[[str], bool]


def _running(argument: str, driver: Hypervisor, sandbox: str, console_start: int) -> Reached:
    return lambda power: power == "running"


def _console(argument: str, driver: Hypervisor, sandbox: str, console_start: int) -> Reached:
    path = driver.console_log()
    if not path:
        raise Unsupported(
            f"the {driver.name} driver keeps no console log to search",
            sandbox=sandbox,
            option="wait_for",
            wanted=argument,
        )
    pattern = re.compile(argument.encode())
    return lambda power: pattern.search(_printed(path, console_start)) is not None


def _agent(argument: str, driver: Hypervisor, sandbox: str, console_start: int) -> Reached:
    return lambda power: power == "running" and bool(driver.guest_facts())


def _port(argument: Any, driver: Hypervisor, sandbox: str, console_start: int) -> Reached:
    address, _colon, port = str(argument).rpartition(":")
    number = int(port)

    def reached(power: str) -> bool:
        host = address.strip("[]")
        if not host and power == "running":
            from ansible_collections.kata.hypervisor.plugins.module_utils.guest_agent import first_address

            host = first_address(driver.guest_facts())
        return bool(host) and _listens(host, number)

    return reached


def _listens(host: str, port: int) -> bool:
    import socket

    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def _printed(path: str, start: int) -> bytes:
    """What the guest printed since it started; a log that is shorter than it was has been begun anew."""
    try:
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(max(start if start <= size else 0, size - SEARCHED))
            return stream.read()
    except FileNotFoundError:
        return b""


#: What can be waited for: a function that is given the wish and the VM, and returns the question to ask again and again.
KINDS: dict[str, Callable[[Any, Hypervisor, str, int], Reached]] = {
    "running": _running,
    "console": _console,
    "agent": _agent,
    "port": _port,
}
