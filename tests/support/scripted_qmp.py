# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A QMP server that answers by script and writes down what it was asked."""

from __future__ import annotations

import array
import contextlib
import json
import socket
import threading
import time
from typing import Any, Optional

#: Room for the descriptors that come with one command.
MAX_FDS = 16
QUIET_SECONDS = 2.0


class ScriptedQmpServer:
    """Serves one client after another until it is closed.

    :param script: what the vectors call `server`: running, scripted_replies (a queue of raw replies a command; empty stands
        for the default one, a leading star repeats for ever), auto_device_deleted_event, line_before_greeting
    """

    def __init__(self, path: str, script: dict[str, Any], version: list[int]) -> None:
        self.running = bool(script["running"])
        self.script = script
        self.replies = {command: list(queue) for command, queue in (script["scripted_replies"] or {}).items()}
        self.version = dict(zip(("major", "minor", "micro"), version))
        self.log: list[dict[str, Any]] = []
        self.connections = 0
        self.connected = False
        self.listener: Optional[socket.socket] = None
        if self.running:
            self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.listener.bind(path)
            self.listener.listen(4)
            threading.Thread(target=self._serve, daemon=True).start()

    def take_log(self, client_connected: bool) -> list[dict[str, Any]]:
        """What happened since the last time, once a client that has gone is noticed to be gone."""
        deadline = time.monotonic() + QUIET_SECONDS
        while self.connected and not client_connected and time.monotonic() < deadline:
            time.sleep(0.002)
        taken, self.log = self.log, []
        return taken

    def close(self) -> None:
        if self.listener:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()

    def _serve(self) -> None:
        while self.listener:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            self.connections += 1
            self.connected = True
            self.log.append({"event": "connect", "conn": self.connections})
            with contextlib.suppress(OSError):
                self._talk(client)
            self.log.append({"event": "disconnect", "conn": self.connections})
            self.connected = False
            client.close()

    def _talk(self, client: socket.socket) -> None:
        greeting = {"QMP": {"version": {"qemu": self.version, "package": ""}, "capabilities": []}}
        lines = [self.script["line_before_greeting"]] if self.script["line_before_greeting"] else []
        client.sendall("".join(line + "\n" for line in [*lines, json.dumps(greeting)]).encode("utf-8", "surrogatepass"))
        pending = b""
        descriptors = 0
        while True:
            data, ancillary, _flags, _address = client.recvmsg(65536, socket.CMSG_SPACE(MAX_FDS * 4))
            if not data:
                return
            for _level, _type, content in ancillary:
                received = array.array("i", content[: len(content) - len(content) % 4])
                descriptors += len(received)
                for descriptor in received:
                    socket.close(descriptor)
            pending += data
            while b"\n" in pending:
                line, _newline, pending = pending.partition(b"\n")
                self._answer(client, json.loads(line), descriptors)
                descriptors = 0

    def _answer(self, client: socket.socket, request: dict[str, Any], descriptors: int) -> None:
        identifier = request.pop("id", None)
        reply = self._reply(request)
        entry = {"conn": self.connections, "send": request, "reply": reply}
        if descriptors:
            entry["scm_rights_fds"] = descriptors
        self.log.append(entry)
        client.sendall(
            "".join(_with_id(line, identifier) + "\n" for line in reply.split("\n")).encode("utf-8", "surrogatepass")
        )

    def _reply(self, request: dict[str, Any]) -> str:
        command = request["execute"]
        queue = self.replies.get(command)
        text = ""
        if queue:
            text = queue[0][1:] if queue[0].startswith("*") else queue.pop(0)
        reply = text or '{"return": {}}'
        if command == "device_del" and self.script["auto_device_deleted_event"] and '"error"' not in reply:
            device = request["arguments"]["id"]
            event = {
                "timestamp": {"seconds": 1, "microseconds": 2},
                "event": "DEVICE_DELETED",
                "data": {"device": device, "path": "/machine/peripheral/x"},
            }
            reply += "\n" + json.dumps(event)
        return reply


def _with_id(line: str, identifier: Any) -> str:
    """A reply with the id of its request, which the original's client does not send and ours does."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return line
    if identifier is not None and isinstance(message, dict) and "event" not in message:
        message["id"] = identifier
    return json.dumps(message)
