# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of the QEMU guest agent, connected by the way that the driver names (QEMU's docs/interop/qemu-ga-ref).

The agent may be missing, restarted or busy, so every command has a deadline, and a conversation begins with a synchronization of the stream.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import time
from typing import Any, NamedTuple, Sequence

from ..errors import DeadlineExceeded, VmmError
from ..untrusted.answers import (
    AnswerError,
    Anything,
    Flag,
    ListOf,
    Number,
    Record,
    Text,
    brief,
    checked,
    parsed,
    printable,
)
from .ports import PortError, connect
from .ways import Way

#: The longest answer that is read, bytes: a guest is not trusted to end its lines.
MAX_LINE = 1024 * 1024


#: What an agent says of a command that its configuration forbids. Before QEMU 5, nothing else tells it from another refusal.
DISABLED = "has been disabled"
#: Seconds between two questions whether a program has ended: at least, at most, and for each second since its start.
SHORTEST_PAUSE, LONGEST_PAUSE, PAUSE_PER_SECOND = 0.002, 0.1, 0.125
#: Seconds until the port must be reached: ever, and by who only looks for facts.
LONGEST_REACH, FACTS_REACH = 30.0, 1.0
#: How many of a guest's file systems are reported.
MOST_FILE_SYSTEMS = 64

_NAME = Text(256)
ERROR = Record({"desc": Text(4096)}, {"class": _NAME})

#: The shape of the answer to each command (QEMU's docs/interop/qemu-ga-ref, by the command's name). The agent runs in the guest, so its
#: answers are not trusted.
ANSWERS: dict[str, Any] = {
    "guest-get-osinfo": Record(
        {},
        dict.fromkeys(
            (
                "id",
                "kernel-release",
                "kernel-version",
                "machine",
                "name",
                "pretty-name",
                "variant",
                "variant-id",
                "version",
                "version-id",
            ),
            _NAME,
        ),
    ),
    "guest-get-host-name": Record({"host-name": _NAME}),
    "guest-network-get-interfaces": ListOf(
        Record(
            {"name": _NAME},
            {
                "hardware-address": Text(64),
                "ip-addresses": ListOf(
                    Record({"ip-address": Text(64)}, {"ip-address-type": Text(16), "prefix": Number(0, 128)}), most=256
                ),
            },
        ),
        most=256,
    ),
    "guest-get-fsinfo": ListOf(
        Record(
            {"name": Text(4096), "mountpoint": Text(4096), "type": _NAME},
            {"used-bytes": Number(), "total-bytes": Number()},
        ),
        most=1024,
    ),
    "guest-get-vcpus": ListOf(Record({"logical-id": Number(0, 65535), "online": Flag()}, {"can-offline": Flag()})),
    "guest-set-vcpus": Number(0, 65535),
    "guest-set-time": Anything(),
    "guest-file-open": Number(0, 2**63 - 1),
    "guest-file-write": Record({"count": Number(0, 2**31 - 1), "eof": Flag()}),
    "guest-file-close": Anything(),
    "guest-exec": Record({"pid": Number(0, 2**63 - 1)}),
    "guest-exec-status": Record(
        {"exited": Flag()},
        {
            "exitcode": Number(-(2**31), 2**32 - 1),
            "signal": Number(0, 256),
            "out-data": Text(MAX_LINE),
            "err-data": Text(MAX_LINE),
            "out-truncated": Flag(),
            "err-truncated": Flag(),
        },
    ),
}


class AgentError(VmmError):
    """The guest agent refused a command, or cannot be reached."""


class CommandDisabled(AgentError):
    """The guest's agent does not have a command, or its configuration forbids it (RHEL forbids guest-exec)."""


