# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever Firecracker answers, and whoever answers in its place: typed errors, in time, within bounds."""

from __future__ import annotations

import json
import os
import pathlib
import random
import socket
import threading
import time
from typing import Any, Callable, Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import DeadlineExceeded, HypervisorError
from ansible_collections.kata.hypervisor.plugins.module_utils.host.processes import identify
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker import details, memory
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.api import shapes
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.api.client import (
    ApiClient,
    ApiConnectionError,
    ApiError,
    fault_message,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.devices.mmds import Mmds
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.state import as_record
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.vmm import Vmm
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.balloon import Balloon
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.mmds import MetadataService
from ansible_collections.kata.hypervisor.plugins.module_utils.untrusted.answers import AnswerError
from tests.support.wrong_answers import junk, nested, wrong

#: How many wrong answers; make soak has more.
ANSWERS = int(os.environ.get("KATA_WRONG_ANSWERS", "20000"))
STATE = b'{"state": "Running"}'


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[Callable[..., str]]:
    """Something that listens, and gives every request the same bytes, in pieces where it is given several."""
    listeners: list[socket.socket] = []

    def serve(*pieces: bytes, pause: float = 0, close: bool = True) -> str:
        path = str(tmp_path / f"api{len(listeners)}.sock")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        listeners.append(listener)

        def answer() -> None:
            kept = []
            while True:
                try:
                    connection, _peer = listener.accept()
                except OSError:
                    return
                try:
                    connection.recv(65536)
                    for piece in pieces:
                        connection.sendall(piece)
                        time.sleep(pause)
                except OSError:
                    pass
                if close:
                    connection.close()
                else:
                    kept.append(connection)

        threading.Thread(target=answer, daemon=True).start()
        return path

    yield serve
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def http(content: bytes, status: str = "200 OK", headers: bytes = b"") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nServer: Firecracker API\r\n".encode()
        + headers
        + b"Content-Length: %d\r\n\r\n%b" % (len(content), content)
    )


def test_an_answer_is_read_however_it_is_cut(server: Any) -> None:
    whole = http(STATE)
    for pieces in ([whole], [whole[:5], whole[5:]], [bytes([byte]) for byte in whole]):
        assert ApiClient(server(*pieces, close=False), 5).get("/") == {"state": "Running"}
    ApiClient(server(b"HTTP/1.1 204 \r\nServer: x\r\n\r\n", close=False), 5).put("/actions", {})


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "closed without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-", "closed before the answer's headers"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "does not begin as HTTP"),
        (b"HTTP/1.1 99999 OK\r\n\r\n", "does not begin as HTTP"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, "does not begin as HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000, "bytes of headers"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10_000_000, "bytes of headers"),
        (b"HTTP/1.1 200 OK\r\n folded\r\n\r\n", "not a header"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "length of the answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0x10\r\n\r\n", "length of the answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\n", "length of the answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", "length of the answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n", "length of the answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "two lengths"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", "ended after 2 of 10 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}{}", "longer than it says"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "in chunks"),
    ],
)
def test_what_is_not_firecrackers_http_is_refused(server: Any, answer: bytes, words: str) -> None:
    with pytest.raises(ApiConnectionError) as caught:
        ApiClient(server(answer), 5).get("/")
    assert words in caught.value.answer


