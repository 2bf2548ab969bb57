# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the cost of a fleet grows: the playbook status, kata_sandbox_info and ping over simulated hosts, and how many at a time are worth it.

    python -m tests.bench.fleet_times [HOSTS]     the largest number of hosts, 200 when not given

A simulated host is this machine with a local connection and directories of its own, in which two sandboxes of the mock driver run. So its part of
a task runs here too, and what is measured of many hosts is the controller's way of dealing with them, not a network.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import sys
import tempfile
from typing import Any

from tests.bench.fleet_plays import FleetPlay, run_play
from tests.bench.rows import Row, table
from tests.support.mock_lab import BOOT, MockLab

HOSTS, SANDBOXES, FORKS = 200, 2, 20
#: Numbers of forks that are compared, over a quarter of the hosts.
ALL_FORKS = (5, 20, 50)
TITLE = f"A fleet of {HOSTS} simulated hosts with {SANDBOXES} sandboxes each, {FORKS} forks"

DIRECTORIES = {name: f"{{{{ kata_sandbox_{name} }}}}" for name in ("state_dir", "run_dir")}
NOTHING = "a task that sends nothing to the hosts"
#: What is run on all hosts, by its name.
WORK: dict[str, str | list[dict[str, Any]]] = {
    "ping": [{"ansible.builtin.ping": {}}],
    "kata_sandbox_info": [{"kata.hypervisor.kata_sandbox_info": DIRECTORIES}],
    "status": "kata.hypervisor.status",
    NOTHING: [{"ansible.builtin.set_fact": {"kata_nothing": 1}}],
}


def make_hosts(work: pathlib.Path, count: int) -> None:
    """The directories of hosts with sandboxes. One host is made with the engine, and the others have what it would make there too."""
    for number in range(count):
        lab = MockLab(work / f"host{number}")
        for sandbox in range(SANDBOXES):
            lab.start(f"box-{number}-{sandbox}", **BOOT)


def inventory_of(work: pathlib.Path, count: int) -> pathlib.Path:
    """An inventory of the first hosts."""
    hosts = {}
    for number in range(count):
        directories = MockLab(work / f"host{number}").directories()
        hosts[f"host{number}"] = {f"kata_sandbox_{name}": path for name, path in directories.items()}
    variables = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}
    path = work / f"hosts{count}.json"
    path.write_text(json.dumps({"all": {"hosts": hosts, "vars": variables}}))
    return path


def growth(few: list[FleetPlay], many: list[FleetPlay], hosts: int) -> list[float]:
    """Seconds for each host more."""
    return [(after.seconds - before.seconds) / hosts for before, after in zip(few, many)]


def rows(rounds: int, hosts: int = HOSTS) -> list[Row]:
    """Measure. All kinds of work alternate; a round takes minutes, so there are at most two."""
    work = pathlib.Path(tempfile.mkdtemp(prefix="kt-"))
    quarter = hosts // 4
    few: dict[str, list[FleetPlay]] = {name: [] for name in WORK}
    many: dict[str, list[FleetPlay]] = {name: [] for name in WORK}
    by_forks: dict[tuple[str, int], list[FleetPlay]] = {}
    try:
        make_hosts(work, hosts)
        run_play(inventory_of(work, 1), WORK["status"])  # Installs the copy of the engine.
        for _round in range(min(rounds, 2)):
            for name, what in WORK.items():
                few[name].append(run_play(inventory_of(work, quarter), what, FORKS))
                many[name].append(run_play(inventory_of(work, hosts), what, FORKS))
            for forks in ALL_FORKS:
                for name in ("ping", "status"):
                    play = run_play(inventory_of(work, quarter), WORK[name], forks)
                    by_forks.setdefault((name, forks), []).append(play)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    pings = [play.seconds for play in many["ping"]]
    per_host = growth(few["ping"], many["ping"], hosts - quarter)
    against = "ping of the same hosts"
    found = []
    for name in ("status", "kata_sandbox_info"):
        aim = 1.3 if name == "status" else 0.0
        found.append(Row(f"{name}, {hosts} hosts", [play.seconds for play in many[name]], pings, against, aim))
        more = growth(few[name], many[name], hosts - quarter)
        found.append(Row(f"{name}, each host more", more, per_host, "each host more of ping"))
        cpu, limit = [play.cpu for play in many[name]], [play.cpu for play in many["ping"]]
        found.append(Row(f"{name}, {hosts} hosts, CPU time", cpu, limit, "CPU time of that ping"))
    for what in (NOTHING, "ping", "status"):
        found.append(
            Row(
                f"{what}: CPU time of the main process, each host more",
                [(b.main_cpu - a.main_cpu) / (hosts - quarter) for a, b in zip(few[what], many[what])],
                [(b.cpu - a.cpu) / (hosts - quarter) for a, b in zip(few[what], many[what])],
                "CPU time of it with its workers and the modules",
            )
        )
    for forks in ALL_FORKS:
        limit = [play.seconds for play in by_forks["ping", forks]]
        ours = [play.seconds for play in by_forks["status", forks]]
        found.append(Row(f"status, {quarter} hosts, {forks} forks", ours, limit, against))
    return found


if __name__ == "__main__":
    COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else HOSTS
    sys.stdout.write(table(TITLE.replace(str(HOSTS), str(COUNT), 1), rows(1, COUNT)) + "\n")
