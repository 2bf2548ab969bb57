# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a VMM sends, only typed errors come out of the QMP client."""

from __future__ import annotations

import contextlib
import json
import pathlib
import socket
import tempfile
import threading
import time
from typing import Any, Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import DeadlineExceeded, VmmError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.qmp import QmpClient

GREETING = b'{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": []}}\n'
READY = GREETING + b'{"return": {}, "id": 1}\n'

#: Values in the keys of the protocol, and in any others.
keys = st.sampled_from(
    ["QMP", "version", "qemu", "major", "return", "error", "class", "desc", "id", "event", "data"]
) | st.text(max_size=5)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([1, 2, 3])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)
messages = st.dictionaries(keys, values, min_size=1, max_size=4)
lines = st.lists(messages | values, max_size=6).map(
    lambda many: b"".join(json.dumps(one).encode() + b"\n" for one in many)
)
streams = st.binary(max_size=300) | lines | st.tuples(lines, st.binary(max_size=50)).map(b"".join)


def told(stream: bytes, talk: Callable[[QmpClient], Any]) -> None:
    """A client talks to a server that says what it says, whatever it is asked, and hangs up."""
    with tempfile.TemporaryDirectory() as directory:
        path = str(pathlib.Path(directory) / "qmp.sock")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(1)

            def serve() -> None:
                connection, _address = listener.accept()
                with connection:
                    connection.sendall(stream)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(4096):
                        pass

            thread = threading.Thread(target=serve)
            thread.start()
            try:
                with QmpClient(path, 5) as client:
                    talk(client)
            except VmmError as error:
                assert str(error)
            finally:
                thread.join()


def talk(client: QmpClient) -> None:
    assert all(isinstance(number, int) for number in client.version)
    for _question in range(2):
        try:
            client.execute("query-status")
        except VmmError as error:
            assert str(error)
    client.wait_event("DEVICE_DELETED", 1, lambda data: data.get("device") == "x")
    assert all(isinstance(event, dict) for event in client.events())


@settings(max_examples=150)
@given(streams)
@example(b"[" * 100_000 + b"\n")
@example(b'{"QMP": null}\n{"QMP": {"version": []}}\n')
@example(b'{"QMP": {"version": {"qemu": {"major": "x"}}}}\n')
@example(b"1" * 5000 + b"\n")
def test_instead_of_a_greeting(stream: bytes) -> None:
    told(stream, talk)


@settings(max_examples=150)
@given(streams)
@example(b'{"return": {}, "id": 2}\n{"event": "DEVICE_DELETED", "data": []}\n')
@example(b'{"error": null, "id": 2}\n')
@example(b'{"error": {"class": 7, "desc": null}}\n')
@example(b'{"error": "no", "id": [2]}\n')
@example(b'{"event": {}}\n{"event": "DEVICE_DELETED"}\n')
@example(b"\xff\xfe\x00\n" * 50)
def test_instead_of_an_answer(stream: bytes) -> None:
    told(READY + stream, talk)


@settings(max_examples=100)
@given(streams)
@example(b'{"return": {"status": "running"}, "id": 3}\n{"return": {"status": "running"}, "id": 2}\n')
def test_instead_of_the_answers_to_several_commands(stream: bytes) -> None:
    def ask(client: QmpClient) -> None:
        client.ask(("query-status", None), ("query-chardev", None))
        talk(client)

    told(READY + stream, ask)


@settings(max_examples=60)
@given(streams, st.integers(2, 30))
def test_an_answer_in_pieces_is_one_answer(noise: bytes, pieces: int) -> None:
    """What stands around it, and how it is cut, does not change an answer."""
    client_end, server_end = socket.socketpair()
    client = QmpClient.__new__(QmpClient)
    client.timeout, client._socket, client._buffer, client._events, client._next_id = 5, client_end, bytearray(), [], 0
    client._asked = []
    lines = [line for line in noise.split(b"\n") if b"id" not in line and b"error" not in line]
    stream = b"\n".join([*lines, b'{"return": 42, "id": 1}\n'])
    # Few enough for the socket to hold, since nobody reads meanwhile.
    size = max(1, len(stream) // pieces)
    for start in range(0, len(stream), size):
        server_end.sendall(stream[start : start + size])
    assert client.execute("any") == 42
    client.close()
    server_end.close()


def test_a_look_ends_in_time_however_steadily_answers_come(tmp_path: pathlib.Path) -> None:
    """Each answer comes just in time, and there would be a hundred of them."""
    path = str(tmp_path / "qmp.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)

        def serve() -> None:
            connection, _address = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(READY)
                for number in range(2, 100):
                    if not connection.recv(4096):
                        return
                    time.sleep(0.1)
                    connection.sendall(b'{"return": {"status": "running"}, "id": %d}\n' % number)

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(DeadlineExceeded), QmpClient(path, 5, whole=1) as client:
            for _time in range(98):
                client.execute("query-status")
