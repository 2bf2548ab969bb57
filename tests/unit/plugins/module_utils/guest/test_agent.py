# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest agent's client and the ports of a guest against agents and VMMs that answer badly, over a socket and over a vsock's unix socket."""

from __future__ import annotations

import base64
import contextlib
import json
import pathlib
import random
import resource
import socket
import threading
import time
from typing import Any, Callable, Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import DeadlineExceeded, VmmError
from ansible_collections.kata.hypervisor.plugins.module_utils.guest.agent import (
    ANSWERS,
    MAX_LINE,
    AgentError,
    CommandDisabled,
    Ended,
    GuestAgent,
    describe,
    run,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.guest.ports import PortError, connect
from ansible_collections.kata.hypervisor.plugins.module_utils.guest.ways import PIPES, SOCKET, VSOCK, Way
from ansible_collections.kata.hypervisor.plugins.module_utils.untrusted.answers import AnswerError
from tests.support.waiting import PATIENCE
from tests.support.wrong_answers import right

Talk = Callable[[socket.socket], object]
#: A time limit that runs out in a test, seconds.
SHORT = 0.3


@contextlib.contextmanager
def listening(path: pathlib.Path, kind: str, talk: Talk, accepts: bytes = b"OK 1073741824\n") -> Iterator[Way]:
    """A port of a guest: whoever connects to it talks to a function.

    :param accepts: what a VMM answers to CONNECT
    """
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError):
                connection, _address = listener.accept()
                with connection:
                    if kind == VSOCK:
                        assert connection.makefile("rb").readline() == b"CONNECT 1024\n"
                        connection.sendall(accepts)
                    talk(connection)
                    # Files of the connection may still hold it.
                    connection.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield Way(kind, str(path), "1024")
    finally:
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def agent(answers: dict[str, Any], once: bool = False) -> Talk:
    """An agent that answers each command with what is given for it: the members of the answer, raw bytes, or a list of them, one after another.

    :param once: it hangs up after the first answer
    """

    def talk(connection: socket.socket) -> None:
        for line in connection.makefile("rb"):
            request = json.loads(line.lstrip(b"\xff"))
            if request["execute"] == "guest-sync-delimited":
                connection.sendall(b"\xff" + json.dumps({"return": request["arguments"]["id"]}).encode() + b"\n")
                continue
            answer = answers[request["execute"]]
            if isinstance(answer, list):
                answer = answer.pop(0)
            connection.sendall(answer if isinstance(answer, bytes) else json.dumps(answer).encode() + b"\n")
            if once:
                return

    return talk


