# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What guests of a network reach, and what reaches them. Guests are network namespaces on the bridge; all traffic is real."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks import service, store
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks.definition import Network
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks.lease import Lease
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks.leases import put_leases
from tests.support.network_lab import HOST, HOST6, OTHER, OTHER6, WORLD, WORLD6, Namespace, NetworkLab

SUBNET6 = "fd00:9::/64"
#: What a guest sees of a destination that egress rules do not allow. The kernel limits how often it sends the ICMP answer for UDP.
DENIED = ("ConnectionRefusedError", "timeout")


#: On hosts with docker, frames between ports of a bridge pass the rules for routed packets too.
both_ways = pytest.mark.parametrize("net", [False, True], indirect=True, ids=["bridge", "br_netfilter"])


def set_up(net: NetworkLab, network: Network) -> None:
    """Create a network on the host."""

    def work() -> None:
        with store.networks_lock():
            store.save_definition(network)
            service.apply(network, [])

    net.on_host(work)


def started(net: NetworkLab, network: Network, **requests: dict[str, Any]) -> dict[str, tuple[Lease, Namespace]]:
    """Guests by name, each with its lease."""
    leases = net.on_host(lambda: put_leases(network, [net.request(name, **one) for name, one in requests.items()]))
    return {lease.id: (lease, net.guest(lease)) for lease in leases}


@pytest.fixture
def network(net: NetworkLab) -> Network:
    """A network with IPv4 and IPv6."""
    made = net.network(subnet6=SUBNET6)
    set_up(net, made)
    return made


def test_a_guest_reaches_the_world_by_nat(net: NetworkLab, network: Network) -> None:
    _lease, guest = started(net, network, web={})["web"]
    for kind in ("tcp", "udp"):
        net.world.serve(WORLD, 7000, kind)
        net.world.serve(WORLD6, 7000, kind)
        assert guest.ask(WORLD, 7000, kind) == HOST
        assert guest.ask(WORLD6, 7000, kind) == HOST6


@both_ways
def test_guests_reach_each_other(net: NetworkLab, network: Network) -> None:
    guests = started(net, network, a={}, b={})
    lease, b = guests["b"]
    for address in (lease.ipv4, lease.ipv6):
        b.serve(address, 80)
        assert guests["a"][1].ask(address, 80) == (guests["a"][0].ipv4 if "." in address else guests["a"][0].ipv6)


@both_ways
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_published_port_leads_to_its_guest(net: NetworkLab, network: Network, kind: str) -> None:
    guests = started(net, network, web={"ports": [f"8080:80/{kind}"]}, other={})
    lease, guest = guests["web"]
    guest.serve(lease.ipv4, 80, kind)
    guest.serve(lease.ipv6, 80, kind)
    # From outside the guest sees who asks.
    assert net.world.ask(HOST, 8080, kind) == WORLD
    assert net.world.ask(HOST6, 8080, kind) == WORLD6
    # From the host itself: by any of its addresses.
    assert net.host.ask(HOST, 8080, kind) == HOST
    assert net.host.ask("127.0.0.1", 8080, kind) == lease.gateway
    assert net.host.ask(HOST6, 8080, kind) == HOST6
    # From another guest, by the host's address.
    assert guests["other"][1].ask(HOST, 8080, kind) == lease.gateway
    # The host's port that is not published, and the guest's port from outside.
    assert net.world.ask(HOST, 80, kind) == "ConnectionRefusedError"
    net.world.ip("route", "add", network.definition.subnet, "via", HOST)
    assert net.world.ask(lease.ipv4, 80, kind) == "timeout"


def test_a_guest_reaches_its_own_published_port(net: NetworkLab, network: Network) -> None:
    lease, guest = started(net, network, web={"ports": ["8080:80"]})["web"]
    guest.serve(lease.ipv4, 80)
    assert guest.ask(HOST, 8080) == lease.gateway


