# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The QEMU guest agent, asked over its port's unix socket (QEMU's docs/interop/qemu-ga-ref).

The agent may be missing, restarted or asleep: every question has a deadline, and begins by finding the other side's place in the stream.
"""

from __future__ import annotations

import json
import secrets
import select
import socket
import time
from typing import Any

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import DeadlineExceeded, VmmError

#: The longest answer taken from a guest, bytes: a guest is not trusted to end its lines.
MAX_LINE = 1024 * 1024


class AgentError(VmmError):
    """The guest agent refused, with its words, or is not there."""


class GuestAgent:
    """A conversation with a guest's agent.

    :param path: the port's unix socket on the host
    :param timeout: seconds for each question
    :raises AgentError: there is no such port
    :raises DeadlineExceeded: nobody answers in the guest
    """

    def __init__(self, path: str, timeout: float = 3.0) -> None:
        self.timeout = timeout
        self._buffer = bytearray()
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(path)
            self._synchronize()
        except OSError as error:
            self._socket.close()
            raise AgentError("the guest agent's port cannot be reached", wanted=path, answer=str(error)) from error
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> GuestAgent:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._socket.close()

    def ask(self, command: str, arguments: dict[str, Any] | None = None, timeout: float | None = None) -> Any:
        """Run one command of the agent and return what it returned.

        :param timeout: seconds
        :raises AgentError: the agent refused
        :raises DeadlineExceeded: no answer in time
        """
        request: dict[str, Any] = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        self._send(json.dumps(request).encode() + b"\n", command)
        answer = self._read(time.monotonic() + (self.timeout if timeout is None else timeout), command)
        error = answer.get("error")
        if isinstance(error, dict):
            raise AgentError(f"the guest agent refused {command}", wanted=command, answer=str(error.get("desc", "")))
        return answer.get("return")

    def _synchronize(self) -> None:
        """Skip what an earlier conversation left unread, on both sides (guest-sync-delimited)."""
        number = secrets.randbelow(1 << 31)
        request = {"execute": "guest-sync-delimited", "arguments": {"id": number}}
        self._send(b"\xff" + json.dumps(request).encode() + b"\n", "guest-sync-delimited")
        deadline = time.monotonic() + self.timeout
        while self._read(deadline, "guest-sync-delimited").get("return") != number:
            pass

    def _send(self, data: bytes, command: str) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise AgentError(f"the guest agent's port closed before {command}", answer=str(error)) from error

    def _read(self, deadline: float, command: str) -> dict[str, Any]:
        while True:
            line, newline, rest = self._buffer.partition(b"\n")
            if newline:
                self._buffer = rest
                try:
                    message = json.loads(line.rpartition(b"\xff")[2])
                except (ValueError, RecursionError):
                    continue
                if isinstance(message, dict):
                    return message
                continue
            if len(self._buffer) > MAX_LINE:
                raise AgentError(f"the guest agent's answer to {command} is longer than {MAX_LINE} bytes")
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                raise DeadlineExceeded(f"the guest agent did not answer {command} in time", wanted=command)
            try:
                data = self._socket.recv(65536)
            except OSError as error:
                raise AgentError(f"the guest agent's port broke during {command}", answer=str(error)) from error
            if not data:
                raise AgentError(f"the guest agent's port closed during {command}")
            self._buffer += data


def describe(agent: GuestAgent) -> dict[str, Any]:
    """What a guest tells of itself: operating system, host name, addresses by interface. What it does not know is left out."""
    facts: dict[str, Any] = {}
    for name, command in (("os", "guest-get-osinfo"), ("host_name", "guest-get-host-name"), ("interfaces", "guest-network-get-interfaces")):
        try:
            facts[name] = agent.ask(command)
        except AgentError:
            continue
    if isinstance(facts.get("host_name"), dict):
        facts["host_name"] = facts["host_name"].get("host-name", "")
    facts["interfaces"] = [_interface(one) for one in facts.get("interfaces") or [] if isinstance(one, dict)]
    return facts


def _interface(told: dict[str, Any]) -> dict[str, Any]:
    addresses = [one.get("ip-address", "") for one in told.get("ip-addresses") or [] if isinstance(one, dict)]
    return {"name": told.get("name", ""), "mac": told.get("hardware-address", ""), "addresses": addresses}


def first_address(facts: dict[str, Any]) -> str:
    """The first address of the guest that another machine could use; IPv4 before IPv6, empty when there is none."""
    addresses = [address for interface in facts.get("interfaces", []) for address in interface["addresses"]]
    usable = [address for address in addresses if not address.startswith(("127.", "fe80:", "169.254.")) and address != "::1"]
    return min(usable, key=lambda address: ":" in address, default="")


def set_online_vcpus(agent: GuestAgent, count: int) -> int:
    """Have the guest use C(count) of its vCPUs, the lowest; returns how many it uses then.

    :raises AgentError: it refuses (it cannot do without the first one)
    """
    vcpus = sorted(agent.ask("guest-get-vcpus"), key=lambda vcpu: int(vcpu["logical-id"]))
    changes = [
        {"logical-id": vcpu["logical-id"], "online": number < count}
        for number, vcpu in enumerate(vcpus)
        if bool(vcpu["online"]) != (number < count)
    ]
    if changes:
        agent.ask("guest-set-vcpus", {"vcpus": changes})
    return sum(1 for vcpu in agent.ask("guest-get-vcpus") if vcpu["online"])
