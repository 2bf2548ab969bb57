# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connect to a port of a guest (`ways.py`). What answers before the guest does is the VMM, and neither is trusted."""

from __future__ import annotations

import os
import re
import socket
import time

from ..errors import VmmError
from ..untrusted.answers import printable
from ..untrusted.files import Directory, UntrustedFile
from .ways import SOCKET, VSOCK, Way

#: The answer of the VMM to `CONNECT PORT`: a connection of the host's that the guest has accepted (Firecracker's docs/vsock.md).
ACCEPTED = re.compile(rb"OK [0-9]{1,10}")
#: The longest answer, bytes.
MOST_ANSWER = 64


class PortError(VmmError):
    """A port of a guest cannot be reached, or no program of the guest listens there."""


def connect(way: Way, timeout: float) -> socket.socket:
    """A stream to a port of the guest, of kind `SOCKET` or `VSOCK`. Each of its operations has the same time limit.

    The socket's directory may be the VMM's own, which could put something else there; nothing but a socket is connected.

    :param timeout: seconds
    :raises PortError: nobody listens, in the guest or on the host, or what answered is no acceptance
    """
    if way.kind not in (SOCKET, VSOCK):
        raise PortError("this port of the guest is no stream", wanted=f"{way.kind} {way.path}")
    deadline = time.monotonic() + timeout
    stream = socket.socket(socket.AF_UNIX)
    try:
        stream.settimeout(timeout)
        place, name = os.path.split(way.path)
        with Directory.open(place) as directory, directory.socket(name) as path:
            _connect(stream, path, deadline)
        if way.kind == VSOCK:
            stream.sendall(f"CONNECT {way.name}\n".encode())
            _accepted(stream, way, deadline)
            stream.settimeout(timeout)
    except (OSError, UntrustedFile) as error:
        stream.close()
        raise PortError(f"the guest's port {way.name} cannot be reached", wanted=way.path, answer=str(error)) from error
    except BaseException:
        stream.close()
        raise
    return stream


def _connect(stream: socket.socket, path: str, deadline: float) -> None:
    """Connect, and wait for a place in the queue of a socket that others wait at too (connect(2), EAGAIN)."""
    while True:
        try:
            stream.connect(path)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.01)


def _accepted(stream: socket.socket, way: Way, deadline: float) -> None:
    """Read the line that says that the guest has accepted; nothing of what follows it."""
    answer = b""
    while not answer.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0:
            raise PortError(f"the VMM did not answer for the guest's port {way.name} in time", wanted=way.path)
        stream.settimeout(left)
        byte = stream.recv(1)
        if not byte:
            raise PortError(
                f"no program of the guest listens on its port {way.name}", wanted=way.path, answer=_shown(answer)
            )
        answer += byte
        if len(answer) > MOST_ANSWER:
            break
    if not ACCEPTED.fullmatch(answer.rstrip(b"\n")):
        raise PortError(
            f"the VMM must answer 'OK NUMBER' for the guest's port {way.name}", wanted=way.path, answer=_shown(answer)
        )


def _shown(answer: bytes) -> str:
    return printable(answer.decode("utf-8", "replace"), lines=False)
