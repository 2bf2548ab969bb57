# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that has nothing but ssh and Python: provisioned, used, rebooted and emptied again, all over ssh.

The steps build on each other, so they are one test.
"""

from __future__ import annotations

import base64
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
FLEET = ROOT / "tests/hosts/fleet.py"
BIN = pathlib.Path(sys.executable).parent

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("systemd-nspawn") or not shutil.which("mmdebstrap"),
    reason="needs root, systemd-nspawn and mmdebstrap",
)


@pytest.fixture
def fleet(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    directory = tmp_path / "fleet"
    subprocess.run([sys.executable, str(FLEET), "up", str(directory), "fresh"], check=True)
    yield directory
    subprocess.run([sys.executable, str(FLEET), "down", str(directory)], check=True)
    assert not directory.exists()


def ansible(fleet: pathlib.Path, program: str, *arguments: str) -> str:
    """Run an Ansible program against the fleet; its output."""
    argv = [str(BIN / program), "-i", str(fleet / "inventory.yml"), *arguments]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(
        argv, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def play(fleet: pathlib.Path, name: str, *arguments: str) -> int:
    """Run a playbook; how many tasks changed something."""
    recap = ansible(fleet, "ansible-playbook", str(HERE / name), *arguments)
    return int(re.findall(r"^fresh .* changed=(\d+)", recap, re.MULTILINE)[0])


def ask(fleet: pathlib.Path, module: str, arguments: str) -> dict:
    """Run one module on the host; its result."""
    return json.loads(ansible(fleet, "ansible", "all", "-m", module, "-a", arguments).partition("=> ")[2])


def facts(fleet: pathlib.Path) -> dict:
    """The one sandbox of the host."""
    return ask(fleet, "kata.hypervisor.kata_sandbox_info", "")["sandboxes"][0]


def reboot(fleet: pathlib.Path) -> None:
    """Reboot the host. All hosts share one kernel, so it is their systemd that knows when they began."""
    once = "boot_time_command='systemctl show --property=UserspaceTimestamp' reboot_timeout=60"
    ansible(fleet, "ansible", "all", "-m", "ansible.builtin.reboot", "-a", once)


def states(fleet: pathlib.Path) -> dict[str, str]:
    """The sandboxes of the host and their states."""
    found = ask(fleet, "kata.hypervisor.kata_sandbox_info", "")["sandboxes"]
    return {sandbox["id"]: sandbox["state"] for sandbox in found}


def test_from_nothing_to_a_sandbox_through_a_reboot_and_back_to_nothing(fleet: pathlib.Path) -> None:
    # What check mode foretells happens, and happens once.
    boot_before = ask(fleet, "ansible.builtin.find", "paths=/boot file_type=any")["matched"]
    assert play(fleet, "provision.yml", "-e", "wanted=present") > 0
    assert play(fleet, "provision.yml", "-e", "wanted=present") == 0
    assert play(fleet, "provision.yml", "-e", "wanted=present", "--check") == 0
    assert ask(fleet, "ansible.builtin.find", "paths=/boot file_type=any")["matched"] == boot_before

    # The VMM outlives the ssh session that started it.
    assert play(fleet, "start.yml") == 1
    assert states(fleet) == {"web": "started"}
    assert play(fleet, "start.yml") == 0

    # A host that rebooted has no VMM any more: that is seen, and repaired.
    reboot(fleet)
    assert states(fleet) == {"web": "crashed"}
    assert play(fleet, "start.yml") == 1
    assert states(fleet) == {"web": "started"}

    # With autostart it comes back by itself, with what was plugged and resized meanwhile; its guest says so. Its unit is its own.
    ask(fleet, "ansible.builtin.copy", "dest=/srv/data.img content=data mode=0600")
    disk = {"id": "data", "type": "block", "file": "/srv/data.img"}
    wanted = {"id": "web", "autostart": True, "vcpus": 2, "devices": [disk]}
    ask(fleet, "kata.hypervisor.kata_sandbox", json.dumps(wanted))
    assert not ask(fleet, "kata.hypervisor.kata_sandbox", "id=web autostart=true")["changed"]
    group = ask(fleet, "ansible.builtin.slurp", f"src=/proc/{facts(fleet)['pid']}/cgroup")["content"]
    assert "/kata.slice/kata-sandbox-web.scope" in base64.b64decode(group).decode()
    # A new VMM takes the unit's name over from the one before, though the service is there.
    assert ask(fleet, "kata.hypervisor.kata_sandbox", "id=web state=restarted wait_for='console: kata-guest: ready'")["changed"]
    reboot(fleet)
    console = {"path": "/run/kata-hypervisor/web/console.log", "search_regex": "kata-guest: ready nproc=2 ", "timeout": 60}
    ask(fleet, "ansible.builtin.wait_for", json.dumps(console))
    assert facts(fleet)["state"] == "started"
    assert [device["plugged"] for device in facts(fleet)["devices"]] == [True]
    assert ask(fleet, "kata.hypervisor.kata_sandbox", "id=web autostart=false")["changed"]
    assert states(fleet) == {"web": "started"}
    units = ask(fleet, "ansible.builtin.find", "paths=/etc/systemd/system recurse=true file_type=any patterns=kata-sandbox-*")
    assert units["files"] == []

    # A damaged kernel shows and is fetched again; one that was running went on.
    damage = "for file in /var/lib/kata-hypervisor/assets/kernels/*_*/boot/config-*; do echo evil >>$file; done"
    ansible(fleet, "ansible", "all", "-m", "ansible.builtin.shell", "-a", damage)
    assert play(fleet, "provision.yml", "-e", "wanted=present") == 1
    assert states(fleet) == {"web": "started"}

    # And all of it goes again.
    assert ask(fleet, "kata.hypervisor.kata_sandbox", "id=web state=absent")["changed"]
    assert play(fleet, "provision.yml", "-e", "wanted=absent") > 0
    assert play(fleet, "provision.yml", "-e", "wanted=absent") == 0
    places = "paths=/var/lib/kata-hypervisor,/run/kata-hypervisor,/usr/bin recurse=true"
    left = ask(fleet, "ansible.builtin.find", f"{places} patterns=vmlinuz*,*.img,qemu-system*,web")
    assert left["files"] == []