@pytest.fixture(params=[SOCKET, VSOCK])
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of the port."""
    return str(request.param)


def test_a_program_is_run(tmp_path: pathlib.Path, kind: str) -> None:
    out, errors = b"\x00\xffout", b"err"
    status = {
        "exited": True,
        "exitcode": 3,
        "out-data": base64.b64encode(out).decode(),
        "err-data": base64.b64encode(errors).decode(),
        "err-truncated": True,
    }
    answers: dict[str, Any] = {
        "guest-exec": {"return": {"pid": 7}},
        "guest-exec-status": [
            {"return": {"exited": False}},
            {"return": status},
            {"return": {"exited": True, "signal": 9}},
        ],
    }
    with listening(tmp_path / "port", kind, agent(answers)) as way, GuestAgent(way, PATIENCE) as one:
        assert run(one, "/bin/cat", ["-n"], b"in", capture=True) == Ended(3, out, errors, True)
        assert run(one, "/bin/true") == Ended(128 + 9)


@pytest.mark.parametrize(
    ("error_class", "words"),
    [
        ("GenericError", "The command guest-exec has been disabled for this instance"),  # QEMU 2 to 4
        ("CommandNotFound", "The command guest-exec has been disabled for this instance"),  # 5 to 6.0
        ("CommandNotFound", "Command guest-exec has been disabled"),  # 6.1 to 9.0
        ("CommandNotFound", "Command guest-exec has been disabled: the command is not allowed"),  # 8.1, allow-rpcs
        ("CommandNotFound", "The command guest-exec has not been found"),
    ],
)
def test_a_guest_that_forbids_programs(tmp_path: pathlib.Path, error_class: str, words: str) -> None:
    answers = {"guest-exec": {"error": {"class": error_class, "desc": words}}}
    with (
        listening(tmp_path / "port", SOCKET, agent(answers)) as way,
        GuestAgent(way, PATIENCE) as one,
        pytest.raises(CommandDisabled) as refused,
    ):
        run(one, "/bin/true")
    assert words in str(refused.value) and "allow-rpcs" in refused.value.fix and "guest-exec" in refused.value.fix


def test_another_refusal_is_not_taken_for_a_forbidden_command(tmp_path: pathlib.Path) -> None:
    words = "Guest agent command failed, error was 'Failed to execute child process \u201cx\u201d (No such file or directory)'"
    answers = {"guest-exec": {"error": {"class": "GenericError", "desc": words}}}
    with (
        listening(tmp_path / "port", SOCKET, agent(answers)) as way,
        GuestAgent(way, PATIENCE) as one,
        pytest.raises(AgentError, match="No such file") as refused,
    ):
        run(one, "x")
    assert not isinstance(refused.value, CommandDisabled)


def test_output_that_is_no_base64(tmp_path: pathlib.Path) -> None:
    answers = {
        "guest-exec": {"return": {"pid": 1}},
        "guest-exec-status": {"return": {"exited": True, "exitcode": 0, "out-data": "%%%"}},
    }
    with (
        listening(tmp_path / "port", SOCKET, agent(answers)) as way,
        GuestAgent(way, PATIENCE) as one,
        pytest.raises(AnswerError, match="base64"),
    ):
        run(one, "/bin/true", capture=True)


def test_a_program_that_does_not_end(tmp_path: pathlib.Path) -> None:
    answers = {"guest-exec": {"return": {"pid": 1}}, "guest-exec-status": {"return": {"exited": False}}}
    with (
        listening(tmp_path / "port", SOCKET, agent(answers)) as way,
        GuestAgent(way, PATIENCE) as one,
        pytest.raises(DeadlineExceeded, match="did not end in time"),
    ):
        run(one, "/bin/true", timeout=SHORT)


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_an_agent_that_hangs_or_closes_at_any_byte(tmp_path: pathlib.Path, kind: str, cut: int) -> None:
    answer = json.dumps({"return": {"host-name": "guest.example.com"}}).encode() + b"\n"
    assert cut < len(answer) + 10

    answers = {"guest-get-host-name": answer[:cut]}
    with listening(tmp_path / "hangs", kind, agent(answers)) as way, GuestAgent(way, PATIENCE) as one:
        if cut >= len(answer):
            assert one.ask("guest-get-host-name") == {"host-name": "guest.example.com"}
        else:
            with pytest.raises(DeadlineExceeded):
                one.ask("guest-get-host-name", timeout=SHORT / 10)
    with (
        listening(tmp_path / "closes", kind, agent(answers, once=True)) as way,
        GuestAgent(way, PATIENCE) as one,
        pytest.raises(AgentError, match=r"closed|broke"),
    ):
        for _question in range(2):
            one.ask("guest-get-host-name")


@pytest.mark.parametrize(
    "garbage",
    [b"\0" * 65536, b"\n" * 65536, b'{"return": 5}\n' * 4096, b"\xff[" * 32768],
    ids=["zeros", "lines", "answers", "brackets"],
)
def test_endless_answers_take_neither_time_nor_memory(tmp_path: pathlib.Path, kind: str, garbage: bytes) -> None:
    def flood(connection: socket.socket) -> None:
        while True:
            connection.sendall(garbage)

    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with listening(tmp_path / "port", kind, flood) as way, pytest.raises((AgentError, DeadlineExceeded)):
        GuestAgent(way, 1.0)
    assert time.monotonic() - began < PATIENCE
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * MAX_LINE >> 10


def test_facts_are_bounded_and_printable(tmp_path: pathlib.Path) -> None:
    random_ = random.Random(7)
    evil = "{{ 7 * 7 }}\x1b[2J\n"
    file_systems = [{"name": evil, "mountpoint": evil, "type": "ext4", "disk": [], "total-bytes": 5 << 20}] * 500
    interfaces = [{"name": evil, "hardware-address": evil, "ip-addresses": [{"ip-address": evil, "prefix": 8}]}]
    answers = {
        "guest-get-osinfo": {"return": {**right(ANSWERS["guest-get-osinfo"], random_), "name": evil}},
        "guest-get-host-name": {"return": {"host-name": evil}},
        "guest-network-get-interfaces": {"return": interfaces},
        "guest-get-fsinfo": {"return": file_systems},
    }
    with listening(tmp_path / "port", SOCKET, agent(answers)) as way, GuestAgent(way, PATIENCE) as one:
        facts = describe(one)
    shown = "{{ 7 * 7 }}\\x1b[2J\\n"
    assert facts["os"]["name"] == facts["host_name"] == facts["interfaces"][0]["mac"] == shown
    assert len(facts["file_systems"]) == 64
    assert facts["file_systems"][0] == {"device": shown, "mountpoint": shown, "type": "ext4", "size_mb": 5}


# --- vsock ports ---------------------------------------------------------------------------------------------------------


def test_the_first_bytes_of_the_guest_are_not_taken_for_the_vmms(tmp_path: pathlib.Path) -> None:
    with (
        listening(tmp_path / "port", VSOCK, lambda one: one.recv(1), accepts=b"OK 7\nearly") as way,
        connect(way, PATIENCE) as stream,
    ):
        assert stream.recv(5) == b"early"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "no program of the guest listens"),
        (b"OK 1", "no program of the guest listens"),
        (b"OK x\n", "must answer"),
        (b"\n", "must answer"),
        (b"ok 1\n", "must answer"),
        (b"OK 1\r\n", "must answer"),
        (b"OK 99999999999\n", "must answer"),
        (b"OK 1 and more\n", "must answer"),
        (b"A" * 100_000, "must answer"),
        (b"\xff\x1b[2J\n", "must answer"),
    ],
)
def test_a_vmm_that_does_not_accept(tmp_path: pathlib.Path, answer: bytes, words: str) -> None:
    with (
        listening(tmp_path / "port", VSOCK, lambda one: None, accepts=answer) as way,
        pytest.raises(PortError, match=words) as refused,
    ):
        connect(way, PATIENCE)
    assert str(refused.value).isprintable() and len(str(refused.value)) < 1000


def test_a_vmm_that_hangs_or_dribbles(tmp_path: pathlib.Path) -> None:
    ended = threading.Event()

    def dribble(one: socket.socket) -> None:
        while not ended.wait(SHORT / 4):
            one.sendall(b"O")

    try:
        for name, talk in (("hangs", lambda one: ended.wait(PATIENCE)), ("dribbles", dribble)):
            with listening(tmp_path / name, VSOCK, talk, accepts=b"O") as way, pytest.raises(VmmError):
                connect(way, SHORT)
    finally:
        ended.set()


def test_only_a_socket_is_connected(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with listening(tmp_path / "real", SOCKET, lambda one: None):
        for name in ("file", "link", "target", "missing", "nowhere/port"):
            with pytest.raises(PortError):
                connect(Way(SOCKET, str(tmp_path / name), "agent"), PATIENCE)
    with pytest.raises(PortError, match="no stream"):
        connect(Way(PIPES, str(tmp_path / "real"), "agent"), PATIENCE)
