# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a clone's guest is told, by an agent that runs commands on this machine and by one that may not."""

from __future__ import annotations

import base64
import os
import pathlib
import subprocess
import types
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.guest.agent import AgentError, CommandDisabled
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import reseeding

SHELLS = [shell for shell in ("/bin/dash", "/bin/bash", "/bin/busybox") if os.path.exists(shell)]


class Agent:
    """An agent that records what it is asked, and forbids commands."""

    def __init__(self, forbidden: tuple[str, ...] = ()) -> None:
        self.forbidden = forbidden
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_exc: object) -> None:
        pass

    def ask(self, command: str, arguments: dict[str, Any], timeout: float | None = None) -> Any:
        if command in self.forbidden:
            raise CommandDisabled("forbidden")
        self.asked.append((command, arguments))
        return {"guest-exec": {"pid": 7}, "guest-exec-status": {"exited": True, "exitcode": 0}}.get(command, 1)


def reseed(agent: Agent, monkeypatch: pytest.MonkeyPatch, listens: bool = True) -> list[str]:
    monkeypatch.setattr(reseeding, "GuestAgent", lambda way: agent)
    qmp = types.SimpleNamespace(execute=lambda command: [{"label": "agent", "frontend-open": listens}])
    vmm: Any = types.SimpleNamespace(qmp=lambda: qmp, agent_way=lambda: None)
    reseeding.reseed_guest(vmm, "x86_64")
    return [command for command, _arguments in agent.asked]


def test_one_command_does_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reseed(Agent(), monkeypatch) == ["guest-exec", "guest-exec-status"]


def test_an_agent_that_may_not_run_commands_sets_the_clock_and_adds_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Agent(("guest-exec",))
    assert reseed(agent, monkeypatch) == ["guest-set-time", "guest-file-open", "guest-file-write", "guest-file-close"]
    assert agent.asked[1][1] == {"path": "/dev/urandom", "mode": "w"}
    assert len(base64.b64decode(agent.asked[2][1]["buf-b64"])) == 512


def test_an_agent_that_may_do_nothing_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert issubclass(CommandDisabled, AgentError)
    assert reseed(Agent(("guest-exec", "guest-set-time", "guest-file-open")), monkeypatch) == []
    assert reseed(Agent(), monkeypatch, listens=False) == []


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("first_works", [True, False])
def test_the_script_in_each_shell(
    shell: str, first_works: bool, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With directories and a program of the test's own. The second directory is used if the first one is none, or runs no programs."""
    (tmp_path / "second").mkdir()
    if first_works:
        (tmp_path / "first").mkdir()
    entropy = bytes(range(256)) * 2
    monkeypatch.setattr(reseeding.os, "urandom", lambda size: entropy[:size])
    monkeypatch.setattr(
        reseeding, "reseed_program", lambda architecture: f"#!/bin/sh\necho $0 100% >>{tmp_path}/ran\n".encode()
    )
    script = reseeding.reseed_script("x86_64").replace("date -s", "echo").replace("/dev/urandom", f"{tmp_path}/entropy")
    script = script.replace("/run ''", f"{tmp_path}/first {tmp_path}/second")
    words = [shell, "sh"] if shell.endswith("busybox") else [shell]
    done = subprocess.run([*words, "-c", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "entropy").read_bytes() == entropy
    where = "first" if first_works else "second"
    assert (tmp_path / "ran").read_text() == f"{tmp_path}/{where}/kata-reseed-0001020304050607 100%\n"
    assert sorted(path.name for path in tmp_path.rglob("kata-reseed*")) == []
