# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what the loop of `channel_program.py` answers. The guest is not trusted: whatever it sends, little memory is used."""

from __future__ import annotations

import re
from typing import Callable

from ..errors import VmmError
from ..untrusted.answers import brief

#: What receives the standard output or the standard error, in parts.
Sink = Callable[[bytes], None]

#: The line after the standard output: exit code, bytes of the standard error.
END = re.compile(rb" ([0-9]{1,3}) ([0-9]{1,12})\n")
#: The longest such line, bytes.
MOST_END = 32
HELLO = re.compile(rb" ([1-9][0-9]{0,9})\n")


class ChannelError(VmmError):
    """A data channel of a guest cannot be used, or broke."""


class Marker:
    """Finds a text in a stream that comes in parts.

    :param text: what to find
    """

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._kept = b""

    def split(self, data: bytes) -> tuple[bytes, bytes | None]:
        """What is certainly before the text, and what comes after it (None while it was not found)."""
        data = self._kept + data
        before, found, after = data.partition(self._text)
        if found:
            self._kept = b""
            return before, after
        # The text may begin at the end of this part.
        keep = next(
            (size for size in range(min(len(self._text) - 1, len(data)), 0, -1) if self._text.startswith(data[-size:])),
            0,
        )
        self._kept = data[len(data) - keep :]
        return data[: len(data) - keep], None


class Greeting:
    """Reads the answer to `hello`. What was in the port before it is skipped.

    :param nonce: what the request contained
    """

    def __init__(self, nonce: str) -> None:
        self._marker = Marker(nonce.encode())
        self._line: bytes | None = None

    def feed(self, data: bytes) -> int:
        """The pid of the loop, 0 while the answer is not complete.

        :raises ChannelError: the answer is another one
        """
        if self._line is None:
            self._line = self._marker.split(data)[1]
        else:
            self._line += data
        line = self._line or b""
        if b"\n" not in line and len(line) <= MOST_END:
            return 0
        found = HELLO.fullmatch(line)
        if not found:
            raise ChannelError("the loop in the guest must answer with its process id", answer=brief(line))
        return int(found.group(1))


class CommandAnswer:
    """Reads the answer to `run`.

    :param nonce: what the request contained
    :param output: receives the standard output
    :param errors: receives the standard error
    """

    def __init__(self, nonce: str, output: Sink, errors: Sink) -> None:
        self._begin = Marker(f"{nonce} begin\n".encode())
        self._end = Marker(nonce.encode())
        self._output = output
        self._errors = errors
        self._read = self._skip
        self._line = b""
        self._left = 0
        #: The exit code of the command, once the answer has contained it.
        self.code = 0
        #: Whether the answer is complete.
        self.complete = False

    def feed(self, data: bytes) -> None:
        """Read on.

        :raises ChannelError: this is not the answer of a loop
        """
        rest: bytes | None = data
        while rest is not None and not self.complete:
            rest = self._read(rest)

    def _skip(self, data: bytes) -> bytes | None:
        """What a process of an earlier command has printed."""
        rest = self._begin.split(data)[1]
        if rest is not None:
            self._read = self._read_output
        return rest

    def _read_output(self, data: bytes) -> bytes | None:
        before, rest = self._end.split(data)
        if before:
            self._output(before)
        if rest is not None:
            self._read = self._read_end
        return rest

    def _read_end(self, data: bytes) -> bytes | None:
        self._line += data
        line, newline, rest = self._line.partition(b"\n")
        if not newline and len(line) <= MOST_END:
            return None
        found = END.fullmatch(line + newline)
        if not found:
            raise ChannelError("the loop in the guest must answer with an exit code and a size", answer=brief(line))
        self.code, self._left = int(found.group(1)), int(found.group(2))
        self._read = self._read_errors
        return rest

    def _read_errors(self, data: bytes) -> bytes | None:
        part = data[: self._left]
        if part:
            self._errors(part)
        self._left -= len(part)
        self.complete = self._left == 0
        return None
