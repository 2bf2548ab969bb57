# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dnsmasq process of a network."""

from __future__ import annotations

import functools
import grp
import os
import pwd
import signal
import time
from typing import NamedTuple

from ...errors import HostError
from ...host.processes import ProcessIdentity, command_line, command_lines, identify, send_signal, terminate
from ...host.programs import run
from ...host.systemd import has_systemd
from .definition import Network
from .host_links import program

#: Seconds that dnsmasq gets to start, and to end.
START_SECONDS, STOP_SECONDS = 10.0, 5.0
#: How often it is started while its address is in use, and the seconds between that.
START_TRIES, START_PAUSE = 8, 0.25


class Who(NamedTuple):
    """The user that dnsmasq runs as."""

    name: str
    group: str
    gid: int


@functools.cache
def user() -> Who:
    """The unprivileged user for dnsmasq: the one of the distribution's package, or nobody.

    :raises HostError: the host has neither
    """
    for name in ("dnsmasq", "nobody"):
        try:
            found = pwd.getpwnam(name)
            return Who(name, grp.getgrgid(found.pw_gid).gr_name, found.pw_gid)
        except KeyError:
            continue
    raise HostError("the host must have a user dnsmasq or nobody", option="network")


def _argument(network: Network) -> str:
    return f"--conf-file={network.run_directory}/dnsmasq.conf"


def find(network: Network) -> ProcessIdentity | None:
    """The network's dnsmasq; None if it does not run."""
    try:
        with open(f"{network.run_directory}/dnsmasq.pid", encoding="ascii") as stream:
            pid = int(stream.read(20))
    except (OSError, ValueError):
        return None
    process = identify(pid)
    if process is None or _argument(network) not in command_line(pid):
        return None
    return process


def start(network: Network) -> None:
    """Start dnsmasq, which does not run, with its current configuration. It returns when dnsmasq answers.

    :raises HostError: it does not start; the error has its message
    """
    _test(network)
    for attempt in range(START_TRIES):
        code, words = _start_once(network)
        if not code or "already in use" not in words:
            break
        # One that has just ended, or a process that it started to answer a query, may still have the address.
        if attempt + 1 < START_TRIES:
            stop(network)
            time.sleep(START_PAUSE)
    if code:
        busy = "already in use" in words
        raise HostError(
            f"dnsmasq of the network {network.name} does not start",
            option="network",
            answer=words,
            fix=f"Another DNS or DHCP server must not listen on all addresses, or on {network.definition.gateway}."
            if busy
            else "",
        )


def _start_once(network: Network) -> tuple[int, str]:
    """Start dnsmasq. Returns its exit code, and what it printed."""
    argv = [program("dnsmasq"), _argument(network)]
    if has_systemd():
        from . import unit

        ended = unit.run_dnsmasq(network, argv)
        words = ended.words if not ended.code else f"{ended.words} {unit.dnsmasq_log(network)}"
    else:
        ended = run(argv, START_SECONDS)
        words = ended.words
    return ended.code, words


def _test(network: Network) -> None:
    ended = run([program("dnsmasq"), "--test", _argument(network)], START_SECONDS)
    if ended.code:
        raise HostError("dnsmasq refuses its configuration", option="network", answer=ended.words)


def reload(process: ProcessIdentity) -> None:
    """Read the names and the DHCP hosts again (dnsmasq(8), SIGHUP)."""
    send_signal(process, signal.SIGHUP)


def stop(network: Network) -> None:
    """End dnsmasq. Idempotent.

    :raises HostError: it does not end
    """
    if has_systemd():
        from . import unit

        unit.stop_dnsmasq(network)
    # Also one whose pid file is gone, and those that it started to answer a query by TCP.
    for pid, words in command_lines():
        process = identify(pid) if _argument(network) in words else None
        if process is not None and terminate(process, STOP_SECONDS) == "stuck":
            raise HostError(f"dnsmasq of the network {network.name}, pid {pid}, must end", option="network")
    if os.path.lexists(f"{network.run_directory}/dnsmasq.pid"):
        os.unlink(f"{network.run_directory}/dnsmasq.pid")
