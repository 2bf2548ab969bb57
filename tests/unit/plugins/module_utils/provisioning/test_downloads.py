# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads from a server that is slow, silent, forgetful or short of breath; and plays that download at the same time."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import os
import pathlib
import threading
from collections.abc import Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning import downloads, urls
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.asset_store import AssetStore, Wanted
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.sources import Checksum, fetch_from


@dataclasses.dataclass
class Server:
    """How the server behaves, and what it was asked.

    :param pieces: how many bytes it sends at a time
    :param waits: what it waits for between them: an event that somebody sets
    :param truncates: it ends each answer after so many bytes, 0 for never
    """

    content: bytes
    address: str = ""
    ranges: bool = True
    pieces: int = 1 << 20
    waits: threading.Event | None = None
    truncates: int = 0
    asked: list[str] = dataclasses.field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(downloads.time, "sleep", lambda _: None)
    behaviour = Server(os.urandom(300_000))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wish = self.headers.get("Range", "")
            behaviour.asked.append(wish)
            start = int(wish[len("bytes=") : -1]) if wish and behaviour.ranges else 0
            self.send_response(206 if start else 200)
            if behaviour.ranges:
                self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(behaviour.content) - start))
            self.end_headers()
            end = min(start + (behaviour.truncates or len(behaviour.content)), len(behaviour.content))
            for place in range(start, end, behaviour.pieces):
                self.wfile.write(behaviour.content[place : min(place + behaviour.pieces, end)])
                if behaviour.waits:
                    behaviour.waits.wait(10)

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # A client that has what it wants goes away.

    made = Quiet(("127.0.0.1", 0), Handler)
    try:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        behaviour.address = f"http://127.0.0.1:{made.server_port}/x"
        yield behaviour
    finally:
        made.shutdown()
        made.server_close()


def test_it_is_told_how_far_a_download_is_and_goes_on_there(server: Server, tmp_path: pathlib.Path) -> None:
    server.pieces = 60_000
    path, told = tmp_path / "x", []
    for attempt in range(1000):
        try:
            received = downloads.download(server.address, str(path), seconds=1e-9)
            assert attempt == len(told)
            break
        except downloads.Unfinished as unfinished:
            told.append((unfinished.received, unfinished.total))
    assert received == len(server.content) and path.read_bytes() == server.content
    assert told and all(total == len(server.content) for _received, total in told)
    assert [before for before, _total in told] == sorted({before for before, _total in told})
    assert server.asked == [""] + [f"bytes={before}-" for before, _total in told]


def test_a_server_that_cannot_go_on_in_the_middle_is_not_interrupted(server: Server, tmp_path: pathlib.Path) -> None:
    server.ranges, server.pieces = False, 60_000
    assert downloads.download(server.address, str(tmp_path / "x"), seconds=1e-9) == len(server.content)
    assert server.asked == [""]


def test_a_server_without_ranges_begins_again(server: Server, tmp_path: pathlib.Path) -> None:
    server.ranges = False
    (tmp_path / "x").write_bytes(b"what an earlier run brought")
    assert downloads.download(server.address, str(tmp_path / "x")) == len(server.content)
    assert (tmp_path / "x").read_bytes() == server.content


def test_a_silent_server_is_asked_again(
    server: Server, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urls, "SILENCE_SECONDS", 0.2)
    server.pieces, server.waits = 200_000, threading.Event()
    assert downloads.download(server.address, str(tmp_path / "x")) == len(server.content)
    assert (tmp_path / "x").read_bytes() == server.content
    assert server.asked == ["", "bytes=200000-"]
    server.waits.set()


def test_a_truncated_download_replaces_nothing(server: Server, tmp_path: pathlib.Path) -> None:
    store = AssetStore(str(tmp_path / "assets"), "vmm")
    checksum = Checksum("sha256", hashlib.sha256(server.content).hexdigest())

    def install(version: str) -> None:
        with store.lock():
            fetch = fetch_from(server.address, "", store.root, checksum)
            store.install(version, [Wanted("", "vmm")], fetch, checksum, "", True, False)

    install("1.0")
    server.ranges, server.truncates = False, 1000
    with pytest.raises(AssetError, match="it resumes the download"):
        install("2.0")
    assert (store.current(), store.versions(), store.drift("1.0")) == ("1.0", ["1.0"], [])


def test_two_plays_at_once_download_once(server: Server, tmp_path: pathlib.Path) -> None:
    checksum = Checksum("sha256", hashlib.sha256(server.content).hexdigest())
    done: list[list[str]] = []

    def play() -> None:
        store = AssetStore(str(tmp_path / "assets"), "vmm")
        with store.lock():
            fetch = fetch_from(server.address, "", store.root, checksum)
            done.append(store.install("1.0", [Wanted("", "vmm")], fetch, checksum, "", True, False))

    plays = [threading.Thread(target=play, name=f"play {number}") for number in range(4)]
    for thread in plays:
        thread.start()
    for thread in plays:
        thread.join(30)
    assert sorted(done) == [[], [], [], ["install vmm 1.0", "use vmm 1.0"]]
    assert server.asked == [""]
    assert pathlib.Path(tmp_path, "assets/vmm/current/vmm").read_bytes() == server.content
