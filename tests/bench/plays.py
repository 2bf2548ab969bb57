# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a play on many hosts: how long it took, in all and by role, and how much CPU time of the controller."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any, Sequence

from tests.support.checkout import ROOT

HERE = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Play:
    """What one run of `ansible-playbook` took.

    :param seconds: from its start to its end
    :param cpu: CPU seconds of the controller and of all its children; with local connections those of the modules too
    :param changed: how many tasks changed something, by host
    :param tasks: the longest time among the hosts, by the name of the task with its role, in the order of the run
    """

    seconds: float
    cpu: float
    changed: dict[str, int]
    tasks: dict[str, float]

    def by_role(self) -> dict[str, float]:
        """Seconds by role."""
        sums: dict[str, float] = collections.defaultdict(float)
        for name, spent in self.tasks.items():
            sums[role_of(name)] += spent
        return dict(sums)

    def tasks_of(self, role: str) -> int:
        """How many tasks of a role ran."""
        return sum(role_of(name) == role for name in self.tasks)


def role_of(task: str) -> str:
    """The role in the name of a task."""
    role, separator, _task = task.partition(" : ")
    return role.rpartition(".")[2] if separator else "facts"


def run_play(inventory: pathlib.Path, what: str | Sequence[dict[str, Any]], options: Sequence[str] = ()) -> Play:
    """Run a playbook of the collection, or a play of tasks without facts, on all hosts.

    :raises SystemExit: it failed; the end of its output is shown
    """
    with tempfile.TemporaryDirectory(prefix="kata-play-") as work:
        times, playbook = pathlib.Path(work, "times"), what
        if not isinstance(what, str):
            playbook = f"{work}/play.yml"
            pathlib.Path(playbook).write_text(
                json.dumps([{"hosts": "all", "gather_facts": False, "tasks": list(what)}])
            )
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "task_times",
            "ANSIBLE_NOCOLOR": "1",
            "BENCH_TIMES": str(times),
        }
        program = str(pathlib.Path(sys.executable).with_name("ansible-playbook"))
        before, began = _cpu_seconds(), time.monotonic()
        done = subprocess.run(
            [program, "-i", str(inventory), str(playbook), *options],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        seconds, cpu = time.monotonic() - began, _cpu_seconds() - before
        if done.returncode:
            raise SystemExit(done.stdout[-4000:])
        changed = re.findall(r"^(\S+) +: .* changed=(\d+)", done.stdout, re.MULTILINE)
        return Play(seconds, cpu, {host: int(number) for host, number in changed}, _longest(times))


def _longest(times: pathlib.Path) -> dict[str, float]:
    longest: dict[str, float] = {}
    for line in times.read_text().splitlines() if times.exists() else ():
        entry = json.loads(line)
        longest[entry["name"]] = max(longest.get(entry["name"], 0.0), entry["seconds"])
    return longest


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
