# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting keeps its limit of time whatever the guest prints and says, and is refused where nothing could come."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import threading
import time
from typing import Any, ClassVar, Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.engine import waiting
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import DeadlineExceeded, Unsupported, VmmError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Capabilities, Context, Hypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.options.wait_for import KINDS
from tests.support.mock_lab import BOOT, LabHypervisor, MockLab
from tests.support.waiting import PATIENCE


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
    # A fraction of what the pattern takes.
    assert time.monotonic() - started < PATIENCE


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


def test_a_task_that_waits_for_the_agent_returns_what_the_guest_reports(
    lab: MockLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Guest, "facts", {"host_name": "web", "interfaces": []})
    assert lab.run(wait_for="agent", **BOOT)["sandbox"]["guest"] == Guest.facts
    assert "guest" not in lab.run(**BOOT)["sandbox"], "nobody else asks"
    assert lab.facts()["guest"] == Guest.facts


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


def wait(lab: MockLab, kind: str, argument: Any = "", timeout: float = 60, **known: Any) -> None:
    """Wait for the guest of a sandbox that runs."""
    condition = {"kind": kind, "argument": argument, "timeout": timeout}
    driver = lab.factory("mock", Context("web", str(lab.root / "run/web"), str(lab.root / "state/sandboxes/web")))
    waiting.wait_for(condition, driver, "web", 0, **known)


@contextlib.contextmanager
def server(*pieces: bytes) -> Iterator[int]:
    """A port of this machine whose server sends something to everybody, piece by piece."""

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _address = listener.accept()
                with connection:
                    for piece in pieces:
                        connection.sendall(piece)
                        time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield int(listener.getsockname()[1])


@pytest.mark.parametrize(
    "pieces", [(b"SSH-2.0-OpenSSH_9.2\r\n",), (b"SS", b"H-2.0-x\r\n"), (b"welcome\r\n", b"SSH-2.0-x\r\n")]
)
def test_an_ssh_server_is_there_when_it_greets(lab: MockLab, pieces: tuple[bytes, ...]) -> None:
    lab.run(**BOOT)
    with server(*pieces) as port:
        wait(lab, "ssh", ssh_ports=[("127.0.0.1", port)])
        wait(lab, "ssh", f"127.0.0.1:{port}")
        wait(lab, "ssh", port, addresses=["127.0.0.1"])


@pytest.mark.parametrize("pieces", [(), (b"",), (b"HTTP/1.0 200 OK\r\n",), (b"x" * 4096,)])
def test_a_port_that_only_listens_is_no_ssh_server(lab: MockLab, pieces: tuple[bytes, ...]) -> None:
    """A published port takes connections before its guest does."""
    lab.run(**BOOT)
    print_on_console(lab, b"last words of the guest\n")
    with server(*pieces) as port, pytest.raises(DeadlineExceeded) as caught:
        wait(lab, "ssh", timeout=1, ssh_ports=[("127.0.0.1", port)])
    assert "last words of the guest" in caught.value.answer


