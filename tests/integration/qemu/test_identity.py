# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest of the collection's own initrd, which has no cloud-init, applies the same seed. All that is asserted is what the guest sees."""

from __future__ import annotations

import pathlib
import shutil
import socket
import subprocess
from typing import Any

import pytest

from tests.support.packages_image import packages_image
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


def test_a_guest_of_packages_whose_root_file_system_is_read_only(lab: QemuLab, tmp_path: pathlib.Path) -> None:
    """systemd applies the seed, and the key opens the ssh server through a published port."""
    if not shutil.which("mmdebstrap") or not shutil.which("ssh"):
        pytest.skip("mmdebstrap or ssh is not here")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    start(
        lab,
        image_path=str(packages_image()),
        initramfs_path=str(lab.assets.initrd),
        kernel_params=[],
        memory_mb=384,
        ssh_keys=[key.with_suffix(".pub").read_text()],
        user_data=SCRIPT.replace("exit 3", ""),
        ports=[f"127.0.0.1:{port}:22"],
        wait_for={"cloud_init": True, "timeout": 600},
    )
    assert "proof: the script runs as 0 on web-1" in lab.console()
    lab.run(wait_for={"ssh": True, "timeout": 300})
    command = "hostname -f; ip -o -4 address show dev eth0; findmnt -no OPTIONS /; cat /etc/hostname; systemctl is-system-running"
    ssh = [
        "ssh",
        "-i",
        str(key),
        "-p",
        port,
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        f"UserKnownHostsFile={tmp_path}/known",
    ]
    words = [*ssh, "-o", "BatchMode=yes", "-o", "ConnectTimeout=120", "root@127.0.0.1", command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    name, address, options, short, _state = done.stdout.splitlines()
    assert (name, short) == ("web-1.example.org", "web-1"), done.stderr
    assert "inet 10.0.2.15/24" in address
    assert options.split(",")[0] == "ro"


def test_a_guest_without_a_seed_is_as_before(lab: QemuLab) -> None:
    lab.start()
    guest = lab.shell()
    assert guest.run("hostname") == "(none)"
    assert guest.attempt("ls /run/kata-identity")[0] != 0
