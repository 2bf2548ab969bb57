# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real guests of QEMU in a network of the host: what they see, who reaches them, and what stays when they are restarted or removed."""

from __future__ import annotations

import pathlib
from typing import Any, Callable, Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.batch import converge_many
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.converge import converge
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, HypervisorError
from ansible_collections.kata.hypervisor.plugins.module_utils.host.network import tap_name
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import parse_spec
from ansible_collections.kata.hypervisor.plugins.module_utils.records.layout import SandboxLayout
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks.management import converge_network
from tests.support.firecracker_lab import FirecrackerLab
from tests.support.guest_assets import Assets
from tests.support.network_lab import WORLD, NetworkLab, network_lab
from tests.support.stand_ins import JAILER
from tests.support.waiting import wait_until

SERVE = "#!/bin/sh\nmkdir -p /www\necho page of $(hostname) >/www/index.html\nhttpd -h /www\necho serving\n"
#: Asks for a page by the server's name, for one of the world, and for one that is denied.
ASK = f"""#!/bin/sh
echo "by name: $(wget -qO- http://web.lab.internal/ 2>&1)"
echo "world: $(nc -w 5 {WORLD} 8000 </dev/null 2>&1)"
echo "asked"
"""


class Guests:
    """Sandboxes of one host of the laboratory."""

    def __init__(self, net: NetworkLab, assets: Assets) -> None:
        self.net = net
        self.options = {
            "hypervisor": "qemu",
            "kernel_path": str(assets.kernel),
            "initrd_path": str(assets.initrd),
            "memory_mb": 128,
            "vcpus": 1,
            "accelerator": "tcg",
        }
        self.network()

    def network(self, state: str = "present") -> dict[str, Any]:
        options = {"subnet": "10.9.0.0/24", "subnet6": "fd00:9::/64"} if state == "present" else {}
        present = state == "present"
        result: dict[str, Any] = self.net.on_host(
            lambda: converge_network("lab", options, self.net.state_root, present=present, force=False, check=False)
        )
        return result

    def run(self, sandbox: str, check: bool = False, **options: Any) -> dict[str, Any]:
        spec = parse_spec({"id": sandbox, "state_dir": self.net.state_root, "stop_timeout": 0, **options})
        result: dict[str, Any] = self.net.on_host(lambda: converge(spec, check))
        return result

    def start(self, sandbox: str, check: bool = False, **options: Any) -> dict[str, Any]:
        return self.run(sandbox, check, **{**self.options, "network": "lab", **options})

    def console(self, sandbox: str) -> str:
        path = self.net.place / "run" / "kata-hypervisor" / sandbox / "console.log"
        return path.read_bytes().decode("utf-8", "replace")

    def fetch(self, url: str) -> Callable[[], bool]:
        """Whether the world gets a page of web by a URL."""
        return lambda: "page of web" in self.net.world.run("wget", "-qO-", "-T", "2", "-t", "1", url, check=False)


@pytest.fixture
def guests(tmp_path: pathlib.Path, assets: Assets) -> Iterator[Guests]:
    with network_lab(tmp_path) as net:
        made = Guests(net, assets)
        yield made
        for sandbox in ("web", "client", "other"):
            made.run(sandbox, state="absent")


def test_a_web_server_and_its_clients(guests: Guests) -> None:
    """By name from another guest, through the published port from outside, out by NAT; the same after a restart; and nothing stays."""
    clean = guests.net.host_state()
    guests.net.world.serve(WORLD, 8000)
    check = guests.start("web", True, user_data=SERVE, ports=["8080:80"])
    assert "web" not in guests.net.host_state()["state"]
    web = guests.start("web", user_data=SERVE, ports=["8080:80"], wait_for={"console": "serving", "timeout": 300})
    assert check["actions"] == web["actions"] and check["diff"] == web["diff"]
    network = web["sandbox"]["network"]
    assert network["name"] == "web.lab.internal"
    client = guests.start("client", user_data=ASK, wait_for={"console": "asked", "timeout": 300})
    said = guests.console("client")
    assert "by name: page of web" in said
    # The world sees the host's address, not the guest's.
    assert "world: 198.51.100.1" in said
    wait_until(guests.fetch("http://198.51.100.1:8080/"), "the world gets the page through the published port")
    # The host resolves the name as the guests do.
    assert network["address"] in guests.net.host.run("nslookup", "web.lab.internal", "10.9.0.1")

    moved = guests.run("web", ports=["8081:80"])
    assert moved["actions"] == ["update the rules of network lab", "set ports 8080:80 -> 8081:80"]
    wait_until(guests.fetch("http://198.51.100.1:8081/"), "the world gets the page through the new port")
    assert not guests.fetch("http://198.51.100.1:8080/")()

    restarted = guests.run("web", state="restarted", wait_for={"console": "serving", "timeout": 300})
    assert restarted["sandbox"]["network"] == {**network, "ports": ["8081:80"]}
    wait_until(guests.fetch("http://198.51.100.1:8081/"), "the world gets the page after a restart")

    for sandbox, address in (("web", network["address"]), ("client", client["sandbox"]["network"]["address"])):
        addresses = f"{address} and {guests.run(sandbox)['sandbox']['network']['address6']}"
        assert address in addresses
        assert guests.run(sandbox, state="absent")["actions"] == ["stop", f"remove with its address {address}"]
    assert guests.net.host_state()["rules"] == clean["rules"]
    assert guests.net.host_state()["links"] == clean["links"]


