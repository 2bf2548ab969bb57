# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory of a fleet, compared with one ad hoc ping of the same hosts: 20 hosts with 50 sandboxes each, through a real sshd.

    python -m tests.bench.inventory_times [ROUNDS]     5 rounds when not given

All hosts are this machine, with directories of their own, so the controller and 20 hosts share its processors. The sandboxes are those of the mock driver.
"""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from tests.support.checkout import ROOT
from tests.support.loopback_sshd import Sshd, loopback_sshd
from tests.support.mock_lab import BOOT, MockLab

HOSTS, SANDBOXES = 20, 50


def make_fleet(work: pathlib.Path, sshd: Sshd) -> pathlib.Path:
    """The directory of an inventory with hosts that have sandboxes."""
    directory = work / "inventory"
    directory.mkdir()
    hosts = {}
    for number in range(HOSTS):
        lab = MockLab(work / f"host{number}")
        for sandbox in range(SANDBOXES):
            lab.start(f"box-{number}-{sandbox}", labels={"tier": "web" if sandbox % 2 else "db"}, **BOOT)
        hosts[f"host{number}"] = {f"kata_sandbox_{name}": path for name, path in lab.directories().items()}
    variables = {**sshd.variables(), "ansible_control_path_dir": str(work / "cp")}
    content = {"all": {"children": {"kvm": {"hosts": hosts, "vars": variables}}}}
    (directory / "hosts.json").write_text(json.dumps(content))
    return directory


def seconds(directory: pathlib.Path, program: str, *words: str) -> tuple[float, str]:
    """How long a program of Ansible takes, and what it printed."""
    argv = [str(pathlib.Path(sys.executable).with_name(program)), "-i", str(directory), *words]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORKS": str(HOSTS)}
    began = time.monotonic()
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    took = time.monotonic() - began
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return took, done.stdout


def main() -> None:
    """Measure, interleaved, and print medians."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory(prefix="kt-") as name:
        work = pathlib.Path(name)
        keys = work / "sshd"
        keys.mkdir()
        with loopback_sshd(keys) as sshd:
            directory = make_fleet(work, sshd)
            source = directory / "sandboxes.yml"
            pings, inventories = [], []
            for number in range(rounds + 1):
                source.unlink(missing_ok=True)
                ping, _printed = seconds(directory, "ansible", "kvm", "-m", "ansible.builtin.ping")
                source.write_text("plugin: kata.hypervisor.sandboxes\n")
                took, printed = seconds(directory, "ansible-inventory", "--graph", "sandboxes")
                assert printed.count("|--box-") == HOSTS * SANDBOXES, printed[-2000:]
                if number:  # The first round installs the engine and opens connections.
                    pings.append(ping)
                    inventories.append(took)
    ping, took = statistics.median(pings), statistics.median(inventories)
    sys.stdout.write(f"\nInventory of {HOSTS} hosts with {SANDBOXES} sandboxes each, over ssh, {rounds} rounds\n")
    sys.stdout.write(f"  ad hoc ping of the hosts   {ping:7.2f} s\n")
    sys.stdout.write(f"  ansible-inventory --graph  {took:7.2f} s   {took / ping:5.2f} x ping\n")


if __name__ == "__main__":
    main()
