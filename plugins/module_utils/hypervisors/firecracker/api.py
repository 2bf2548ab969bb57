# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Firecracker's API: HTTP over a unix socket. One connection a request, and each with a limit of time."""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from typing import Any

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import DeadlineExceeded, VmmError

#: Bytes of an answer that are read; the largest one is a configuration of some KiB.
ANSWER_LIMIT = 4 * 1024 * 1024
#: The server has room for ten clients, and says so with this status (api_server, "Too many open connections").
BUSY = 503
BUSY_PAUSE = 0.02


class ApiError(VmmError):
    """Firecracker refused a request. C(answer) is its fault_message, word for word.

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
    """

    def __init__(self, path: str, seconds: float, version: str = "") -> None:
        self.path = path
        self.seconds = seconds
        self.version = version

    def get(self, endpoint: str, seconds: float = 0) -> Any:
        """Ask for something."""
        return self.request("GET", endpoint, None, seconds)

    def put(self, endpoint: str, body: dict[str, Any], seconds: float = 0) -> None:
        """Set something."""
        self.request("PUT", endpoint, body, seconds)

    def patch(self, endpoint: str, body: dict[str, Any], seconds: float = 0) -> None:
        """Change something."""
        self.request("PATCH", endpoint, body, seconds)

    def delete(self, endpoint: str, seconds: float = 0) -> None:
        """Remove something."""
        self.request("DELETE", endpoint, None, seconds)

    def request(self, method: str, endpoint: str, body: dict[str, Any] | None = None, seconds: float = 0) -> Any:
        """Send one request and return the decoded answer, None for an empty one.

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
            return _decoded(content)
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
            status, content = self._exchange("GET", "/", None, min(deadline, time.monotonic() + 1))
            answer = _decoded(content)
        except VmmError:
            return " and is gone"
        return f" while it was {answer['state']}" if status == 200 and isinstance(answer, dict) and "state" in answer else ""

    def _exchange(self, method: str, endpoint: str, body: dict[str, Any] | None, deadline: float) -> tuple[int, bytes]:
        connection = _Connection(self.path, deadline)
        headers = {"Accept": "application/json"}
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, endpoint, content, headers)
            response = connection.getresponse()
            return response.status, response.read(ANSWER_LIMIT)
        except TimeoutError as error:
            raise DeadlineExceeded(f"Firecracker did not answer {method} {endpoint} in time", answer=str(error)) from error
        except (OSError, http.client.HTTPException) as error:
            words = str(error) or type(error).__name__
            raise ApiConnectionError(f"there was no answer to {method} {endpoint}", answer=words) from error
        finally:
            connection.close()


def fault_message(content: bytes) -> str:
    """The server's words in the body of a refusal."""
    answer = _decoded(content)
    if isinstance(answer, dict):
        return str(answer.get("fault_message") or answer.get("error") or content.decode("utf-8", "replace"))
    return content.decode("utf-8", "replace").strip()


def _decoded(content: bytes) -> Any:
    try:
        return json.loads(content) if content.strip() else None
    except ValueError:
        return None


class _DeadlineSocket(socket.socket):
    """A socket all of whose reads together have to be done by a point in time."""

    deadline = 0.0

    def _limit(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self.settimeout(left)

    def recv_into(self, *arguments: Any, **named: Any) -> int:
        self._limit()
        return super().recv_into(*arguments, **named)

    def sendall(self, *arguments: Any, **named: Any) -> None:
        self._limit()
        super().sendall(*arguments, **named)


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, deadline: float) -> None:
        super().__init__("localhost")
        self._path = path
        self._deadline = deadline

    def connect(self) -> None:
        # A path below a directory's descriptor stays within the kernel's 107 bytes, however deep a jail lies.
        directory = os.open(os.path.dirname(self._path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        sock = _DeadlineSocket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.deadline = self._deadline
        try:
            sock.settimeout(max(0.001, self._deadline - time.monotonic()))
            sock.connect(f"/proc/self/fd/{directory}/{os.path.basename(self._path)}")
        except BaseException:
            sock.close()
            raise
        finally:
            os.close(directory)
        self.sock = sock