def test_a_port_on_one_address_is_published_there_only(net: NetworkLab, network: Network) -> None:
    lease, guest = started(net, network, web={"ports": ["127.0.0.1:2222:22", f"{HOST}:81:22", f"[{HOST6}]:82:22"]})[
        "web"
    ]
    guest.serve(lease.ipv4, 22)
    guest.serve(lease.ipv6, 22)
    assert net.host.ask("127.0.0.1", 2222) == lease.gateway
    assert net.host.ask(HOST6, 82) == HOST6
    assert net.host.ask("::1", 82) == "ConnectionRefusedError"
    assert net.world.ask(HOST, 2222) == "ConnectionRefusedError"
    assert net.world.ask(HOST, 81) == WORLD
    assert net.host.ask("127.0.0.1", 81) == "ConnectionRefusedError"


def test_the_hosts_loopback_is_closed_to_guests(net: NetworkLab, network: Network) -> None:
    """Published ports on 127.0.0.1 need route_localnet, with which a guest could reach what listens on the host's loopback (CVE-2020-8558)."""
    lease, guest = started(net, network, web={"ports": ["8080:80"]})["web"]
    net.host.serve("127.0.0.1", 5000, "tcp")
    net.host.serve("127.0.0.1", 5000, "udp")
    guest.ip("route", "add", "127.0.0.1/32", "via", lease.gateway, "table", "7")
    guest.ip("rule", "add", "pref", "0", "to", "127.0.0.1", "lookup", "7")
    guest.ip("rule", "add", "pref", "1", "lookup", "local")
    guest.ip("rule", "delete", "pref", "0", "lookup", "local")
    guest.run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1", "net.ipv4.conf.eth0.route_localnet=1")
    for kind in ("tcp", "udp"):
        assert guest.ask("127.0.0.1", 5000, kind) == "timeout"


@both_ways
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_egress_rules_are_all_that_a_guest_reaches(net: NetworkLab, network: Network, kind: str) -> None:
    allowed = [f"{OTHER}:7000/{kind}", f"[{OTHER6}]:7000-7001/{kind}"]
    guests = started(net, network, web={"egress": allowed, "ports": ["8080:80"]}, other={})
    lease, guest = guests["web"]
    other, neighbor = guests["other"]
    for address in (WORLD, WORLD6, OTHER, OTHER6):
        net.world.serve(address, 7000, kind)
    net.world.serve(OTHER, 7001, kind)
    neighbor.serve(other.ipv4, 7000, kind)
    neighbor.serve(other.ipv6, 7000, kind)
    net.host.serve(HOST, 7002, kind)
    assert guest.ask(OTHER, 7000, kind) == HOST
    assert guest.ask(OTHER6, 7000, kind) == HOST6
    for address, port in (
        (WORLD, 7000),
        (WORLD6, 7000),
        (OTHER, 7001),
        (other.ipv4, 7000),
        (other.ipv6, 7000),
        (HOST, 7002),
    ):
        assert guest.ask(address, port, kind) in DENIED, (address, port)
    # Its own services are still reached, by its neighbors and by published ports.
    guest.serve(lease.ipv4, 80)
    guest.serve(lease.ipv6, 80)
    assert net.world.ask(HOST, 8080) == WORLD
    assert neighbor.ask(lease.ipv4, 80) == other.ipv4
    assert neighbor.ask(lease.ipv6, 80) == other.ipv6
    # Names may be resolved.
    assert net.resolve(guest, "other.lab.internal", lease.gateway) == [other.ipv4, other.ipv6]


@both_ways
def test_egress_none_is_none(net: NetworkLab, network: Network) -> None:
    guests = started(net, network, web={"egress": "none", "ports": ["8080:80"]}, other={})
    lease, guest = guests["web"]
    other, neighbor = guests["other"]
    for kind in ("tcp", "udp"):
        net.world.serve(WORLD, 7000, kind)
        net.world.serve(WORLD6, 7000, kind)
        neighbor.serve(other.ipv4, 7000, kind)
        net.host.serve(HOST, 7002, kind)
        net.host.serve(lease.gateway6, 7002, kind)
        for address, port in ((WORLD, 7000), (WORLD6, 7000), (other.ipv4, 7000), (HOST, 7002), (lease.gateway6, 7002)):
            assert guest.ask(address, port, kind) in DENIED, (kind, address, port)
    assert net.resolve(guest, "other.lab.internal", lease.gateway) == []
    guest.serve(lease.ipv4, 80)
    assert net.world.ask(HOST, 8080) == WORLD


