# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays whose tasks are timed, as a user waits for them."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

from tests.support.checkout import ROOT

CALLBACKS = ROOT / "tests/bench/callback_plugins"


def ansible(program: str, *words: str, **environment: str) -> str:
    """Run a program of Ansible with the configuration of this checkout, and return what it printed.

    :raises SystemExit: it failed; has the end of what it printed
    """
    done = subprocess.run(
        [str(pathlib.Path(sys.executable).with_name(program)), *words],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=ROOT,
    )
    if done.returncode:
        raise SystemExit(done.stdout[-4000:])
    return done.stdout


def play(
    work: pathlib.Path, tasks: list[dict[str, Any]], variables: dict[str, Any] | None = None, sandbox: str = ""
) -> dict[str, list[float]]:
    """Run tasks on one host; seconds by task name.

    :param variables: of the host; by default the connection is local
    :param sandbox: of the host, which the inventory plugin finds; the tasks run in its guest
    """
    host = variables or {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = work / "inventory"
    inventory.mkdir(exist_ok=True)
    (inventory / "hosts.json").write_text(json.dumps({"all": {"hosts": {"bench": host}}}))
    source = inventory / "sandboxes.yml"
    source.unlink(missing_ok=True)
    if sandbox:
        source.write_text(json.dumps({"plugin": "kata.hypervisor.sandboxes"}))
    guest = {"ansible_python_interpreter": "/usr/bin/python3"} if sandbox else {}
    (work / "play.json").write_text(
        json.dumps([{"hosts": sandbox or "bench", "gather_facts": False, "vars": guest, "tasks": tasks}])
    )
    times = work / "times"
    times.unlink(missing_ok=True)
    ansible(
        "ansible-playbook",
        "-i",
        str(inventory),
        str(work / "play.json"),
        BENCH_TIMES=str(times),
        ANSIBLE_CALLBACK_PLUGINS=str(CALLBACKS),
        ANSIBLE_CALLBACKS_ENABLED="task_times",
    )
    found: dict[str, list[float]] = {}
    for line in times.read_text().splitlines():
        result = json.loads(line)
        found.setdefault(result["name"], []).append(result["seconds"])
    return found
