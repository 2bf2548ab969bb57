# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""QMP, the QEMU Machine Protocol, and nothing else (QEMU's docs/interop/qmp-spec).

One client object is one connection. Every wait has a deadline; whatever a VMM sends, only typed errors come out.
"""

from __future__ import annotations

import json
import math
import select
import socket
import time
from typing import Any, Callable

from ...errors import DeadlineExceeded, VmmError
from ...untrusted.answers import AnswerError, brief, checked, parsed
from .qmp_answers import ERROR, EVENT, GREETING, shape_for

#: The longest line taken from a VMM, bytes. The largest honest one is query-qmp-schema, about 200 KiB.
MAX_LINE = 4 * 1024 * 1024
#: How many events are kept for a later wait, and how long one may be, bytes; the oldest go first.
MAX_EVENTS = 256
MAX_EVENT = 16 * 1024


class QmpError(VmmError):
    """QEMU refused a command; `error_class` is QMP's class of the error, `answer` its text."""

    def __init__(self, command: str, error_class: str, description: str) -> None:
        super().__init__(f"QEMU refused {command}", wanted=command, answer=description)
        self.error_class = error_class


class QmpConnectionError(VmmError):
    """There is no connection, or it ended, or what came over it is not QMP."""


class QmpClient:
    """A control connection to one QEMU.

    :param path: the monitor's unix socket
    :param timeout: seconds for the connection, the greeting and, where a call names none, each command
    :param whole: seconds for everything over this connection, however steadily answers come; 0 for no such limit
    :raises QmpConnectionError: nobody listens, or the other side does not speak QMP
    :raises DeadlineExceeded: no greeting in time; QEMU serves one client a monitor, so another one may hold it
    """

    #: When everything over this connection ends, by the monotonic clock.
    _end: float = math.inf

    def __init__(self, path: str, timeout: float = 5.0, whole: float = 0) -> None:
        self.path = path
        self.timeout = timeout
        if whole:
            self._end = time.monotonic() + whole
        self.version: tuple[int, int, int] = (0, 0, 0)
        self._events: list[dict[str, Any]] = []
        self._buffer = bytearray()
        self._next_id = 0
        #: Commands that were sent and not waited for yet: their ids, the commands and their arguments.
        self._asked: list[tuple[int, str, dict[str, Any] | None]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(max(0.001, timeout))
            try:
                self._socket.connect(path)
            except OSError as error:
                raise QmpConnectionError(f"QEMU's monitor {path} cannot be reached", answer=str(error)) from error
            deadline = time.monotonic() + timeout
            # Not after the greeting: QEMU sends it, and then reads what came meanwhile. So we wait once for both.
            self.ask(("qmp_capabilities", None))
            self._read_greeting(deadline)
            self.execute("qmp_capabilities")
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> QmpClient:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. Idempotent."""
        self._socket.close()

    def execute(
        self,
        command: str,
        arguments: dict[str, Any] | None = None,
        *,
        timeout: float | None = None,
        fds: list[int] | None = None,
        shape: Any = None,
    ) -> Any:
        """Run one command and return what it returned.

        :param timeout: seconds to wait for the reply
        :param fds: open descriptors to hand over with it (SCM_RIGHTS)
        :param shape: what it may return, where that is not what `qmp_answers.py` declares
        :raises QmpError: QEMU refused it
        :raises AnswerError: its answer is not what `qmp_answers.py` declares
        :raises DeadlineExceeded: no reply in time; a late one is dropped by its id
        :raises QmpConnectionError: the connection ended
        """
        deadline = min(self._end, time.monotonic() + (self.timeout if timeout is None else timeout))
        if self._asked and self._asked[0][1:] == (command, arguments):
            number = self._asked.pop(0)[0]
        else:
            self._asked.clear()
            number = self._send(command, arguments, deadline, fds)
        while True:
            message = self._read_message(deadline, f"the reply to {command}")
            # An error without an id answers a request that QEMU could not even parse: the first one that has no answer yet.
            if message.get("id") != number and ("error" not in message or "id" in message):
                continue
            if "return" in message:
                return checked(shape or shape_for(command, arguments), message["return"], f"QEMU's answer to {command}")
            if "error" in message:
                refusal = checked(ERROR, message["error"], f"QEMU's refusal of {command}")
                raise QmpError(command, refusal["class"], refusal["desc"])
            raise AnswerError(f"QEMU's answer to {command} has neither a return nor an error", answer=brief(message))

    def ask(self, *commands: tuple[str, dict[str, Any] | None]) -> None:
        """Send commands without a wait for their answers. `execute` returns the answers if it gets the same commands in this order.

        Each wait for QEMU costs a change of processes twice, which takes long on a busy host.
        """
        deadline = min(self._end, time.monotonic() + self.timeout)
        for command, arguments in commands:
            self._asked.append((self._send(command, arguments, deadline), command, arguments))

    def _send(
        self, command: str, arguments: dict[str, Any] | None, deadline: float, fds: list[int] | None = None
    ) -> int:
        """Send a command. Returns its id."""
        self._next_id += 1
        request: dict[str, Any] = {"execute": command, "id": self._next_id}
        if arguments:
            request["arguments"] = arguments
        data = json.dumps(request).encode() + b"\n"
        try:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            if fds:
                sent = socket.send_fds(self._socket, [data], fds)
                data = data[sent:]
            self._socket.sendall(data)
        except socket.timeout as error:
            raise DeadlineExceeded(
                f"QEMU does not read its monitor; {command} was not taken in time", wanted=command
            ) from error
        except OSError as error:
            raise QmpConnectionError(
                f"the connection to QEMU ended before {command}", wanted=command, answer=str(error)
            ) from error
        return self._next_id

    def wait_event(
        self, name: str, timeout: float, matches: Callable[[dict[str, Any]], bool] = lambda data: True
    ) -> dict[str, Any] | None:
        """The data of the first event of that name that matches, also one that came earlier; None when none comes in time.

        :param timeout: seconds
        """
        deadline = time.monotonic() + timeout
        while True:
            for position, event in enumerate(self._events):
                data = event.get("data")
                data = data if isinstance(data, dict) else {}
                if event["event"] == name and matches(data):
                    del self._events[position]
                    return data
            try:
                self._read_message(deadline, f"the event {name}", stop_at_event=True)
            except DeadlineExceeded:
                return None

    def events(self) -> list[dict[str, Any]]:
        """The events that came and were not waited for, oldest first."""
        return list(self._events)

    def _read_greeting(self, deadline: float) -> None:
        while True:
            message = self._read_message(deadline, "QEMU's greeting")
            if "QMP" in message:
                qemu = checked(GREETING, message["QMP"], "QEMU's greeting")["version"]["qemu"]
                self.version = (qemu["major"], qemu["minor"], qemu["micro"])
                return

    def _read_message(self, deadline: float, awaited: str, stop_at_event: bool = False) -> dict[str, Any]:
        """The next message that is not an event; events are kept aside (and end the wait where the caller asks)."""
        while True:
            line = self._read_line(deadline, awaited)
            try:
                message = parsed(line, awaited, MAX_LINE)
                if not isinstance(message, dict):
                    continue
                if "event" not in message:
                    return message
                event: dict[str, Any] = checked(EVENT, message, "QEMU's event")
            except AnswerError:
                continue  # Lines that are not QMP are passed over, as QMP's clients do.
            if len(line) <= MAX_EVENT:
                self._events.append(event)
                del self._events[:-MAX_EVENTS]
                if stop_at_event:
                    return event

    def _read_line(self, deadline: float, awaited: str) -> bytes:
        searched = 0
        while True:
            end = self._buffer.find(b"\n", searched)
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                return line
            searched = len(self._buffer)
            if searched > MAX_LINE:
                raise QmpConnectionError(f"a line of more than {MAX_LINE} bytes came instead of {awaited}")
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                raise DeadlineExceeded(f"QEMU did not send {awaited} in time", wanted=awaited)
            try:
                data = self._socket.recv(65536)
            except OSError as error:
                raise QmpConnectionError(
                    f"the connection to QEMU broke while waiting for {awaited}", answer=str(error)
                ) from error
            if not data:
                raise QmpConnectionError(f"QEMU closed the connection while we waited for {awaited}")
            self._buffer += data
