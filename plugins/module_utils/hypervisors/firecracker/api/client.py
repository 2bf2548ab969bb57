# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Firecracker's API: HTTP over a unix socket. One connection a request, each with a limit of time; answers have a declared shape (`shapes.py`)."""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import Any

from ....errors import DeadlineExceeded, VmmError
from ....untrusted.answers import AnswerError, checked, parsed, printable
from ....untrusted.files import Directory, UntrustedFile
from . import shapes

#: Bytes of an answer that are read; the largest one is a configuration of some KiB.
ANSWER_LIMIT = 4 * 1024 * 1024
#: Characters of a refusal that are shown.
MOST_WORDS = 4096
#: The server has room for ten clients, and says so with this status (api_server, "Too many open connections").
BUSY = 503
BUSY_PAUSE = 0.02


class ApiError(VmmError):
    """Firecracker refused a request. `answer` is its fault_message, word for word.

    :param status: the HTTP status
    """

    def __init__(self, message: str, status: int = 0, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.status = status


class ApiConnectionError(VmmError):
    """Nobody answers on the socket, or what answers is not HTTP."""


class ApiClient:
    """Requests to one Firecracker.

    :param path: its API socket
    :param seconds: for a request that names no limit of its own
    :param version: what the server is known to be, for the texts of errors
    :param owner: the uid that must own the socket and listen on it, -1 for any
    :param pid: the process that must listen on it, 0 for any
    """

    def __init__(self, path: str, seconds: float, version: str = "", owner: int = -1, pid: int = 0) -> None:
        self.path = path
        self.seconds = seconds
        self.version = version
        self.owner = owner
        self.pid = pid

    def get(self, endpoint: str, seconds: float = 0) -> Any:
        """Ask for something; what comes back has the shape that is declared for it.

        :raises AnswerError: the answer has another shape
        """
        content = self.request("GET", endpoint, None, seconds)
        source = f"Firecracker's answer to GET {endpoint}"
        return checked(shapes.ANSWERS[endpoint], parsed(content, source, ANSWER_LIMIT), source)

    def put(self, endpoint: str, body: dict[str, Any], seconds: float = 0) -> None:
        """Set something."""
        self.request("PUT", endpoint, body, seconds)

    def patch(self, endpoint: str, body: dict[str, Any], seconds: float = 0) -> None:
        """Change something."""
        self.request("PATCH", endpoint, body, seconds)

    def delete(self, endpoint: str, seconds: float = 0) -> None:
        """Remove something."""
        self.request("DELETE", endpoint, None, seconds)

    def request(self, method: str, endpoint: str, body: dict[str, Any] | None = None, seconds: float = 0) -> bytes:
        """Send one request and return the content of the answer.

        :param seconds: until the whole answer is there
        :raises ApiError: it was refused; names the endpoint, the VM's state and the version
        :raises ApiConnectionError: nobody answers
        :raises DeadlineExceeded: the answer did not come in time
        """
        deadline = time.monotonic() + (seconds or self.seconds)
        while True:
            status, content = self._exchange(method, endpoint, body, deadline)
            if status != BUSY or time.monotonic() + BUSY_PAUSE >= deadline:
                break
            time.sleep(BUSY_PAUSE)
        if 200 <= status < 300:
            return content
        raise ApiError(
            f"Firecracker{' ' + self.version if self.version else ''} refused {method} {endpoint} ({status})"
            + self._while(endpoint, deadline),
            status,
            answer=fault_message(content),
        )

    def _while(self, endpoint: str, deadline: float) -> str:
        """The state that a refusal fell into, where it can still be asked."""
        if endpoint == "/":
            return ""
        try:
            state = self.get("/", max(0.001, min(deadline - time.monotonic(), 1)))["state"]
        except ApiConnectionError:
            return " and is gone"
        except VmmError:
            return ""
        return f" while it was {printable(state)}"

    def _exchange(self, method: str, endpoint: str, body: dict[str, Any] | None, deadline: float) -> tuple[int, bytes]:
        from . import http_exchange

        try:
            with self._connected(deadline) as connection:
                return http_exchange.exchange(connection, method, endpoint, body, deadline)
        except (TimeoutError, socket.timeout) as error:  # The second is another type before Python 3.10.
            raise DeadlineExceeded(
                f"Firecracker did not answer {method} {endpoint} in time", answer=str(error)
            ) from error
        except UntrustedFile as error:
            raise ApiConnectionError(f"there was no answer to {method} {endpoint}", answer=str(error)) from error
        except (OSError, ValueError) as error:
            words = str(error) or type(error).__name__
            raise ApiConnectionError(f"there was no answer to {method} {endpoint}", answer=words) from error

    def _connected(self, deadline: float) -> socket.socket:
        """A connection to the socket itself, not to what a link in its place leads to.

        A path through a descriptor also stays within the kernel's 107 bytes, however deep a jail lies.

        :raises OSError: nobody listens
        :raises UntrustedFile: it is no socket, or somebody else's, or somebody else listens
        """
        owners = (self.owner,) if self.owner >= 0 else ()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            with (
                Directory.open(os.path.dirname(self.path)) as directory,
                directory.socket(os.path.basename(self.path), owners) as path,
            ):
                connection.connect(path)
            pid, uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if (owners and uid != self.owner) or (self.pid and pid != self.pid):
                raise UntrustedFile(
                    f"another program listens on {self.path}", answer=f"it is process {pid} of user {uid}"
                )
        except BaseException:
            connection.close()
            raise
        return connection


def fault_message(content: bytes) -> str:
    """The server's words in the body of a refusal, made printable."""
    words = content[:MOST_WORDS].decode("utf-8", "replace").strip()
    try:
        answer = checked(shapes.FAULT, parsed(content, "the refusal", ANSWER_LIMIT), "the refusal")
        words = answer.get("fault_message") or answer.get("error") or words
    except AnswerError:
        pass
    return printable(words[:MOST_WORDS])
