# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a play on many hosts: how long it took, in all and by role, and how much CPU time of the controller."""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
import re
import resource
import tempfile
import time
from typing import Any, Sequence

from tests.bench.playing import CALLBACKS, ansible


@dataclasses.dataclass(frozen=True)
class FleetPlay:
    """What one run of `ansible-playbook` took.

    :param seconds: from its start to its end
    :param cpu: CPU seconds of the controller and of all its children; with local connections those of the modules too
    :param main_cpu: CPU seconds of the one process through which all results go, without its workers
    :param changed: how many tasks changed something, by host
    :param tasks: the longest time among the hosts, by the name of the task with its role, in the order of the run
    """

    seconds: float
    cpu: float
    main_cpu: float
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
    """The role in the name of a task; facts are gathered without one."""
    role, separator, _task = task.partition(" : ")
    return role.rpartition(".")[2] if separator else "facts"


def run_play(
    inventory: pathlib.Path, what: str | Sequence[dict[str, Any]], forks: int = 5, options: Sequence[str] = ()
) -> FleetPlay:
    """Run a playbook of the collection, or a play of tasks without facts, on all hosts of an inventory.

    :raises SystemExit: it failed; the end of its output is shown
    """
    with tempfile.TemporaryDirectory(prefix="kata-play-") as work:
        times, main, playbook = pathlib.Path(work, "times"), pathlib.Path(work, "main"), str(what)
        if not isinstance(what, str):
            playbook = f"{work}/play.json"
            play = {"hosts": "all", "gather_facts": False, "tasks": list(what)}
            pathlib.Path(playbook).write_text(json.dumps([play]))
        before, began = _cpu_seconds(), time.monotonic()
        printed = ansible(
            "ansible-playbook",
            "-i",
            str(inventory),
            playbook,
            *options,
            ANSIBLE_FORKS=str(forks),
            ANSIBLE_NOCOLOR="1",
            ANSIBLE_CALLBACK_PLUGINS=str(CALLBACKS),
            ANSIBLE_CALLBACKS_ENABLED="task_times",
            BENCH_TIMES=str(times),
            BENCH_MAIN_CPU=str(main),
        )
        seconds, cpu = time.monotonic() - began, _cpu_seconds() - before
        changed = re.findall(r"^(\S+) +: .* changed=(\d+)", printed, re.MULTILINE)
        by_host = {host: int(number) for host, number in changed}
        return FleetPlay(seconds, cpu, float(main.read_text()), by_host, _longest(times))


def _longest(times: pathlib.Path) -> dict[str, float]:
    longest: dict[str, float] = {}
    for line in times.read_text().splitlines() if times.exists() else ():
        entry = json.loads(line)
        longest[entry["name"]] = max(longest.get(entry["name"], 0.0), entry["seconds"])
    return longest


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
