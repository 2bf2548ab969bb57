# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest must not be able to do: use addresses of others, or act as a router or a DHCP server. Frames are built byte by byte."""

from __future__ import annotations

import ipaddress
import struct

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks.lease import Lease
from tests.support.network_lab import WORLD, WORLD6, Namespace, NetworkLab
from tests.support.waiting import wait_until

from .test_traffic import SUBNET6, set_up, started

BROADCAST = "ff:ff:ff:ff:ff:ff"
#: A datagram with this content is sent last, with the right addresses: when it has arrived, everything before it has been decided.
LAST = "the last one"


def mac(text: str) -> bytes:
    """The bytes of a MAC address."""
    return bytes.fromhex(text.replace(":", ""))


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(source: str, target: str, kind: int, payload: bytes) -> bytes:
    """An Ethernet frame."""
    return mac(target) + mac(source) + struct.pack("!H", kind) + payload


def packet(source: str, target: str, protocol: int, payload: bytes, hops: int = 64) -> bytes:
    """An IPv4 or IPv6 packet."""
    here, there = ipaddress.ip_address(source).packed, ipaddress.ip_address(target).packed
    if len(here) == 16:
        return struct.pack("!IHBB", 6 << 28, len(payload), protocol, hops) + here + there + payload
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, hops, protocol, 0, here, there)
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def with_checksum(source: str, target: str, protocol: int, message: bytes, offset: int) -> bytes:
    """A message with its checksum, which covers the addresses too."""
    here, there = ipaddress.ip_address(source).packed, ipaddress.ip_address(target).packed
    pseudo = here + there + struct.pack("!II" if len(here) == 16 else "!HH", len(message), protocol)
    if len(here) == 4:
        pseudo = here + there + struct.pack("!BBH", 0, protocol, len(message))
    return message[:offset] + struct.pack("!H", checksum(pseudo + message)) + message[offset + 2 :]


def datagram(source: str, target: str, port: int, text: str, source_port: int = 5555) -> bytes:
    """A UDP datagram in a packet."""
    message = struct.pack("!HHHH", source_port, port, 8 + len(text), 0) + text.encode()
    return packet(source, target, 17, with_checksum(source, target, 17, message, 6))


def icmp6(source: str, target: str, message: bytes) -> bytes:
    """An ICMPv6 message in a packet, as neighbor discovery sends it."""
    return packet(source, target, 58, with_checksum(source, target, 58, message, 2), 255)


def advertisement(target: str, address: str) -> bytes:
    """A neighbor advertisement that says that an IPv6 address is at a MAC address."""
    return struct.pack("!BBHI", 136, 0, 0, 0x20000000) + ipaddress.ip_address(target).packed + b"\2\1" + mac(address)


def received(namespace: Namespace, key: tuple[str, int, str]) -> list[str]:
    """What a UDP server received, up to LAST."""
    stream = namespace.servers[key].stdout
    assert stream is not None
    lines: list[str] = []
    while not lines or LAST not in lines[-1]:
        lines.append(stream.readline())
        assert lines[-1], "the server has ended"
    return lines


@pytest.fixture
def two(net: NetworkLab) -> dict[str, tuple[Lease, Namespace]]:
    """Two guests, a and b, of a network with IPv4 and IPv6."""
    network = net.network(subnet6=SUBNET6)
    set_up(net, network)
    return started(net, network, a={}, b={})


@pytest.mark.parametrize("version", [4, 6])
def test_packets_with_a_wrong_source_go_nowhere(
    net: NetworkLab, two: dict[str, tuple[Lease, Namespace]], version: int
) -> None:
    (a, guest), (b, victim) = two["a"], two["b"]
    kind = 0x0800 if version == 4 else 0x86DD
    mine, other = (a.ipv4, b.ipv4) if version == 4 else (a.ipv6, b.ipv6)
    free = "10.9.0.250" if version == 4 else "fd00:9::fa"
    gateway = a.gateway if version == 4 else a.gateway6
    outside = "192.0.2.66" if version == 4 else "2001:db8:66::1"
    world = WORLD if version == 4 else WORLD6
    net.world.serve(world, 7000, "udp")
    victim.serve(other, 7000, "udp")
    for target, target_mac, namespace in ((world, a.bridge_mac, net.world), (other, b.mac, victim)):
        wrong = [
            ethernet(a.mac, target_mac, kind, datagram(source, target, 7000, f"from {source}"))
            for source in (other, free, gateway, outside)
        ]
        wrong.append(ethernet(b.mac, target_mac, kind, datagram(mine, target, 7000, "from the other MAC address")))
        right = ethernet(a.mac, target_mac, kind, datagram(mine, target, 7000, LAST))
        guest.send(*wrong, right)
        lines = received(namespace, (target, 7000, "udp"))
        assert len(lines) == 1, lines


