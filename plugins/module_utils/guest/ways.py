# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports that lead from the host into a guest, as a driver names them. Nothing is opened here."""

from __future__ import annotations

from typing import NamedTuple

#: A unix socket whose other end is a port of the guest (QEMU's virtio-serial).
SOCKET = "socket"
#: Two pipes, PATH.in and PATH.out as seen from the VMM, whose other end is a port of the guest (QEMU's chardev `pipe`).
PIPES = "pipes"
#: A unix socket of the VMM that connects to a vsock port of the guest after a line `CONNECT PORT` (Firecracker's docs/vsock.md).
VSOCK = "vsock"


class Way(NamedTuple):
    """How the host reaches one port of a guest.

    :param kind: `SOCKET`, `PIPES` or `VSOCK`
    :param path: the socket, or the two pipes' path without its ending
    :param name: what the guest calls the port: the name of a virtio-serial port, or the number of a vsock port
    """

    kind: str
    path: str
    name: str


class GuestWays(NamedTuple):
    """How the host reaches a guest.

    :param agent: the port of the QEMU guest agent; None where the VM has none
    :param channels: ports for data: each carries one conversation at a time, or (vsock) any number
    """

    agent: Way | None = None
    channels: tuple[Way, ...] = ()
