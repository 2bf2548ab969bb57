# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest of the collection's own initrd, which has no cloud-init, applies the same seed. All that is asserted is what the guest sees."""

from __future__ import annotations

from typing import Any

from tests.support.qemu_lab import QemuLab

ONE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP0p6AqC0x1k9i2g7Wm4t1S4v5n1c2Qm3l0bq2x9y9zW one@example.org"
KEYS = [ONE, 'from="10.0.0.0/8",command="echo $HOME \\"quoted\\"" ' + ONE.replace("IP0p", "IL0p")]
SCRIPT = '#!/bin/sh\necho "proof: the script runs as $(id -u) on $(hostname)"\nexit 3\n'
DONE = {"console": "the user script ended with exit code", "timeout": 180}


def start(lab: QemuLab, **options: Any) -> None:
    lab.start(**{"network": "user", "hostname": "web-1.example.org", "ssh_keys": KEYS, "wait_for": DONE, **options})


def test_name_keys_address_and_script(lab: QemuLab) -> None:
    start(lab, user_data=SCRIPT)
    assert "proof: the script runs as 0 on web-1" in lab.console()
    assert "the user script ended with exit code 3" in lab.console()
    guest = lab.shell()
    assert guest.run("hostname") == "web-1"
    assert guest.run("hostname -f") == "web-1.example.org"
    assert guest.run("cat /root/.ssh/authorized_keys").splitlines() == KEYS
    assert guest.run("stat -c %a /root/.ssh /root/.ssh/authorized_keys").split() == ["700", "600"]
    assert "inet 10.0.2.15/24" in guest.run("ip address show dev eth0")
    assert "default via 10.0.2.2 dev eth0" in guest.run("ip route")
    assert "nameserver 10.0.2.3" in guest.run("cat /etc/resolv.conf")
    # What may be secret is root's alone in the guest too.
    assert guest.run("stat -c %a /run/kata-identity/user-data") == "600"


def test_a_fixed_address_and_user_data_that_only_cloud_init_knows(lab: QemuLab) -> None:
    interface = {
        "addresses": ["10.0.2.77/24", "fd00:77::5/64"],
        "gateway4": "10.0.2.2",
        "nameservers": {"addresses": ["10.0.2.3"], "search": ["web.internal"]},
    }
    start(
        lab,
        user_data={"packages": ["nginx"]},
        network_config={"version": 2, "ethernets": {"eth0": interface}},
        wait_for={"console": "the user data is not a script", "timeout": 180},
    )
    guest = lab.shell()
    found = guest.run("ip address show dev eth0")
    assert "inet 10.0.2.77/24" in found and "10.0.2.15" not in found
    assert "inet6 fd00:77::5/64" in found
    assert "default via 10.0.2.2 dev eth0" in guest.run("ip route")
    assert guest.run("cat /etc/resolv.conf").splitlines() == ["nameserver 10.0.2.3", "search web.internal"]
    assert guest.run("cat /etc/hostname") == "web-1"


def test_a_guest_without_a_seed_is_as_before(lab: QemuLab) -> None:
    lab.start()
    guest = lab.shell()
    assert guest.run("hostname") == "(none)"
    assert guest.attempt("ls /run/kata-identity")[0] != 0
