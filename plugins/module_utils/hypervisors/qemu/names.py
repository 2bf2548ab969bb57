# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that a QEMU of ours has: its sockets, files and devices."""

from __future__ import annotations

#: Files of a run directory; the sockets are those that a VM which ended without ceremony leaves behind.
CONTROL_SOCKET, OBSERVER_SOCKET, CONSOLE_SOCKET, AGENT_SOCKET = "qmp.sock", "monitor.sock", "console.sock", "agent.sock"


#: The port that the QEMU guest agent opens by itself.
AGENT_PORT = "org.qemu.guest_agent.0"


#: How many ports for data a VM has.
CHANNELS = 4


def channel_port(number: int) -> str:
    """What the guest calls a port for data."""
    return f"org.kata_hypervisor.channel.{number}"


def channel_pipes(number: int) -> str:
    """Name of the two pipes of a port for data, without their ending: `.in` is what QEMU reads, `.out` what it writes."""
    return f"channel-{number}"


SOCKETS = (CONTROL_SOCKET, OBSERVER_SOCKET, CONSOLE_SOCKET, AGENT_SOCKET)


PIDFILE = "pid"


CONSOLE_LOG = "console.log"


VMM_LOG = "vmm.log"


#: What the user's device ids start with in QEMU.
DEVICE_PREFIX = "dev-"


#: In a state directory: the sandbox's copy of its firmware's variables.
FIRMWARE_VARS = "firmware-vars.fd"
