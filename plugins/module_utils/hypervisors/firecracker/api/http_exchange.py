# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One HTTP request and its answer, as far as Firecracker speaks HTTP. Every part of an answer is bounded in bytes, and all of it in time."""

from __future__ import annotations

import json
import re
import socket
import time
from typing import Any

#: Bytes of the status line and the headers together, and of the content.
MOST_HEAD = 16 * 1024
MOST_CONTENT = 4 * 1024 * 1024
PIECE = 65536
STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([2-5][0-9][0-9])(?: [^\r\n]*)?")
HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n]*?)[ \t]*")
LENGTH = re.compile(rb"[0-9]{1,8}")


class NotHttp(ValueError):
    """What came back is not an answer that Firecracker could have given."""


def exchange(
    connection: socket.socket, method: str, endpoint: str, body: dict[str, Any] | None, deadline: float
) -> tuple[int, bytes]:
    """Send a request and return the status and the content of the answer.

    :raises TimeoutError: it is not complete by `deadline`, however steadily it drips
    :raises NotHttp: it is no HTTP, ends too early, or is larger than Firecracker's answers are
    :raises OSError: the connection breaks
    """
    connection.settimeout(_left(deadline))
    connection.sendall(_request(method, endpoint, body))
    head, content = _head(connection, deadline)
    status, length = _parsed_head(head)
    if len(content) > length:
        raise NotHttp("the answer is longer than it says")
    while len(content) < length:
        piece = _received(connection, min(PIECE, length - len(content)), deadline)
        if not piece:
            raise NotHttp(f"the answer ended after {len(content)} of {length} bytes")
        content += piece
    return status, bytes(content)


def _request(method: str, endpoint: str, body: dict[str, Any] | None) -> bytes:
    lines = [f"{method} {endpoint} HTTP/1.1", "Host: localhost", "Accept: application/json"]
    content = b""
    if body is not None:
        content = json.dumps(body).encode()
        lines += [f"Content-Length: {len(content)}", "Content-Type: application/json"]
    return "\r\n".join([*lines, "", ""]).encode() + content


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def _received(connection: socket.socket, size: int, deadline: float) -> bytes:
    connection.settimeout(_left(deadline))
    return connection.recv(size)


def _head(connection: socket.socket, deadline: float) -> tuple[bytes, bytearray]:
    """Status line and headers, and what of the content came with them."""
    data = bytearray()
    while True:
        # The end may be split between two pieces.
        end = data.find(b"\r\n\r\n", max(0, len(data) - PIECE - 3))
        if end >= 0 and end <= MOST_HEAD:
            return bytes(data[:end]), data[end + 4 :]
        if end >= 0 or len(data) > MOST_HEAD:
            raise NotHttp(f"the answer has more than {MOST_HEAD} bytes of headers")
        piece = _received(connection, PIECE, deadline)
        if not piece:
            raise NotHttp(
                "the connection was closed before the answer's headers had come"
                if data
                else "the connection was closed without an answer"
            )
        data += piece


def _parsed_head(head: bytes) -> tuple[int, int]:
    """The status, and how many bytes of content follow."""
    first, *lines = head.split(b"\r\n")
    status = STATUS_LINE.fullmatch(first)
    if status is None:
        raise NotHttp("the answer does not begin as HTTP does")
    length = 0
    seen = False
    for line in lines:
        header = HEADER.fullmatch(line)
        if header is None:
            raise NotHttp("the answer has a line that is not a header")
        name, value = header[1].lower(), header[2]
        if name == b"transfer-encoding":
            raise NotHttp("the answer comes in chunks, as Firecracker's never do")
        if name == b"content-length":
            if not LENGTH.fullmatch(value) or int(value) > MOST_CONTENT:
                raise NotHttp(f"the length of the answer must be a number from 0 to {MOST_CONTENT}")
            if seen and int(value) != length:
                raise NotHttp("the answer has two lengths")
            length, seen = int(value), True
    return int(status[1]), length
