# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting keeps its limit of time whatever the guest prints and says, and is refused where nothing could come."""

from __future__ import annotations

import os
import pathlib
import socket
import threading
import time
from typing import Any, ClassVar

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.engine import waiting
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import DeadlineExceeded, Unsupported
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Capabilities, Context, Hypervisor
from tests.support.mock_lab import BOOT, LabHypervisor, MockLab


class Guest(LabHypervisor):
    """A mock whose guest prints and reports what a test says."""

    facts: ClassVar[dict[str, Any]] = {}
    has_agent = True

    def guest_facts(self) -> dict[str, Any]:
        return self.facts

    def capabilities(self) -> Capabilities:
        import dataclasses

        return dataclasses.replace(super().capabilities(), guest_agent=self.has_agent)


class GuestLab(MockLab):
    def factory(self, name: str, context: Context) -> Hypervisor:
        return Guest(context, self.faults)


@pytest.fixture
def lab(tmp_path: pathlib.Path) -> MockLab:
    return GuestLab(tmp_path)


def print_on_console(lab: MockLab, data: bytes) -> None:
    with open(lab.root / "run/web/console.log", "ab") as stream:
        stream.write(data)


def test_a_pattern_that_takes_for_ever_keeps_the_limit(lab: MockLab) -> None:
    lab.run(**BOOT)
    print_on_console(lab, b"kata" * 150_000)
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        lab.run(wait_for={"console": "(k.*a.*)+never-x", "timeout": 1})
    # Ten times the limit, and one thirtieth of what the pattern takes: load may slow this down, but not that much.
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("pattern", ["ready to serve", "^ready .* (serve|go)$", "(?m)^ready to"])
def test_text_and_patterns_are_found_when_they_come(lab: MockLab, pattern: str) -> None:
    lab.run(**BOOT)
    threading.Timer(0.3, print_on_console, (lab, b"ready to serve")).start()
    assert not lab.run(wait_for={"console": pattern, "timeout": 60})["changed"]


@pytest.mark.parametrize("pattern", ["text", "p.ttern"])
@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_a_console_that_was_exchanged_is_not_read(lab: MockLab, pattern: str, kind: str) -> None:
    lab.run(**BOOT)
    console = lab.root / "run/web/console.log"
    outside = lab.root / "outside"
    outside.write_text("text pattern")
    {"link": lambda: console.symlink_to(outside), "fifo": lambda: os.mkfifo(console), "directory": console.mkdir}[
        kind
    ]()
    with pytest.raises(DeadlineExceeded):
        lab.run(wait_for={"console": pattern, "timeout": 0.5})


def test_a_wait_for_an_agent_that_cannot_be_is_refused_before_anything_changes(
    lab: MockLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Guest, "has_agent", False)
    for wanted in ("agent", "port: 22"):
        for run in (lab.check, lab.run):
            with pytest.raises(Unsupported, match="has no channel to a guest agent") as caught:
                run(wait_for=wanted, **BOOT)
            assert caught.value.option == "wait_for"
    assert lab.files() == []


def test_the_hosts_own_ports_are_not_the_guests(lab: MockLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest reports addresses of the host, on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        addresses = ["127.0.0.1", "localhost", "0.0.0.0", "::ffff:127.0.0.1"]
        monkeypatch.setattr(Guest, "facts", {"interfaces": [{"addresses": addresses}]})
        lab.run(devices=[{"id": "eth0", "type": "net", "kind": "tap", "bridge": "lo"}], **BOOT)
        with pytest.raises(DeadlineExceeded):
            lab.run(wait_for={"port": port, "timeout": 1})
        # The user may name any address.
        lab.run(wait_for={"port": f"127.0.0.1:{port}", "timeout": 60})


def test_an_address_of_the_host_is_ours() -> None:
    assert waiting._is_ours("127.0.0.1")
    assert not waiting._is_ours("192.0.2.77")


def test_nothing_is_asked_of_a_port_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest reports many addresses that swallow everything; each would cost a second beyond the limit."""
    tried: list[float] = []

    def swallow(address: tuple[str, int], timeout: float) -> None:
        tried.append(timeout)
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", swallow)
    assert not waiting._listens("192.0.2.7", 22, time.monotonic() - 1) and tried == []
    assert not waiting._listens("192.0.2.7", 22, time.monotonic() + 0.5) and 0 < tried[0] <= 0.5
    assert not waiting._listens("192.0.2.7", 22, time.monotonic() + 60) and tried[1] == 1
