# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a look at a running QEMU costs: connections, and waits for an answer."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import threading
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import VmmError
from ansible_collections.kata.hypervisor.plugins.module_utils.host.processes import ProcessIdentity, identify
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.names import OBSERVER_SOCKET
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.qmp import QmpClient
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.vmm import Vmm

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": []}}
ANSWERS: dict[str, Any] = {
    "qmp_capabilities": {},
    "query-status": {"status": "running", "running": True, "singlestep": False},
    "query-chardev": [{"label": "agent", "frontend-open": True, "filename": "x"}],
    "query-cpus-fast": [{"cpu-index": 0, "thread-id": 71}, {"cpu-index": 1, "thread-id": 72}],
    "query-memory-size-summary": {"base-memory": 134217728, "plugged-memory": 0},
    "query-balloon": {"actual": 67108864},
    "qom-list": [{"name": "type", "type": "string"}, {"name": "dev-data0", "type": "child<virtio-blk-pci>"}],
}


class Qemu:
    """A QEMU that answers after it has got as many commands as it waits for: the commands of one wait of its client.

    :param groups: how many commands it waits for, one after the other
    """

    def __init__(self, path: pathlib.Path, groups: list[int]) -> None:
        self.commands: list[str] = []
        self.connections = 0
        self._groups = groups
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(5)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _address = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection, connection.makefile("rwb") as stream:
                self._send(stream, GREETING)
                for size in self._groups:
                    requests = [json.loads(line) for line in (stream.readline() for _number in range(size)) if line]
                    for request in requests:
                        self.commands.append(request["execute"])
                        self._send(stream, {"return": ANSWERS[request["execute"]], "id": request["id"]})

    @staticmethod
    def _send(stream: Any, message: dict[str, Any]) -> None:
        stream.write(json.dumps(message).encode() + b"\r\n")
        stream.flush()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()


class Running(Vmm):
    """A VMM whose process is this one."""

    def process(self) -> ProcessIdentity | None:
        return identify(os.getpid())


@pytest.mark.parametrize("hotplug", ["balloon", "pc-dimm"])
def test_a_look_is_one_connection_and_one_wait_for_all_answers(tmp_path: pathlib.Path, hotplug: str) -> None:
    vmm = Running(Context("one", str(tmp_path), str(tmp_path)))
    vmm.state.memory_hotplug = hotplug
    qemu = Qemu(tmp_path / OBSERVER_SOCKET, [1, 5])
    try:
        observed = vmm.observe()
    finally:
        qemu.close()
    memory = "query-balloon" if hotplug == "balloon" else "query-memory-size-summary"
    assert qemu.connections == 1
    assert qemu.commands == [
        "qmp_capabilities",
        "query-status",
        "query-chardev",
        "query-cpus-fast",
        memory,
        "qom-list",
    ]
    assert (observed.power, observed.vcpus, observed.devices) == ("running", 2, ["data0"])
    assert observed.memory_mb == (64 if hotplug == "balloon" else 128)
    assert observed.thread_ids == {0: 71, 1: 72}
    assert vmm.agent_connected


def test_answers_that_nobody_reads_are_dropped(tmp_path: pathlib.Path) -> None:
    qemu = Qemu(tmp_path / "qmp.sock", [1, 3, 1])
    try:
        with QmpClient(str(tmp_path / "qmp.sock"), 5) as client:
            client.ask(("query-status", None), ("query-chardev", None))
            assert client.execute("query-cpus-fast") == ANSWERS["query-cpus-fast"]
            # It is asked again: the answer from before may be out of date.
            assert client.execute("query-status")["status"] == "running"
    finally:
        qemu.close()
    assert qemu.commands[1:] == ["query-status", "query-chardev", "query-cpus-fast", "query-status"]


def test_a_refused_command_is_an_error_of_that_command() -> None:
    client_end, server_end = socket.socketpair()
    with client_end, server_end:
        server_end.sendall(
            b'{"return": {}, "id": 1}\n{"return": {"status": "running"}, "id": 2}\n'
            b'{"error": {"class": "GenericError", "desc": "no"}, "id": 3}\n{"return": {}, "id": 4}\n'
        )
        client = QmpClient.__new__(QmpClient)
        client.timeout, client._socket, client._buffer, client._events = 5, client_end, bytearray(), []
        client._next_id, client._asked = 0, []
        client.ask(("qmp_capabilities", None), ("query-status", None), ("stop", None), ("cont", None))
        assert client.execute("qmp_capabilities") == {}
        assert client.execute("query-status")["status"] == "running"
        with pytest.raises(VmmError, match="refused stop"):
            client.execute("stop")
        client.execute("cont")