class GuestAgent:
    """A conversation with a guest's agent.

    :param way: the agent's port, of the kinds that `connect` takes
    :param timeout: seconds for each command
    :param reach: seconds until the port must be reached, if that is less
    :raises AgentError: the port cannot be reached
    :raises DeadlineExceeded: no agent answers in the guest
    """

    def __init__(self, way: Way, timeout: float = 3.0, reach: float = LONGEST_REACH) -> None:
        self.timeout = timeout
        self._buffer = bytearray()
        try:
            self._socket = connect(way, min(timeout, reach))
        except PortError as error:
            raise AgentError(
                f"the guest agent cannot be reached: {error.message}", wanted=way.path, answer=error.answer
            ) from error
        try:
            self._synchronize()
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> GuestAgent:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._socket.close()

    def ask(self, command: str, arguments: dict[str, Any] | None = None, timeout: float | None = None) -> Any:
        """Run one command of the agent. Returns the value that the command returned.

        :param timeout: seconds
        :raises AgentError: the agent refused
        :raises AnswerError: its answer is not what `ANSWERS` declares
        :raises DeadlineExceeded: no answer in time
        """
        request: dict[str, Any] = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        self._send(json.dumps(request).encode() + b"\n", command)
        answer = self._read(time.monotonic() + (self.timeout if timeout is None else timeout), command)
        if "error" in answer:
            error = checked(ERROR, answer["error"], f"the guest agent's refusal of {command}")
            if error.get("class") == "CommandNotFound" or DISABLED in error["desc"]:
                raise CommandDisabled(
                    f"the guest's agent must have the command {command}, and its configuration must allow it",
                    wanted=command,
                    answer=printable(error["desc"]),
                    fix=f"Allow {command} in the guest, restart its agent (qemu-guest-agent), and run the task again: omit it from block-rpcs, or add it"
                    " to allow-rpcs, in /etc/qemu/qemu-ga.conf and /etc/sysconfig/qemu-ga (BLACKLIST_RPC or FILTER_RPC_ARGS).",
                )
            raise AgentError(f"the guest agent refused {command}", wanted=command, answer=printable(error["desc"]))
        if "return" not in answer:
            raise AnswerError(
                f"the guest agent's answer to {command} must have a return or an error", answer=brief(answer)
            )
        return checked(ANSWERS[command], answer["return"], f"the guest agent's answer to {command}")

    def _synchronize(self) -> None:
        """Skip the unread data of an earlier conversation, on both sides (guest-sync-delimited)."""
        number = int.from_bytes(os.urandom(4), "big") >> 1
        request = {"execute": "guest-sync-delimited", "arguments": {"id": number}}
        self._send(b"\xff" + json.dumps(request).encode() + b"\n", "guest-sync-delimited")
        deadline = time.monotonic() + self.timeout
        while self._read(deadline, "guest-sync-delimited").get("return") != number:
            pass

    def _send(self, data: bytes, command: str) -> None:
        try:
            self._socket.settimeout(self.timeout)
            self._socket.sendall(data)
        except OSError as error:
            raise AgentError(f"the guest agent's port closed before {command}", answer=str(error)) from error

    def _read(self, deadline: float, command: str) -> dict[str, Any]:
        while True:
            end = self._buffer.find(b"\n")
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                try:
                    message = parsed(line.rpartition(b"\xff")[2], command, MAX_LINE)
                except AnswerError:
                    continue
                if isinstance(message, dict):
                    return message
                continue
            if len(self._buffer) > MAX_LINE:
                raise AgentError(f"the guest agent's answer to {command} must have at most {MAX_LINE} bytes")
            left = deadline - time.monotonic()
            try:
                self._socket.settimeout(max(left, 0.001))
                data = self._socket.recv(65536) if left > 0 else None
            except socket.timeout:
                data = None
            except OSError as error:
                raise AgentError(f"the guest agent's port broke during {command}", answer=str(error)) from error
            if data is None:
                raise DeadlineExceeded(f"the guest agent did not answer {command} in time", wanted=command)
            if not data:
                raise AgentError(f"the guest agent's port closed during {command}")
            self._buffer += data


class Ended(NamedTuple):
    """How a program in the guest has ended.

    :param code: its exit code, or 128 and the signal that ended it
    :param output: the standard output, where it was captured
    :param errors: the standard error, likewise
    :param truncated: the agent has left out what did not fit
    """

    code: int
    output: bytes = b""
    errors: bytes = b""
    truncated: bool = False


def run(
    agent: GuestAgent,
    path: str,
    arguments: Sequence[str] = (),
    input_data: bytes = b"",
    capture: bool = False,
    timeout: float = 30.0,
) -> Ended:
    """Run a program in the guest, as the agent's user (root), and wait until it has ended. For little data: an agent's answer has 1 MiB at most.

    :param path: the program, found in the agent's PATH where it is a name alone
    :param capture: return what it prints
    :param timeout: seconds. A program that has not ended by then runs on
    :raises CommandDisabled: the guest forbids it
    :raises AgentError: the agent refused, for example because there is no such program
    :raises AnswerError: its answer is malformed
    :raises DeadlineExceeded: no answer in time, or the program has not ended
    """
    request: dict[str, Any] = {"path": path, "arg": list(arguments), "capture-output": capture}
    if input_data:
        request["input-data"] = base64.b64encode(input_data).decode()
    began = time.monotonic()
    started = agent.ask("guest-exec", request)
    while True:
        status = agent.ask("guest-exec-status", {"pid": started["pid"]})
        if status["exited"]:
            code = status.get("exitcode", 128 + status.get("signal", 0))
            truncated = status.get("out-truncated", False) or status.get("err-truncated", False)
            return Ended(code, _decoded(status, "out-data"), _decoded(status, "err-data"), truncated)
        elapsed = time.monotonic() - began
        if elapsed > timeout:
            raise DeadlineExceeded("a program that the agent ran in the guest did not end in time", wanted=path)
        time.sleep(min(max(SHORTEST_PAUSE, elapsed * PAUSE_PER_SECOND), LONGEST_PAUSE))