def test_a_changed_egress_rule_ends_existing_connections(
    net: NetworkLab, network: Network, tmp_path: pathlib.Path
) -> None:
    _lease, guest = started(net, network, web={})["web"]
    net.world.serve(WORLD, 7000)
    talk = tmp_path / "talk.py"
    talk.write_text(
        "import socket, sys\n"
        f"c = socket.create_connection(('{WORLD}', 7000)); c.settimeout(3)\n"
        "print(c.recv(100).decode(), flush=True)\n"
        "for line in sys.stdin:\n"
        "    try:\n"
        "        c.sendall(b'x'); print(c.recv(100).decode(), flush=True)\n"
        "    except OSError as problem:\n"
        "        print(type(problem).__name__, flush=True)\n"
    )
    import subprocess
    import sys

    with subprocess.Popen(
        ["ip", "netns", "exec", guest.name, sys.executable, str(talk)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == f"{HOST}\n"
        process.stdin.write("\n")
        assert process.stdout.readline() == "more\n"
        net.on_host(lambda: put_leases(network, [net.request("web", egress="none")]))
        process.stdin.write("\n")
        assert process.stdout.readline() in ("ConnectionResetError\n", "TimeoutError\n")
        process.kill()


@both_ways
def test_isolated_guests_reach_the_world_and_no_guest(net: NetworkLab, network: Network) -> None:
    guests = started(net, network, a={"isolated": True}, b={"isolated": True}, c={})
    net.world.serve(WORLD, 7000)
    for name, (lease, guest) in guests.items():
        guest.serve(lease.ipv4, 80)
        guest.serve(lease.ipv6, 80)
        assert guest.ask(WORLD, 7000) == HOST, name
    for source, target in (("a", "b"), ("a", "c"), ("c", "a")):
        lease = guests[target][0]
        assert guests[source][1].ask(lease.ipv4, 80) in ("timeout", "OSError"), (source, target)
        assert guests[source][1].ask(lease.ipv6, 80) in ("timeout", "OSError"), (source, target)
    # Not by way of the host either.
    source, target_lease = guests["a"][1], guests["b"][0]
    source.ip("neighbor", "replace", target_lease.ipv4, "lladdr", target_lease.bridge_mac, "dev", "eth0")
    assert source.ask(target_lease.ipv4, 80) == "timeout"


def test_names_resolve_in_guests_and_on_the_host(net: NetworkLab, network: Network) -> None:
    guests = started(net, network, web={"hostname": "www"}, db={})
    lease, guest = guests["db"]
    web = guests["web"][0]
    net.wait_for_names(network, "www.lab.internal", web.ipv4)
    for namespace in (net.host, guest):
        for name in ("www.lab.internal", "web.lab.internal"):
            assert net.resolve(namespace, name, lease.gateway) == [web.ipv4, web.ipv6]
        assert net.resolve(namespace, "nothing.lab.internal", lease.gateway) == []
    assert net.resolve(guest, "gateway.lab.internal", lease.gateway6) == [lease.gateway, lease.gateway6]


def test_networks_do_not_reach_each_other(net: NetworkLab, network: Network) -> None:
    second = net.network("second", "10.10.0.0/24")
    set_up(net, second)
    _a, guest_a = started(net, network, a={})["a"]
    b, guest_b = started(net, second, b={"ports": ["8080:80"]})["b"]
    guest_b.serve(b.ipv4, 80)
    assert guest_a.ask(b.ipv4, 80) == "timeout"
    # What is published is for all.
    assert guest_a.ask(HOST, 8080) not in ("timeout", "ConnectionRefusedError")


def test_a_network_without_nat_is_routed(net: NetworkLab) -> None:
    network = net.network(nat=False)
    set_up(net, network)
    lease, guest = started(net, network, web={})["web"]
    net.world.ip("route", "add", network.definition.subnet, "via", HOST)
    net.world.serve(WORLD, 7000)
    guest.serve(lease.ipv4, 80)
    assert guest.ask(WORLD, 7000) == lease.ipv4
    assert net.world.ask(lease.ipv4, 80) == WORLD
