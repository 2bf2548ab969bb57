# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever QEMU or a guest's agent answers, only typed errors come out, and a removal ends the VM all the same."""

from __future__ import annotations

import ast
import json
import os
import pathlib
import random
import socket
import subprocess
import threading
from typing import Any, Callable

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError, VmmError
from ansible_collections.kata.hypervisor.plugins.module_utils.guest.agent import ANSWERS as AGENT_ANSWERS
from ansible_collections.kata.hypervisor.plugins.module_utils.guest.agent import (
    GuestAgent,
    addresses_of,
    describe,
    set_online_vcpus,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.guest.ways import SOCKET, Way
from ansible_collections.kata.hypervisor.plugins.module_utils.host.processes import identify
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context, Observed
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import (
    migration,
    qmp_answers,
    resize,
    vmm,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.state import QemuState
from ansible_collections.kata.hypervisor.plugins.module_utils.untrusted.answers import Anything
from tests.support.waiting import PATIENCE
from tests.support.wrong_answers import junk, right, wrong

DRIVER = pathlib.Path(vmm.__file__).parent
ROUNDS = int(os.environ.get("KATA_WRONG_ANSWERS", "20000"))
GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": []}}


class Peer:
    """The other end of a conversation in JSON lines: answers each request by a function.

    :param answer: gets a request, and gives the members of the answer
    """

    def __init__(
        self, path: str, answer: Callable[[dict[str, Any]], dict[str, Any]], greeting: dict[str, Any] | None = None
    ) -> None:
        self.answer, self.greeting = answer, greeting
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(8)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _address = self.listener.accept()
            except OSError:
                return
            with connection:
                try:
                    self._talk(connection)
                except OSError:
                    continue

    def _talk(self, connection: socket.socket) -> None:
        if self.greeting:
            connection.sendall(json.dumps(self.greeting).encode() + b"\n")
        for line in connection.makefile("rb"):
            request = json.loads(line.lstrip(b"\xff"))
            command = request["execute"]
            members: dict[str, Any]
            if command == "qmp_capabilities":
                members = {"return": {}}
            elif command == "guest-sync-delimited":
                members = {"return": request["arguments"]["id"]}
            else:
                members = self.answer(request)
            if "id" in request:
                members = {**members, "id": request["id"]}
            connection.sendall(b"\xff" * (command == "guest-sync-delimited") + json.dumps(members).encode() + b"\n")

    def close(self) -> None:
        self.listener.close()


def commands_of(tree: ast.AST) -> set[str]:
    """The QMP commands that code names in calls of execute()."""
    found = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "execute"
            and node.args
        ):
            if isinstance(node.args[0], ast.Constant):
                found.add(str(node.args[0].value))
    return found


def test_every_command_of_the_driver_has_a_declared_answer() -> None:
    found = {
        command for path in DRIVER.glob("*.py") for command in commands_of(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert "query-status" in found
    assert found - set(qmp_answers.ANSWERS) - qmp_answers.SILENT - {"qom-get"} == set()


def shape_of_request(request: dict[str, Any]) -> Any:
    shape = qmp_answers.shape_for(request["execute"], request.get("arguments"))
    return Anything() if request["execute"] in qmp_answers.SILENT else shape


def test_wrong_answers_of_qmp_are_typed_errors(tmp_path: pathlib.Path) -> None:
    random_ = random.Random(11)
    asked: set[str] = set()

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        asked.add(request["execute"])
        shape, chance = shape_of_request(request), random_.random()
        if chance < 0.3:
            return {"return": right(shape, random_)}
        if chance < 0.95:
            return {"return": wrong(shape, random_)}
        return random_.choice(
            [
                {"error": junk(random_)},
                {"error": {"class": "GenericError", "desc": "no"}},
                {},
                {"return": None, "error": None},
            ]
        )

    run = tmp_path / "run"
    run.mkdir()
    peers = [Peer(str(run / name), answer, GREETING) for name in ("qmp.sock", "monitor.sock")]
    machine = vmm.Vmm(Context("web", str(run), str(tmp_path / "sandboxes/web")))
    machine.state = QemuState(memory_hotplug="virtio-mem", process=identify(os.getpid()))
    uses: list[Callable[[], Any]] = [
        machine.observe,
        lambda: vmm.plugged_devices(machine.qmp()),
        lambda: vmm.plugged_memory_mb(machine.qmp(), machine.state),
        lambda: vmm.has_agent(machine.qmp()),
        lambda: resize.hotplugged_vcpus(machine.qmp()),
        lambda: resize.described_dimms(machine.qmp()),
        lambda: resize.described_files(machine.qmp()),
        lambda: migration.check_savable(machine.qmp()),
        lambda: migration.end_earlier_save(machine.qmp(), 0),
        lambda: migration.wait_migrated(machine.qmp(), 0),
        lambda: resize.plug_vcpus(machine.qmp(), 1),
    ]
    refused = 0
    for number in range(ROUNDS):
        try:
            seen = uses[number % len(uses)]()
            if isinstance(seen, Observed):
                assert seen.power in ("running", "paused", "failed", "unresponsive")
                refused += seen.power == "unresponsive"
        except HypervisorError as problem:
            assert problem.message
            refused += 1
        if number % 50 == 0:
            machine.disconnect()
    assert refused > ROUNDS // 4
    assert {"query-status", "query-memory-devices", "query-migrate", "qom-list", "query-hotpluggable-cpus"} <= asked
    machine.disconnect()
    for peer in peers:
        peer.close()


def test_wrong_answers_of_an_agent_are_typed_errors(tmp_path: pathlib.Path) -> None:
    random_ = random.Random(12)

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        shape = AGENT_ANSWERS[request["execute"]]
        return random_.choice(
            [
                {"return": right(shape, random_)},
                {"return": wrong(shape, random_)},
                {"return": wrong(shape, random_)},
                {"error": junk(random_)},
                {},
            ]
        )

    peer = Peer(str(tmp_path / "agent.sock"), answer)
    refused = 0
    with GuestAgent(Way(SOCKET, str(tmp_path / "agent.sock"), "agent"), 20) as agent:
        for _round in range(ROUNDS // 4):
            facts = describe(agent)
            assert all(text.isprintable() for interface in facts["interfaces"] for text in interface["addresses"])
            assert all(":" in address or "." in address for address in addresses_of(facts))
            try:
                assert isinstance(set_online_vcpus(agent, 2), int)
            except VmmError:
                refused += 1
    assert refused > ROUNDS // 16
    peer.close()


@pytest.mark.parametrize("status", ["x", {"status": 7}, {"status": "dreaming"}, {}, None, [], 7])
def test_nonsense_is_no_reason_to_start_another_vm(tmp_path: pathlib.Path, status: Any) -> None:
    """A VMM that answers nonsense is alive: it is neither lost nor gone, and a removal ends it."""
    run = tmp_path / "run"
    run.mkdir()
    child = subprocess.Popen(["sleep", "600"])
    peers = [
        Peer(str(run / name), lambda request: {"return": status}, GREETING) for name in ("qmp.sock", "monitor.sock")
    ]
    machine = vmm.Vmm(Context("web", str(run), str(tmp_path / "sandboxes/web")))
    machine.state = QemuState(process=identify(child.pid))
    seen = machine.observe()
    assert seen.power == "unresponsive" and "cannot be used" in seen.reason
    threading.Thread(target=child.wait, daemon=True).start()
    machine.stop(0.2, force=False)
    assert child.wait(PATIENCE) is not None
    for peer in peers:
        peer.close()


@pytest.mark.parametrize(
    "address",
    [
        "localhost",
        "0.0.0.0",
        "::",
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "fe80::1",
        "169.254.1.1",
        "224.0.0.1",
        "",
        "1",
    ],
)
def test_a_guest_cannot_send_us_to_ourselves(address: str) -> None:
    assert addresses_of({"interfaces": [{"addresses": [address]}]}) == []


def test_addresses_of_a_guest_are_in_order_and_in_one_spelling() -> None:
    facts = {"interfaces": [{"addresses": ["2001:DB8::7", "192.0.2.7"]}, {"addresses": ["192.0.2.8/24", "10.0.0.9"]}]}
    assert addresses_of(facts) == ["192.0.2.7", "10.0.0.9", "2001:db8::7"]