def test_neighbors_keep_their_places(net: NetworkLab, two: dict[str, tuple[Lease, Namespace]]) -> None:
    """A guest cannot make the host or another guest send it what is for its neighbor or for the gateway."""
    (a, guest), (b, victim) = two["a"], two["b"]
    victim.run("busybox", "ping", "-c1", a.gateway)
    victim.run("busybox", "ping", "-c1", a.gateway6)

    def arp(address: str, source: str = a.mac, target: str = BROADCAST) -> bytes:
        body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + mac(source) + ipaddress.ip_address(address).packed
        return ethernet(a.mac, target, 0x0806, body + mac(target) + ipaddress.ip_address(address).packed)

    def claim6(address: str, target: str, target_mac: str, source: str = a.ipv6) -> bytes:
        return ethernet(a.mac, target_mac, 0x86DD, icmp6(source, target, advertisement(address, a.mac)))

    frames = [
        arp(b.ipv4),
        arp(a.gateway),
        arp(b.ipv4, b.mac),
        arp(b.ipv4, target=a.bridge_mac),
        arp(a.gateway, target=b.mac),
    ]
    frames += [claim6(b.ipv6, a.gateway6, a.bridge_mac), claim6(a.gateway6, b.ipv6, b.mac)]
    frames += [claim6(a.gateway6, "ff02::1", "33:33:00:00:00:01", source) for source in (a.ipv6, "fe80::1", b.ipv6)]
    # What it may say: where it is itself. Its neighbor learns it, so all frames before it have been decided.
    victim.ip("neighbor", "flush", "dev", "eth0", "to", a.ipv4)
    guest.send(*frames)
    guest.run("busybox", "ping", "-c1", b.ipv4)
    for namespace, link, address, place in (
        (net.host, a.bridge, b.ipv4, b.mac),
        (net.host, a.bridge, b.ipv6, b.mac),
        (victim, "eth0", a.gateway, a.bridge_mac),
        (victim, "eth0", a.gateway6, a.bridge_mac),
        (victim, "eth0", a.ipv4, a.mac),
    ):
        assert place in namespace.ip("neighbor", "show", address, "dev", link), (address, link)


def test_guests_are_no_routers_and_no_dhcp_servers(net: NetworkLab, two: dict[str, tuple[Lease, Namespace]]) -> None:
    (a, guest), (b, victim) = two["a"], two["b"]
    victim.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_ra=2")
    victim.serve("0.0.0.0", 68, "udp")
    router = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + b"\1\1" + mac(a.mac)
    link_local = guest.ip("-6", "-o", "address", "show", "dev", "eth0", "scope", "link").split()[3].split("/")[0]
    for source in (link_local, a.ipv6):
        guest.send(ethernet(a.mac, "33:33:00:00:00:01", 0x86DD, icmp6(source, "ff02::1", router)))
    offers = [datagram(a.ipv4, target, 68, "offer", 67) for target in ("255.255.255.255", b.ipv4)]
    last = ethernet(a.mac, b.mac, 0x0800, datagram(a.ipv4, b.ipv4, 68, LAST, 5555))
    guest.send(*(ethernet(a.mac, target, 0x0800, one) for one, target in zip(offers, (BROADCAST, b.mac))), last)
    assert len(received(victim, ("0.0.0.0", 68, "udp"))) == 1
    assert f"via {link_local}" not in victim.ip("-6", "route", "show", "default")
    assert f"via {a.ipv6}" not in victim.ip("-6", "route", "show", "default")


def test_a_port_of_the_bridge_without_a_lease_reaches_nothing(
    net: NetworkLab, two: dict[str, tuple[Lease, Namespace]]
) -> None:
    import dataclasses

    a, _guest = two["a"]
    net.world.serve(WORLD, 7000)
    stranger = net.guest(
        dataclasses.replace(
            a, id="stranger", tap="kh-stranger", mac="52:54:00:99:99:99", ipv4="10.9.0.99", ipv6="fd00:9::99"
        )
    )
    assert stranger.ask(WORLD, 7000) == "timeout"
    assert net.resolve(stranger, "a.lab.internal", a.gateway) == []


@pytest.mark.parametrize("egress", ["none", ["203.0.113.10:7000/udp"]])
@pytest.mark.parametrize("version", [4, 6])
def test_a_spoofed_source_does_not_pass_egress_rules(net: NetworkLab, egress: str | list[str], version: int) -> None:
    network = net.network(subnet6=SUBNET6)
    set_up(net, network)
    guests = started(net, network, a={"egress": egress}, b={})
    (a, guest), (b, open_guest) = guests["a"], guests["b"]
    world = WORLD if version == 4 else WORLD6
    kind = 0x0800 if version == 4 else 0x86DD
    mine, other = (a.ipv4, b.ipv4) if version == 4 else (a.ipv6, b.ipv6)
    link_local = ["fe80::1"] if version == 6 else []
    net.world.serve(world, 7000, "udp")
    net.host.serve("0.0.0.0" if version == 4 else "::", 7001, "udp")
    open_guest.serve(other, 7000, "udp")
    frames = []
    for source in (mine, other, *link_local):
        for source_mac in (a.mac, b.mac):
            frames += [
                ethernet(source_mac, a.bridge_mac, kind, datagram(source, world, 7000, "x")),
                ethernet(source_mac, b.mac, kind, datagram(source, other, 7000, "x")),
                ethernet(
                    source_mac,
                    a.bridge_mac,
                    kind,
                    datagram(source, a.gateway if version == 4 else a.gateway6, 7001, "x"),
                ),
            ]
    guest.send(*frames)
    gateway = a.gateway if version == 4 else a.gateway6
    for namespace, target, port, server in (
        (net.world, world, 7000, world),
        (net.host, gateway, 7001, "0.0.0.0" if version == 4 else "::"),
    ):
        open_guest.send(ethernet(b.mac, b.bridge_mac, kind, datagram(other, target, port, LAST)))
        assert len(received(namespace, (server, port, "udp"))) == 1
    net.host.run(
        "python3", "-c", "import socket, sys; s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM);"
        "s.sendto(sys.argv[2].encode(), (sys.argv[1], 7000))", other, LAST
    )  # fmt: skip
    assert len(received(open_guest, (other, 7000, "udp"))) == 1
    wait_until(lambda: open_guest.ask(world, 7000, "udp") != "timeout", "an open guest still reaches the world")
