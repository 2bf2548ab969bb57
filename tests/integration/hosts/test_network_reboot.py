# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with systemd: the role creates a network, a reboot restores it without Ansible, and systemd starts dnsmasq again."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.checkout import ROOT
from tests.support.network_lab import Namespace, ip
from tests.support.waiting import wait_until

FLEET = ROOT / "tests/hosts/fleet.py"
BIN = pathlib.Path(sys.executable).parent
SUBNET = "10.61.0.0/24"
MAC, TAP = "52:54:00:12:34:56", "kh-guest"
UNIT, DNSMASQ = "kata-network@default.service", "kata-network-default-dnsmasq.service"

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("systemd-nspawn") or not shutil.which("mmdebstrap"),
    reason="needs root, systemd-nspawn and mmdebstrap",
)

#: Gives a sandbox a lease, with the program that the host has for its boot. A task about a sandbox does the same.
LEASE = f"""
import glob, sys
sys.path.insert(0, glob.glob("/var/lib/kata-hypervisor/lib/*/kata-network.pyz")[0])
from ansible_collections.kata.hypervisor.plugins.module_utils.options.network_options import parse_ports
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks import boot, lease, store
network = store.open_network("default", "/var/lib/kata-hypervisor")
request = lease.LeaseRequest("web", "web", "{TAP}", "{MAC}", ports=parse_ports(["8080:80"]))
with store.networks_lock():
    store.save_lease(network, lease.leased(request, network.definition, "10.61.0.77", ""))
print(boot.bring_up("default", "/var/lib/kata-hypervisor"))
"""


