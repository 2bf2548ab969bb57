# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ordinary guests under a real Firecracker, in jails: a kernel of Debian's and our initrd, which tell what they see.

KATA_TEST_FIRECRACKER and KATA_TEST_JAILER name the binaries. The tests of one guest build on each other, so that it boots once.
"""

from __future__ import annotations

import io
import os
import pathlib
import subprocess
import sys
import time
from typing import Any, Callable, Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.guests import guest_channel
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks.management import converge_network
from tests.integration.firecracker.test_driver import (
    test_a_guest_shuts_down_by_itself,
    test_a_paused_guest_shuts_down_by_itself,
    test_memory_up_and_down,
)
from tests.integration.firecracker.test_faults import (
    test_more_metadata_than_usual,
    test_plugged_memory_goes_where_it_can_be_given_back,
)
from tests.integration.firecracker.test_options import test_a_balloon_up_and_down
from tests.support.checkout import ROOT
from tests.support.firecracker_lab import FirecrackerGuestLab
from tests.support.hardware_host import Files
from tests.support.lab import removed_afterwards
from tests.support.network_lab import Namespace, ip
from tests.support.stand_ins import REAL_FIRECRACKER, REAL_JAILER
from tests.support.waiting import wait_until

#: Tests of tests/integration/firecracker that a stand-in passes, here with a guest.
__all__ = [
    "test_a_balloon_up_and_down",
    "test_a_guest_shuts_down_by_itself",
    "test_a_paused_guest_shuts_down_by_itself",
    "test_memory_up_and_down",
    "test_more_metadata_than_usual",
    "test_plugged_memory_goes_where_it_can_be_given_back",
]
pytestmark = pytest.mark.skipif(
    not REAL_FIRECRACKER or not REAL_JAILER, reason="KATA_TEST_FIRECRACKER and KATA_TEST_JAILER name no binaries"
)
SHARE = pathlib.Path(os.environ.get("KATA_HARDWARE_SHARE", ""))
PATIENCE = FirecrackerGuestLab.PATIENCE
HOST, WORLD = "198.51.100.1", "198.51.100.2"
MIB = 1 << 20
BALLOON = {"id": "balloon", "type": "balloon", "size_mb": 0, "deflate_on_oom": True, "stats_seconds": 1}
CARD = {"id": "card", "type": "net", "kind": "tap", "mac": "52:54:00:00:20:00"}
METADATA = {"id": "facts", "type": "mmds", "interfaces": ["card"], "version": "V1", "contents": {"color": "green"}}
DEVICES = [BALLOON, CARD, METADATA]
BIN = pathlib.Path(sys.executable).parent


def laboratory(initrd: str, **options: Any) -> FirecrackerGuestLab:
    if not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        subprocess.run(["mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"], check=True)
    return FirecrackerGuestLab(SHARE / Files.UNCOMPRESSED, SHARE / initrd, **options)


@pytest.fixture
def lab() -> Iterator[FirecrackerGuestLab]:
    """Sandboxes for a test that was written for stand-ins."""
    with removed_afterwards(laboratory(Files.GUEST)) as made:
        yield made


@pytest.fixture
def plain(lab: FirecrackerGuestLab) -> FirecrackerGuestLab:
    """They are in jails too."""
    return lab


class Guest:
    """One guest that all tests of it use, and what it sees."""

    def __init__(self, lab: FirecrackerGuestLab, world: Namespace) -> None:
        self.lab, self.world = lab, world
        self.devices: list[dict[str, Any]] = list(DEVICES)

    def run(self, **options: Any) -> dict[str, Any]:
        """Run a task about its devices or other options."""
        result: dict[str, Any] = self.lab.run(**{"devices": self.devices, **options})
        return result

    def sees(self, command: str) -> str:
        """What a command prints in the guest, run through the agent and the data channel."""
        output, errors = bytearray(), bytearray()
        with guest_channel(self.lab.spec(), PATIENCE, self.lab.factory) as channel:
            code = channel.run(command.encode(), io.BytesIO(), 0, output.extend, errors.extend)
        assert code == 0, (command, bytes(output), bytes(errors))
        return output.decode().strip()

    def comes_to_see(self, command: str, fits: Callable[[str], bool]) -> None:
        seen = []

        def fitting() -> bool:
            seen.append(self.sees(command))
            return fits(seen[-1])

        try:
            wait_until(fitting, f"{command} in the guest", PATIENCE)
        except AssertionError as late:
            raise AssertionError(f"{late}: {seen[-1]}") from late

    def serves_its_page(self) -> None:
        """Wait until the world gets the page of the guest by the published port."""
        said = [""]

        def served() -> bool:
            said[0] = self.world.run("wget", "-qO-", "-T", "5", "-t", "1", f"http://{HOST}:8080/", check=False)
            return "page of oak" in said[0]

        try:
            wait_until(served, "the page by the published port", PATIENCE / 5)
        except AssertionError as late:
            rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=False).stdout
            raise AssertionError(f"{late}: {said[0]}\n{rules}") from late

    def card(self, mac: str) -> str:
        """The name that the guest has given to an interface."""
        return self.sees(f"grep -lix {mac} /sys/class/net/*/address").split("/")[4]

    def memory_mb(self) -> int:
        return int(self.sees("awk '/^MemTotal/ {print $2}' /proc/meminfo")) >> 10


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    world = Namespace("world")
    ip("link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", world.name)
    ip("address", "add", f"{HOST}/24", "dev", "uplink")
    ip("link", "set", "uplink", "up")
    world.ip("address", "add", f"{WORLD}/24", "dev", "eth0")
    world.ip("link", "set", "eth0", "up")
    options = {"memory_mb": 256, "max_memory_mb": 640, "placeholder_drives": 1, "devices": DEVICES}
    with removed_afterwards(laboratory(Files.AGENT, **options)) as lab:
        state = lab.directories()["state_dir"]
        converge_network("lab", {"subnet": "10.9.0.0/24"}, state)
        lab.start(network="lab", ports=["8080:80"], hostname="oak")
        lab.run(wait_for={"agent": True, "timeout": PATIENCE})
        yield Guest(lab, world)
        lab.run(state="absent", stop_timeout=0)
        converge_network("lab", {}, state, present=False)


def test_commands_run_in_the_guest(guest: Guest) -> None:
    """What they print, their exit code, and what the agent tells."""
    assert guest.sees("hostname") == "oak"
    told: dict[str, Any] = {}

    def agent_tells() -> bool:
        told.update(guest.lab.facts().get("guest", {}))
        return "os" in told and told["host_name"] == "oak"

    wait_until(agent_tells, "what the agent tells", PATIENCE)
    assert guest.sees("uname -r") == told["os"]["kernel-release"] == os.uname().release
    data = os.urandom(300_001)
    output = bytearray()
    with guest_channel(guest.lab.spec(), PATIENCE, guest.lab.factory) as channel:
        assert channel.run(b"cat; exit 7", io.BytesIO(data), len(data), output.extend, output.extend) == 7
    assert bytes(output) == data


def test_a_play_enters_the_guest(guest: Guest, tmp_path: pathlib.Path) -> None:
    """The module for commands, and the connection of a guest."""
    places = guest.lab.directories()
    inventory = tmp_path / "hosts"
    inventory.write_text(
        "web ansible_connection=kata.hypervisor.sandbox kata_sandbox_id=web"
        f" kata_sandbox_state_dir={places['state_dir']} kata_sandbox_run_dir={places['run_dir']}"
        f" kata_sandbox_connection_timeout={PATIENCE:.0f}\n"
    )
    for words in (
        ["web", "-i", str(inventory), "-m", "ansible.builtin.raw", "-a", "hostname"],
        [
            "localhost",
            "-m",
            "kata.hypervisor.kata_exec",
            "-a",
            f"ids=web cmd=hostname connect_timeout={PATIENCE} state_dir={places['state_dir']} run_dir={places['run_dir']}",
        ],
    ):
        environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(
            [str(BIN / "ansible"), *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 and "oak" in done.stdout, done.stdout + done.stderr


def test_a_published_port_leads_to_the_guest(guest: Guest) -> None:
    network = guest.lab.facts()["network"]
    look = f"ip -4 -o address show {guest.card(network['mac'])}"
    guest.comes_to_see(look, lambda seen: f" {network['address']}/24 " in seen)
    guest.sees("mkdir -p /www && echo page of $(hostname) >/www/index.html && httpd -h /www")

    guest.serves_its_page()


def test_metadata_reach_the_guest(guest: Guest) -> None:
    # The card of the metadata is none of the network's, so it has no address yet.
    card = guest.card(CARD["mac"])
    guest.sees(f"ip link set {card} up; ip address add 169.254.1.1/16 dev {card}")
    ask = "wget -qO- http://169.254.169.254/color"
    guest.comes_to_see(f"{ask} || true", lambda seen: "green" in seen)
    guest.devices = [BALLOON, CARD, {**METADATA, "contents": {"color": "blue"}}]
    assert guest.run()["changed"]
    assert guest.sees(ask) == "blue"


def test_memory_grows_and_shrinks(guest: Guest) -> None:
    small = guest.memory_mb()
    for size in (512, 256):
        assert guest.run(memory_mb=size)["sandbox"]["memory_mb"] == size
        guest.comes_to_see("true", lambda _seen, size=size: abs(guest.memory_mb() - small - size + 256) < 16)


def test_a_balloon_takes_memory_and_gives_it_back(guest: Guest) -> None:
    free = "awk '/^MemAvailable/ {print int($2 / 1024)}' /proc/meminfo"
    before = int(guest.sees(free))
    for size in (64, 0):
        guest.devices[0] = {**BALLOON, "size_mb": size}
        assert guest.run()["actions"] == ["change balloon balloon"]
        assert guest.lab.facts()["balloon"]["actual_mb"] == size
        guest.comes_to_see(free, lambda seen, size=size: abs(before - int(seen) - size) < 24)


def test_a_disk_is_plugged_grown_written_and_unplugged(guest: Guest) -> None:
    file = pathlib.Path(guest.lab.file("data", 8 * MIB))
    file.write_bytes(b"from the host".ljust(8 * MIB, b"\0"))
    disk = {"id": "data", "type": "block", "file": str(file)}
    sizes = "cat /sys/block/vd*/size"
    before = guest.sees(sizes).split()
    guest.devices = [*guest.devices, disk]
    guest.run()
    guest.comes_to_see(sizes, lambda seen: str(8 * MIB // 512) in seen.split())
    name = guest.sees(f"grep -lx {8 * MIB // 512} /sys/block/vd*/size").split("/")[3]
    assert guest.sees(f"head -c 13 /dev/{name}") == "from the host"
    guest.sees(f"printf 'from the guest' | dd of=/dev/{name} conv=fsync 2>/dev/null")
    assert file.read_bytes().startswith(b"from the guest")
    guest.devices.remove(disk)
    guest.run()
    guest.comes_to_see(sizes, lambda seen: seen.split() == before)


def test_what_was_saved_goes_on(guest: Guest) -> None:
    """The same boot, what was in memory, the agent, and the network."""
    boot = guest.sees(
        "cat /proc/sys/kernel/random/boot_id; echo kept >/run/kept; (sleep 1000000; true) & echo $! >/run/pid"
    )
    guest.run(state="saved")
    guest.run(state="started", wait_for={"agent": True, "timeout": PATIENCE})
    assert guest.sees("cat /proc/sys/kernel/random/boot_id") == boot
    assert guest.sees("cat /run/kept; kill -0 $(cat /run/pid) && echo lives") == "kept\nlives"
    assert guest.sees("wget -qO- http://169.254.169.254/color") == "blue"
    guest.serves_its_page()
    # Firecracker advances the clock by the time that it was saved.
    guest.comes_to_see("date +%s", lambda seen: abs(time.time() - int(seen)) < 60)


def test_volumes_and_a_disk_on_the_pci_bus(lab: FirecrackerGuestLab) -> None:
    """A volume is seen from the start and grows; a disk is seen after the guest has looked at its bus again."""
    volume = {"name": "ashes", "size_mb": 8}
    lab.options["initrd_path"] = str(SHARE / Files.AGENT)
    lab.options["memory_mb"] = 256
    lab.start(enable_pci=True, volumes=[volume])
    lab.run(wait_for={"agent": True, "timeout": PATIENCE})
    guest = Guest(lab, Namespace("nobody"))
    sizes = "cat /sys/block/vd*/size"
    assert guest.sees(sizes) == str(8 * MIB // 512)
    lab.run(volumes=[{**volume, "size_mb": 12}])
    guest.comes_to_see(sizes, lambda seen: seen == str(12 * MIB // 512))
    disk = {"id": "data", "type": "block", "file": lab.file("data", 4 * MIB)}
    lab.run(devices=[disk])
    guest.sees("echo 1 >/sys/bus/pci/rescan")
    guest.comes_to_see(sizes, lambda seen: sorted(seen.split()) == sorted([str(12 * MIB // 512), str(4 * MIB // 512)]))
