# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From fresh hosts to running sandboxes with the playbook site, role by role; and the same again, which must change nothing.

    python -m tests.bench.fleet [HOSTS]     how many hosts, 5 when not given

The time of a role is that of all hosts together, as an operator waits for it. The hosts run on this machine, so its CPUs do their part too;
a play with only `ping` on the same hosts, between the runs, shows how much of the time that is.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Iterator

from tests.bench.fleet_plays import FleetPlay, run_play
from tests.bench.rows import Row, table
from tests.support.checkout import ROOT

FLEET = ROOT / "tests/hosts/fleet.py"
VARIABLES = {
    "kata_sandbox_list": [{"id": "web"}],
    "kata_sandbox_defaults": {"memory_mb": 192, "max_memory_mb": 512, "wait_for": {"console": "kata-guest: ready"}},
}
#: What the second run may take for each host, seconds.
AIM_SECONDS = 3.0


@contextlib.contextmanager
def fleet(count: int) -> Iterator[pathlib.Path]:
    """The inventory of fresh hosts, which are removed in the end."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="kata-fleet-")) / "fleet"
    names = [f"host{number}" for number in range(1, count + 1)]
    subprocess.run([sys.executable, str(FLEET), "up", str(directory), *names], check=True)
    try:
        yield directory / "inventory.yml"
    finally:
        subprocess.run([sys.executable, str(FLEET), "down", str(directory)], check=True)
        directory.parent.rmdir()


def site(inventory: pathlib.Path, forks: int = 5) -> FleetPlay:
    """Run the playbook site on all hosts."""
    return run_play(inventory, "kata.hypervisor.site", forks, ["-e", json.dumps(VARIABLES)])


def show(name: str, play: FleetPlay, count: int) -> None:
    """The time of the run, and of each role in it."""
    print(f"{name}: {play.seconds:.1f} s, {play.seconds / count:.1f} s a host; changed: {sum(play.changed.values())}")
    for role, spent in play.by_role().items():
        print(f"    {role:14} {spent:6.1f} s  {play.tasks_of(role):3} tasks")


def main() -> int:
    """Measure, print, and tell whether the second run changed nothing."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    began = time.monotonic()
    with fleet(count) as inventory:
        print(f"{count} fresh hosts: {time.monotonic() - began:.1f} s")
        show("first run of site", site(inventory), count)
        pings = [run_play(inventory, [{"ansible.builtin.ping": {}}])]
        second = site(inventory)
        pings.append(run_play(inventory, [{"ansible.builtin.ping": {}}]))
        show("second run of site", second, count)
    row = Row(
        f"second run of site, a host of {count}",
        [second.seconds / count],
        [AIM_SECONDS],
        "the aim, 3 s a host",
        1.0,
    )
    ratio = Row(
        "the same, beside ping",
        [second.seconds / count],
        [play.seconds / count for play in pings],
        "a play with one ping on the same hosts",
    )
    print(table("Provisioning", [row, ratio]))
    return 1 if any(second.changed.values()) or len(second.changed) != count else 0


if __name__ == "__main__":
    sys.exit(main())
