# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest agent on real QEMU: waiting for it, asking it, and taking vCPUs from a guest under TCG through it."""

from __future__ import annotations

import os
import select
import socket
import stat
import threading

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import DeadlineExceeded, HypervisorError
from tests.support.qemu_lab import QemuLab
from tests.support.waiting import PATIENCE


def test_the_agent_is_waited_for_and_asked(lab: QemuLab) -> None:
    lab.start(initrd_path=str(lab.assets.agent_initrd), vcpus=3, max_vcpus=4, wait_for={"agent": True, "timeout": 120})
    guest = lab.shell()
    guest.run("ip link set lo up")
    facts = lab.facts()["guest"]
    assert facts["os"]["kernel-release"] == guest.run("uname -r")
    assert facts["host_name"] == guest.run("hostname")
    loopback = next(interface for interface in facts["interfaces"] if interface["name"] == "lo")
    assert "127.0.0.1" in loopback["addresses"]

    fewer = lab.run(vcpus=1)
    assert fewer["sandbox"]["vcpus"] == 1
    assert fewer["resized"] == {"vcpus": "guest-offline"}
    assert guest.run("nproc") == "1"
    assert lab.run(vcpus=1)["changed"] is False
    assert lab.run(vcpus=4)["sandbox"]["vcpus"] == 4
    assert guest.run("nproc") == "4"
    assert lab.run(vcpus=4)["changed"] is False
    assert lab.check(vcpus=2)["changed"] is True

    ways = lab.driver().guest_ways().channels
    assert [way.name for way in ways] == [f"org.kata_hypervisor.channel.{number}" for number in range(4)]
    guest.run("for p in /sys/class/virtio-ports/*; do ln -s /dev/${p##*/} /tmp/$(cat $p/name); done")
    for way in ways:
        modes = [os.stat(way.path + ending) for ending in (".in", ".out")]
        assert all(stat.S_ISFIFO(one.st_mode) and stat.S_IMODE(one.st_mode) == 0o600 for one in modes)
        assert {one.st_uid for one in modes} == {lab.facts()["vmm_uid"]}
        to_guest, from_guest = (os.open(way.path + ending, os.O_RDWR | os.O_NONBLOCK) for ending in (".in", ".out"))
        try:
            # Nobody in the guest has the port open yet: what is written waits.
            os.write(to_guest, b"from outside\n")
            guest.run(f"exec 7<>/tmp/{way.name}; read -r line <&7; echo $line and back >&7; exec 7>&-")
            assert select.select([from_guest], [], [], PATIENCE)[0]
            assert os.read(from_guest, 100) == b"from outside and back\n"
        finally:
            os.close(to_guest)
            os.close(from_guest)

    lab.run(state="paused")
    assert "guest" not in lab.facts(), "a paused guest answers nothing"


def test_without_an_agent_the_wait_fails_and_says_so(lab: QemuLab) -> None:
    lab.start()
    with pytest.raises(DeadlineExceeded, match="agent"):
        lab.run(wait_for={"agent": True, "timeout": 2})


def test_wait_for_a_port(lab: QemuLab) -> None:
    lab.start(wait_for="running")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        threading.Thread(target=server.accept, daemon=True).start()
        lab.run(wait_for={"port": f"127.0.0.1:{port}", "timeout": 10})
    with pytest.raises(HypervisorError, match="did not happen within"):
        lab.run(wait_for={"port": f"127.0.0.1:{port}", "timeout": 1})
    with pytest.raises(HypervisorError, match="1 to 65535"):
        lab.run(wait_for="port: ssh")
