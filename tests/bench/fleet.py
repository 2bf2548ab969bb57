# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From fresh hosts to running sandboxes with the playbook site, step by step; and the same again, which must change nothing.

    python -m tests.bench.fleet [HOSTS]     how many hosts, 5 when not given

A step is a role; its time is that of all hosts together, as an operator waits for it.
"""

from __future__ import annotations

import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

from tests.support.checkout import ROOT

HERE = pathlib.Path(__file__).resolve().parent
FLEET = ROOT / "tests/hosts/fleet.py"
VARIABLES = {
    "kata_sandbox_list": [{"id": "web"}],
    "kata_sandbox_defaults": {"memory_mb": 192, "max_memory_mb": 512, "wait_for": {"console": "kata-guest: ready"}},
}


def site(directory: pathlib.Path) -> tuple[float, dict[str, float], dict[str, int]]:
    """Run the playbook: seconds in all, seconds by role, and what changed by host."""
    times = directory / "times"
    times.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": "task_times",
        "ANSIBLE_NOCOLOR": "1",
        "BENCH_TIMES": str(times),
    }
    argv = [str(pathlib.Path(sys.executable).with_name("ansible-playbook")), "-i", str(directory / "inventory.yml")]
    began = time.monotonic()
    done = subprocess.run(
        [*argv, "kata.hypervisor.site", "-e", json.dumps(VARIABLES)],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    if done.returncode:
        raise SystemExit(done.stdout[-4000:])
    changed = {
        host: int(number) for host, number in re.findall(r"^(\S+) +: .* changed=(\d+)", done.stdout, re.MULTILINE)
    }
    return seconds, steps(times), changed


def steps(times: pathlib.Path) -> dict[str, float]:
    """Seconds by role: of each task the longest among the hosts."""
    longest: dict[str, float] = {}
    order: list[str] = []
    for line in times.read_text().splitlines():
        entry = json.loads(line)
        if entry["name"] not in longest:
            order.append(entry["name"])
        longest[entry["name"]] = max(longest.get(entry["name"], 0.0), entry["seconds"])
    sums: dict[str, float] = collections.defaultdict(float)
    for name in order:
        role, separator, _task = name.partition(" : ")
        sums[role.rpartition(".")[2] if separator else "facts"] += longest[name]
    return dict(sums)


def main() -> int:
    """Measure, print, and tell whether the second run changed nothing."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    directory = pathlib.Path(tempfile.mkdtemp(prefix="kata-fleet-")) / "fleet"
    began = time.monotonic()
    subprocess.run(
        [sys.executable, str(FLEET), "up", str(directory), *(f"host{number}" for number in range(1, count + 1))],
        check=True,
    )
    print(f"{count} fresh hosts: {time.monotonic() - began:.1f} s")
    try:
        for name in ("first", "second"):
            seconds, by_role, changed = site(directory)
            print(
                f"{name} run of site: {seconds:.1f} s, {seconds / count:.1f} s a host; changed: {sum(changed.values())}"
            )
            for role, spent in by_role.items():
                print(f"    {role:14} {spent:6.1f} s")
        return 1 if any(changed.values()) or len(changed) != count else 0
    finally:
        subprocess.run([sys.executable, str(FLEET), "down", str(directory)], check=True)
        directory.parent.rmdir()


if __name__ == "__main__":
    sys.exit(main())