def test_egress_that_is_denied_and_a_guest_that_is_cut_off(guests: Guests) -> None:
    guests.net.world.serve(WORLD, 8000)
    guests.start("web", user_data=SERVE, isolated=True, wait_for={"console": "serving", "timeout": 300})
    guests.start("client", user_data=ASK, egress="none", wait_for={"console": "asked", "timeout": 300})
    said = guests.console("client")
    assert "page of web" not in said
    assert "198.51.100.1" not in said
    assert "asked" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"address": "10.10.0.7"}, "10.9.0.0/24"),
        ({"address": "10.9.0.1"}, "10.9.0.1"),
        ({"network": "nowhere"}, "must be a network of the host: lab"),
        ({"ports": ["8000:80"]}, "8000"),
    ],
)
def test_bad_input_changes_nothing(guests: Guests, options: dict[str, Any], message: str) -> None:
    guests.net.host.serve("198.51.100.1", 8000)
    before = guests.net.host_state()
    for check in (True, False):
        with pytest.raises(ConfigError, match=message):
            guests.start("web", check, **options)
    assert guests.net.host_state() == before


def test_an_address_and_a_port_belong_to_one_sandbox(guests: Guests) -> None:
    mock = {"hypervisor": "mock"}
    first = guests.start("web", ports=["8080:80"], **mock)["sandbox"]["network"]
    for options in ({"address": first["address"]}, {"ports": ["127.0.0.1:8080:80"]}):
        with pytest.raises(ConfigError, match="web"):
            guests.start("other", **options, **mock)
    with pytest.raises(HypervisorError, match="web"):
        guests.network("absent")


def test_fifty_sandboxes_at_once_have_addresses_of_their_own(guests: Guests) -> None:
    options = {**guests.options, "hypervisor": "mock", "network": "lab", "state_dir": guests.net.state_root}
    names = [f"s{number}" for number in range(50)]
    specs = [parse_spec({**options, "id": name, "ports": [f"{9000 + place}:80"]}) for place, name in enumerate(names)]
    results = guests.net.on_host(lambda: converge_many(specs))
    assert [result["msg"] for result in results if result.get("failed")] == []
    assert len({result["sandbox"]["network"]["address"] for result in results}) == 50
    rules = guests.net.host_state()["rules"]
    assert all(f"dport {9000 + place} dnat" in rules for place in range(50))
    again = guests.net.on_host(lambda: converge_many(specs))
    assert not any(result["changed"] for result in again)
    absent = [parse_spec({"id": name, "state": "absent", "state_dir": guests.net.state_root}) for name in names]
    assert not [one for one in guests.net.on_host(lambda: converge_many(absent)) if one.get("failed")]
    assert "dport 9000" not in guests.net.host_state()["rules"]


def test_a_network_that_is_down_is_set_up_by_the_next_start(guests: Guests) -> None:
    """As after a reboot of a host without systemd: bridge, rules and dnsmasq are gone, and the definition and the leases are there."""
    lease = guests.start("web", ports=["8080:80"], state="stopped")["sandbox"]["network"]
    guests.net.host.run("sh", "-c", "pkill -F /run/kata-hypervisor/.networks/*/dnsmasq.pid", check=False)
    guests.net.host.ip("link", "delete", "kata-lab")
    guests.net.host.run("nft", "flush", "ruleset")
    check = guests.run("web", True, state="started")
    result = guests.run("web", state="started")
    assert check["actions"] == result["actions"] == ["update the rules of network lab", "start"]
    assert result["sandbox"]["network"] == lease
    assert "kata-lab" in guests.net.host_state()["links"]
    assert "dport 8080" in guests.net.host_state()["rules"]


@pytest.mark.parametrize("jail", [False, True], ids=["plain", "jailed"])
def test_a_firecracker_has_an_address_and_a_port(guests: Guests, jail: bool) -> None:
    """The stand-in runs no guest: what it attaches, and what the host has for it, is what can be seen."""
    lab = FirecrackerLab(jail)
    options = {**lab.options, "jailer_path": JAILER} if jail else lab.options
    guests.options = {"hypervisor": "firecracker", "supervisor": "none", **options}
    try:
        network = guests.start("web", ports=["8080:80"], user_data=SERVE)["sandbox"]["network"]
        tap = tap_name(SandboxLayout("web", guests.net.state_root).host_name, "network")
        link = guests.net.host.run("ip", "-d", "link", "show", tap)
        assert "master kata-lab" in link
        rules = guests.net.host_state()["rules"]
        assert tap in rules and network["mac"] in rules
        assert f"dport 8080 dnat ip to {network['address']}:80" in rules
        assert not guests.start("web", ports=["8080:80"], user_data=SERVE)["changed"]
        assert guests.run("web", state="restarted")["sandbox"]["network"] == network
        guests.run("web", state="absent")
        state = guests.net.host_state()
        assert tap not in state["links"]
        assert network["mac"] not in state["rules"]
    finally:
        guests.run("web", state="absent")
        lab.destroy()