def test_an_answer_that_drips_ends_with_its_limit_of_time(server: Any) -> None:
    path = server(b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 1000, pause=0.05)
    with pytest.raises(DeadlineExceeded, match="in time"):
        ApiClient(path, 0.5).get("/")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"{}",
        b"\xff\xfe",
        b'{"state": 5}',
        b'{"state": null}',
        b'{"state": NaN}',
        b'{"state": "\\u001b[2J"}',
        json.dumps({"state": nested(200)}).encode(),
        b"[" * 10_000 + b"]" * 10_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"state": "' + b"x" * 100_000 + b'"}',
    ],
)
def test_a_state_that_is_none_is_a_typed_error(server: Any, content: bytes) -> None:
    with pytest.raises(AnswerError, match="GET /"):
        ApiClient(server(http(content)), 5).get("/")


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", b'{"fault_message": 5}', b"[" * 10_000, b"\xff", b'{"fault_message": "\\u001b[2J"}'],
)
def test_a_refusal_of_any_content_is_a_refusal(server: Any, content: bytes) -> None:
    with pytest.raises(ApiError, match="refused PUT /actions") as caught:
        ApiClient(server(http(content, "400 Bad Request")), 5).put("/actions", {})
    assert "\x1b" not in str(caught.value) and len(str(caught.value)) < 6000
    assert len(fault_message(content * 1000)) <= 24_000


# --- who answers ---------------------------------------------------------------------------------------------------------


def test_a_link_in_the_place_of_the_socket_is_not_followed(server: Any, tmp_path: pathlib.Path) -> None:
    """It could lead to the socket of another sandbox, or of a daemon of root's."""
    (tmp_path / "link.sock").symlink_to(server(http(STATE)))
    with pytest.raises(ApiConnectionError, match="no answer"):
        ApiClient(str(tmp_path / "link.sock"), 5).get("/")


@pytest.mark.parametrize("kind", ["file", "fifo", "directory", "nothing"])
def test_what_is_no_socket_is_not_waited_for(tmp_path: pathlib.Path, kind: str) -> None:
    path = tmp_path / "api.sock"
    {"file": path.touch, "fifo": lambda: os.mkfifo(path), "directory": path.mkdir, "nothing": lambda: None}[kind]()
    with pytest.raises(ApiConnectionError):
        ApiClient(str(path), 5).get("/")


def test_only_the_right_process_and_user_may_answer(server: Any) -> None:
    path = server(http(STATE))
    ApiClient(path, 5, owner=os.geteuid(), pid=os.getpid()).get("/")
    with pytest.raises(ApiConnectionError) as caught:
        ApiClient(path, 5, pid=1).get("/")
    assert "another program listens" in caught.value.answer
    with pytest.raises(ApiConnectionError) as caught:
        ApiClient(path, 5, owner=54321).get("/")
    assert "must belong to user 54321" in caught.value.answer


# --- all answers ---------------------------------------------------------------------------------------------------------


class Oracle(ApiClient):
    """Answers every question wrongly, and takes everything."""

    def __init__(self, random_: random.Random) -> None:
        super().__init__("/nowhere", 1)
        self.random = random_

    def request(self, method: str, endpoint: str, body: Any = None, seconds: float = 0) -> bytes:
        if self.random.random() < 0.1:
            raise ApiError("refused", 400, answer=fault_message(json.dumps(wrong(shapes.FAULT, self.random)).encode()))
        if self.random.random() < 0.05:
            return bytes(self.random.randrange(256) for _byte in range(self.random.randrange(40)))
        if method != "GET":
            return json.dumps(junk(self.random)).encode()
        return json.dumps(wrong(shapes.ANSWERS[endpoint], self.random)).encode()


def test_wrong_answers_are_typed_errors(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every operation that reads an answer. A look at the VM is never an error at all."""
    random_ = random.Random(20)
    oracle = Oracle(random_)
    machine = Vmm(Context("web", str(tmp_path), str(tmp_path)))
    state = machine.state
    state.version, state.region_mb, state.boot_memory_mb = [1, 16, 1], 256, 128
    state.process = identify(os.getpid())
    state.placeholders = ["", "d"]
    balloon, service = Balloon("b", 5, stats_seconds=5), MetadataService("m", ["eth0"], contents={"a": {"b": 1}})
    state.devices = {
        "m": as_record(service),
        "n": {"class": "NetworkDevice"},
        "d": {"class": "BlockDrive", "rate_limit": {"ops": 5}},
    }
    state.singles = {"balloon": "b", "mmds-config": "m"}
    monkeypatch.setattr(machine, "api", lambda seconds=0: oracle)
    monkeypatch.setattr(memory, "PATIENCE_SECONDS", 0.0)
    seen: dict[str, int] = {}
    operations: list[Callable[[], Any]] = [
        lambda: machine.status(oracle),
        lambda: machine.plugged(oracle),
        lambda: machine.set_state("paused"),
        lambda: memory.resize(machine, 192),
        lambda: memory.resize_balloon(machine, balloon),
        lambda: Mmds(service).update_contents(oracle),
    ]
    for number in range(ANSWERS):
        assert machine.observe().power in ("running", "paused", "failed", "unresponsive")
        assert details.driver_details(machine)["vmm_version"] == "1.16.1"
        try:
            operations[number % len(operations)]()
            seen["fine"] = seen.get("fine", 0) + 1
        except HypervisorError as problem:
            assert "\x1b" not in str(problem) and len(str(problem)) < 20_000
            seen[type(problem).__name__] = seen.get(type(problem).__name__, 0) + 1
    assert {"fine", "AnswerError", "ApiError", "VmmError"} <= set(seen), seen
