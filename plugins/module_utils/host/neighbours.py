# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask whether a machine in a network of this host has an address: it answers the question for its MAC address, whatever its firewall is."""

from __future__ import annotations

import contextlib
import socket

from .programs import installed_program, output_of

PACKAGES = "iproute2 (Debian, Ubuntu) or iproute (Fedora, RHEL)"
SECONDS = 10.0
#: A port that discards (RFC 863).
DISCARD = 9
#: States of an entry that has a MAC address (ip-neighbour(8)).
KNOWN = {"REACHABLE", "STALE", "DELAY", "PROBE", "PERMANENT", "NOARP"}


def forget(address: str) -> None:
    """Make the kernel forget the MAC address of another machine's IP address, so that `answers` does not report what was true before."""
    output_of([installed_program("ip", PACKAGES), "neighbour", "flush", "to", address], SECONDS)


def answers(address: str) -> bool:
    """Whether the machine with that address has answered. It is asked first: the kernel asks for the MAC address before it sends anything."""
    with contextlib.suppress(OSError):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.sendto(b"", (address, DISCARD))
    found = output_of([installed_program("ip", PACKAGES), "neighbour", "show", "to", address], SECONDS)
    return any(
        line.split()[0] == address and "lladdr" in line.split() and line.split()[-1] in KNOWN
        for line in found.text.splitlines()
        if line.split()
    )