@pytest.mark.parametrize(
    "end",
    [
        b"[   50.79] cloud-init[466]: Cloud-init v. 22.4.2 finished at Thu, 26 Nov 2026 07:25:19 +0000. Datasource DataSourceNoCloud",
        b"[   12.01] cloud-init[401]: Cloud-init v. 24.4.1-0ubuntu0~24.04.1 finished at Thu, 26 Nov 2026 07:25:19 +0000.",
        b"kata-guest: the seed is applied",
    ],
)
def test_cloud_init_has_ended_when_it_says_so(lab: MockLab, end: bytes) -> None:
    lab.run(**BOOT)
    print_on_console(
        lab,
        b"Cloud-init v. 22.4.2 running 'modules:final' at Thu, 26 Nov 2026 07:25:17 +0000.\r\n"
        b"cc_apt_configure.py[WARNING]: DEPRECATION apt: converted deprecated config V2, error-prone\r\n",
    )
    with pytest.raises(DeadlineExceeded):
        wait(lab, "cloud_init", timeout=0.5)
    print_on_console(lab, end + b"\r\n")
    wait(lab, "cloud_init")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (
            b"07:25:19,067 - cc_scripts_user.py[WARNING]: Failed to run module scripts-user (scripts in /var/lib)",
            "scripts-user",
        ),
        (b"07:25:12,674 - util.py[WARNING]: Running module locale (<module>) failed", "module locale"),
        (b"__init__.py[WARNING]: Unhandled non-multipart (text/x-not-multipart) userdata: 'x...'", "Unhandled"),
        (b"kata-guest: the user script ended with exit code 3", "exit code 3"),
        (b"kata-guest: there is no interface 52:54:00:00:00:01", "no interface"),
    ],
)
def test_errors_of_cloud_init_are_shown(lab: MockLab, line: bytes, shown: str) -> None:
    lab.run(**BOOT)
    print_on_console(lab, b"fine\r\n" + line + b"\r\n" + b"kata-guest: the user script ended with exit code 0\r\n")
    print_on_console(lab, b"Cloud-init v. 22.4.2 finished at Thu, 26 Nov 2026\r\n")
    with pytest.raises(VmmError, match="with errors") as caught:
        wait(lab, "cloud_init")
    assert shown in caught.value.answer and "\n" not in caught.value.answer
    assert not isinstance(caught.value, DeadlineExceeded)


def test_errors_of_a_guest_that_prints_without_end_are_cut(lab: MockLab) -> None:
    lab.run(**BOOT)
    print_on_console(
        lab, (b"x.py[ERROR]: failed " + b"y" * 5000 + b"\r\n") * 200 + b"kata-guest: the seed is applied\n"
    )
    with pytest.raises(VmmError) as caught:
        wait(lab, "cloud_init")
    assert len(caught.value.answer) < 4000


def test_an_address_that_the_agent_reports_is_enough_without_a_network_of_the_host(
    lab: MockLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.run(**BOOT)
    with pytest.raises(DeadlineExceeded):
        wait(lab, "address", timeout=0.3)
    monkeypatch.setattr(Guest, "facts", {"interfaces": [{"addresses": ["127.0.0.1", "fe80::1", "10.0.2.15"]}]})
    wait(lab, "address")


def test_a_vm_that_is_to_stop_is_waited_for(lab: MockLab) -> None:
    lab.run(**BOOT)
    driver = lab.driver()
    with pytest.raises(DeadlineExceeded):
        wait(lab, "stopped", timeout=0.3)
    driver.stop_sandbox(1)
    wait(lab, "stopped")


@pytest.mark.parametrize(
    ("kind", "argument", "known", "possible"),
    [
        ("ssh", "", {}, False),
        ("ssh", 2222, {"ssh_ports": []}, False),
        ("ssh", "", {"addresses": ["10.64.0.5"]}, True),
        ("ssh", "", {"ssh_ports": [("127.0.0.1", 2222)]}, True),
        ("ssh", "10.64.0.5:22", {}, True),
        ("address", "", {}, False),
        ("address", "10.64.0.5", {}, True),
        ("address", "", {"addresses": ["10.64.0.5"]}, True),
        ("cloud_init", "", {}, True),
    ],
)
def test_what_takes_an_agent_is_refused_without_one(
    kind: str, argument: Any, known: dict[str, Any], possible: bool
) -> None:
    condition = {"kind": kind, "argument": argument, "timeout": 1}
    refused = contextlib.nullcontext() if possible else pytest.raises(Unsupported, match="guest agent")
    with refused:
        waiting.check_possible(condition, "mock", Capabilities(guest_agent=False), "web", **known)
    waiting.check_possible(condition, "mock", Capabilities(guest_agent=True), "web", **known)


def test_every_kind_has_its_function() -> None:
    assert set(waiting.KINDS) == set(KINDS)
