# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest's agent behind a vsock: in a jail and outside of one, after a restore, in clones, and where there is none."""

from __future__ import annotations

import os
import stat

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.template_building import converge_template
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import DeadlineExceeded, Unsupported
from ansible_collections.kata.hypervisor.plugins.module_utils.guest.agent import CommandDisabled, GuestAgent, run
from ansible_collections.kata.hypervisor.plugins.module_utils.guest.ways import VSOCK, GuestWays
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import parse_template_spec
from tests.support.firecracker_lab import FirecrackerLab
from tests.support.stand_ins import double_only, needs_guest
from tests.support.waiting import PATIENCE

AGENT = {"wait_for": {"agent": True, "timeout": PATIENCE}}


def host_name(lab: FirecrackerLab, sandbox: str = "web") -> str:
    return str(lab.facts(sandbox)["guest"]["host_name"])


@needs_guest
def test_the_agent_is_asked_before_and_after_a_restore(lab: FirecrackerLab) -> None:
    lab.start(**AGENT)
    ways = lab.driver().guest_ways()
    assert ways.agent is not None
    assert [(way.kind, way.name) for way in (ways.agent, *ways.channels)] == [(VSOCK, "1022"), (VSOCK, "1023")]
    assert stat.S_ISSOCK(os.stat(ways.agent.path).st_mode) and ways.agent.path == lab.facts()["vsock_socket"]
    facts = lab.facts()["guest"]
    assert facts["os"]["id"] == "double" and facts["file_systems"] == [
        {"device": "vda", "mountpoint": "/", "type": "ext4", "size_mb": 64, "used_mb": 5}
    ]
    with GuestAgent(ways.agent, PATIENCE) as agent, pytest.raises(CommandDisabled, match="the command is not allowed"):
        run(agent, "/bin/true")
    assert lab.facts()["devices"] == [], "it is no device of the task's"
    lab.run(state="saved")
    assert "guest" not in lab.facts()
    lab.run(state="started", **AGENT)
    assert host_name(lab).startswith("guest-of-")
    lab.run(state="stopped", stop_timeout=0)
    assert lab.driver().guest_ways() == GuestWays()


@needs_guest
def test_each_clone_has_its_own_agent(lab: FirecrackerLab) -> None:
    paths = {"state_dir": str(lab.root / "state"), "run_dir": str(lab.root / "run")}
    options = {"hypervisor": "firecracker", "wait_for": {"agent": True, "timeout": PATIENCE}, **lab.options}
    converge_template(parse_template_spec({"id": "base", "state": "saved", **paths, **options}))
    sockets = set()
    for sandbox in ("one", "two"):
        options = {
            name: value for name, value in lab.options.items() if name in ("hypervisor_path", "jailer", "jailer_path")
        }
        lab.run(sandbox, state="started", template="base", **options, **AGENT)
        assert host_name(lab, sandbox).startswith("guest-of-")
        agent = lab.driver(sandbox).guest_ways().agent
        assert agent is not None
        sockets.add(agent.path)
    assert len(sockets) == 2
    converge_template(parse_template_spec({"id": "base", "state": "absent", "force": True, **paths}))


@needs_guest
def test_the_vsock_of_the_task_is_used(plain: FirecrackerLab) -> None:
    plain.start(devices=[{"id": "vs", "type": "vsock", "cid": 7}], **AGENT)
    assert [device["id"] for device in plain.facts()["devices"]] == ["vs"]
    agent = plain.driver().guest_ways().agent
    assert agent is not None and agent.path.endswith("/vsock_vs.sock")


@double_only
def test_a_vm_without_a_vsock_says_so(plain: FirecrackerLab) -> None:
    with pytest.raises(Unsupported, match="no channel to a guest agent"):
        plain.start(use_vsock=False, **AGENT)
    plain.start(use_vsock=False)
    assert plain.driver().guest_ways() == GuestWays() and "guest" not in plain.facts()


@double_only
@pytest.mark.parametrize("version", ["0.17.0", "0.21.3", "1.15.1"])
def test_old_versions(plain: FirecrackerLab, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setenv("FIRECRACKER_DOUBLE_VERSION", version)
    plain.start(allow_vulnerable_vmm=True)
    assert bool(plain.driver().guest_ways().agent) is (version != "0.17.0")


@double_only
@pytest.mark.parametrize("fault", ["no_agent", "wild_agent"])
def test_an_agent_that_is_missing_or_mad(plain: FirecrackerLab, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setenv("FIRECRACKER_DOUBLE_FAULTS", fault)
    plain.start()
    guest = plain.facts().get("guest", {})
    assert guest == ({} if fault == "no_agent" else {"interfaces": []})
    if fault == "no_agent":
        with pytest.raises(DeadlineExceeded, match="agent"):
            plain.run(wait_for={"agent": True, "timeout": 1})