def _decoded(status: dict[str, Any], name: str) -> bytes:
    try:
        return base64.b64decode(status.get(name, ""), validate=True)
    except ValueError as error:
        raise AnswerError(f"the guest agent's {name} must be base64", answer=brief(status[name])) from error


def describe(agent: GuestAgent) -> dict[str, Any]:
    """The facts that a guest reports: operating system, host name, addresses by interface, file systems. Facts that it does not report are omitted."""
    facts: dict[str, Any] = {}
    for name, command in (
        ("os", "guest-get-osinfo"),
        ("host_name", "guest-get-host-name"),
        ("interfaces", "guest-network-get-interfaces"),
        ("file_systems", "guest-get-fsinfo"),
    ):
        try:
            facts[name] = agent.ask(command)
        except (AgentError, AnswerError):
            continue
    if "os" in facts:
        facts["os"] = {name: printable(text, lines=False) for name, text in facts["os"].items()}
    if "host_name" in facts:
        facts["host_name"] = printable(facts["host_name"]["host-name"], lines=False)
    facts["interfaces"] = [_interface(one) for one in facts.get("interfaces", [])]
    if "file_systems" in facts:
        facts["file_systems"] = [_file_system(one) for one in facts["file_systems"][:MOST_FILE_SYSTEMS]]
    return facts


def facts_through(way: Way | None) -> dict[str, Any]:
    """What `describe` returns, or nothing where no agent answers."""
    if way is None:
        return {}
    try:
        # Of a guest without a driver for its vsock, nothing comes back at all.
        with GuestAgent(way, reach=FACTS_REACH) as agent:
            return describe(agent)
    except VmmError:
        return {}


def _file_system(reported: dict[str, Any]) -> dict[str, Any]:
    """A mounted file system; what an agent before QEMU 3 does not tell is omitted."""
    names = (("device", "name"), ("mountpoint", "mountpoint"), ("type", "type"))
    sizes = (("size_mb", "total-bytes"), ("used_mb", "used-bytes"))
    return {
        **{ours: printable(reported[theirs], lines=False) for ours, theirs in names},
        **{ours: reported[theirs] >> 20 for ours, theirs in sizes if theirs in reported},
    }


def _interface(reported: dict[str, Any]) -> dict[str, Any]:
    addresses = [printable(one["ip-address"], lines=False) for one in reported.get("ip-addresses", [])]
    return {
        "name": printable(reported["name"], lines=False),
        "mac": printable(reported.get("hardware-address", ""), lines=False),
        "addresses": addresses,
    }


def addresses_of(facts: dict[str, Any]) -> list[str]:
    """The addresses in a guest's report that another machine could use, normalized; IPv4 before IPv6.

    A guest can report any address, so those that lead to the host itself are omitted as far as their text shows it: loopback, unspecified,
    link-local, multicast, and IPv4 addresses that are written as IPv6.
    """
    import ipaddress

    found = []
    for text in (address for interface in facts.get("interfaces", []) for address in interface["addresses"]):
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        mapped = address.version == 6 and (address.ipv4_mapped or address.sixtofour or address.teredo)
        if not (
            mapped
            or address.is_loopback
            or address.is_unspecified
            or address.is_link_local
            or address.is_multicast
            or address.is_reserved
        ):
            found.append(address)
    return [str(address) for address in sorted(found, key=lambda address: address.version)]


def set_online_vcpus(agent: GuestAgent, count: int) -> int:
    """Make the guest use its lowest `count` vCPUs. Returns how many it uses then.

    :raises AgentError: the guest refuses (it always needs the first one)
    """
    vcpus = sorted(agent.ask("guest-get-vcpus"), key=lambda vcpu: vcpu["logical-id"])
    changes = [
        {"logical-id": vcpu["logical-id"], "online": number < count}
        for number, vcpu in enumerate(vcpus)
        if vcpu["online"] != (number < count)
    ]
    if changes:
        agent.ask("guest-set-vcpus", {"vcpus": changes})
    return sum(1 for vcpu in agent.ask("guest-get-vcpus") if vcpu["online"])
