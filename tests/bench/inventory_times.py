# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory of a fleet, compared with one ad hoc ping of the same hosts: 20 hosts with 50 sandboxes each, through a real sshd.

All hosts are this machine, with directories of their own, so the controller and 20 hosts share its processors. The sandboxes are those of the mock driver.
"""

from __future__ import annotations

import json
import pathlib
import tempfile
import time

from tests.bench.playing import ansible
from tests.bench.rows import Row
from tests.support.loopback_sshd import Sshd, loopback_sshd
from tests.support.mock_lab import BOOT, MockLab

HOSTS, SANDBOXES = 20, 50
TITLE = f"Inventory of {HOSTS} hosts with {SANDBOXES} sandboxes each, over ssh"


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
    began = time.monotonic()
    printed = ansible(program, "-i", str(directory), *words, ANSIBLE_FORKS=str(HOSTS))
    return time.monotonic() - began, printed


def rows(rounds: int) -> list[Row]:
    """Measure. The inventory is read after each ping; a round takes a quarter of a minute, so there are at most five."""
    pings, inventories = [], []
    with tempfile.TemporaryDirectory(prefix="kt-") as name:
        work = pathlib.Path(name)
        keys = work / "sshd"
        keys.mkdir()
        with loopback_sshd(keys) as sshd:
            directory = make_fleet(work, sshd)
            source = directory / "sandboxes.yml"
            for number in range(min(rounds, 5) + 1):
                source.unlink(missing_ok=True)
                ping, _printed = seconds(directory, "ansible", "kvm", "-m", "ansible.builtin.ping")
                source.write_text("plugin: kata.hypervisor.sandboxes\n")
                took, printed = seconds(directory, "ansible-inventory", "--graph", "sandboxes")
                assert printed.count("|--box-") == HOSTS * SANDBOXES, printed[-2000:]
                if number:  # The first round installs the engine and opens connections.
                    pings.append(ping)
                    inventories.append(took)
    return [Row("ansible-inventory --graph", inventories, pings, "ad hoc ping of the hosts", 1.5)]