class Host:
    """The host of the test, and the rest of the world for it."""

    def __init__(self, work: pathlib.Path, fleet: pathlib.Path) -> None:
        self.work = work
        self.inventory = fleet / "inventory.yml"
        names = [line.split()[0] for line in ip("netns").splitlines()]
        prefix = f"fleet-{fleet.stat().st_ino}-"
        self.world = Namespace(f"{prefix}0", existing=True)
        self.namespace = Namespace(f"{prefix}red", existing=True)
        assert {self.world.name, self.namespace.name} <= set(names)
        variables = json.loads(self.inventory.read_text())["all"]
        self.ssh = [
            "ssh",
            "-i",
            variables["vars"]["ansible_ssh_private_key_file"],
            *variables["vars"]["ansible_ssh_common_args"].split(),
            f"root@{variables['hosts']['red']['ansible_host']}",
        ]

    def run(self, command: str, check: bool = True, **options: str) -> str:
        """Run a command on the host, by ssh."""
        done = subprocess.run([*self.ssh, command], capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
        assert not check or not done.returncode, done.stdout + done.stderr
        return str(done.stdout)

    def play(self, networks: list[dict[str, str]], *arguments: str, **variables: str) -> int:
        """Run the role. Returns how many tasks changed something."""
        playbook = self.work / "play.yml"
        role = {"role": "kata.hypervisor.kata_network", "kata_network_networks": networks, **variables}
        playbook.write_text(json.dumps([{"hosts": "all", "roles": [role]}]))
        done = subprocess.run(
            [str(BIN / "ansible-playbook"), "-i", str(self.inventory), *arguments, str(playbook)],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        changed = re.search(r"changed=(\d+)", done.stdout)
        assert changed
        return int(changed[1])

    def guest(self) -> Namespace:
        """A guest on the bridge, with the MAC address of the lease and no address yet."""
        made = Namespace(f"{self.namespace.name}-guest")
        self.namespace.ip(
            "link", "add", TAP, "type", "veth", "peer", "name", "eth0", "address", MAC, "netns", made.name
        )
        self.namespace.ip("link", "set", TAP, "master", "kata-default", "up")
        made.ip("link", "set", "eth0", "up")
        made.wait_for_link("eth0")
        return made


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Iterator[Host]:
    """One host."""
    directory = tmp_path / "fleet"
    subprocess.run([sys.executable, str(FLEET), "up", str(directory), "red"], check=True)
    try:
        yield Host(tmp_path, directory)
    finally:
        subprocess.run([sys.executable, str(FLEET), "down", str(directory)], check=True)
    # Nothing of it was on this machine's network, and nothing is left.
    assert not re.search(r"198\.51\.100|10\.61\.0|kata-default|kh-guest|fleet", ip("route") + ip("-br", "link"))
    assert not directory.exists()


def is_reached(host: Host, tmp_path: pathlib.Path) -> None:
    """A guest gets its address by DHCP, and the world reaches its web server by the published port."""
    guest = host.guest()
    try:
        script = tmp_path / "dhcp"
        script.write_text(
            '#!/bin/sh\n[ "$1" = bound ] || exit 0\nip address add "$ip/$mask" dev eth0\nip route add default via "$router"\n'
        )
        script.chmod(0o755)
        guest.run("busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-t", "20", "-T", "1", "-s", str(script))
        guest.serve("10.61.0.77", 80)
        assert host.world.ask("198.51.100.2", 8080) == "198.51.100.1"
        host.world.serve("198.51.100.1", 7000)
        assert guest.ask("198.51.100.1", 7000) == "198.51.100.2"
        answer = guest.run("busybox", "nslookup", "web.default.internal", "10.61.0.1")
        assert "10.61.0.77" in answer
    finally:
        for process in host.world.servers.values():
            process.kill()
            process.wait()
        host.world.servers.clear()
        guest.remove()


def test_a_reboot_restores_the_network(host: Host, tmp_path: pathlib.Path) -> None:
    networks = [{"name": "default", "subnet": SUBNET}]
    before = host.run("ls -A /etc/systemd/system /var/lib")
    assert host.play(networks, "--check") > 0
    assert host.run("ls -A /etc/systemd/system /var/lib") == before
    assert host.play(networks) == 2
    assert host.play(networks) == 0
    assert host.run(f"systemctl is-active {UNIT} {DNSMASQ}").split() == ["active", "active"]
    host.run(f"python3 - <<'END'\n{LEASE}\nEND")
    is_reached(host, tmp_path)

    # systemd starts dnsmasq again, and its unit restores what others removed.
    pid = host.run(f"systemctl show -p MainPID --value {DNSMASQ}")
    host.run(f"kill -9 {pid}")
    wait_until(
        lambda: host.run(f"systemctl is-active {DNSMASQ}", check=False).strip() == "active", "dnsmasq runs again"
    )
    assert host.run(f"systemctl show -p MainPID --value {DNSMASQ}") != pid
    host.run(f"nft flush ruleset; systemctl restart {UNIT}")
    is_reached(host, tmp_path)

    boot = host.run("systemctl show -p UserspaceTimestampMonotonic --value")
    host.run("systemctl reboot", check=False)
    wait_until(
        lambda: (
            host.run("systemctl show -p UserspaceTimestampMonotonic --value", check=False).strip()
            not in ("", boot.strip())
        ),
        "the host boots again",
    )
    wait_until(lambda: host.run(f"systemctl is-active {DNSMASQ}", check=False).strip() == "active", "the network is up")
    host.run(f"systemctl is-active {UNIT}")
    is_reached(host, tmp_path)
    assert host.play(networks) == 0

    assert host.play(networks, kata_network_state="absent") == 1
    assert host.run("ls -A /etc/systemd/system /var/lib").replace("kata-hypervisor\n", "") == before
    assert host.run("find /var/lib/kata-hypervisor /run/kata-hypervisor/.networks -type f").split() == [
        "/run/kata-hypervisor/.networks/lock"
    ]
    assert host.run("nft list ruleset; ls /sys/class/net").split() == ["eth0", "lo"]
    assert DNSMASQ not in host.run("systemctl list-units --all --no-legend --plain")
