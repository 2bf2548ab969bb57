# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Definitions of networks, and addresses and ports of leases."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.options.network_options import (
    Port,
    parse_egress,
    parse_ports,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks.addresses import (
    assign,
    check_overlap,
    check_ports,
    is_usable,
    parse_sockets,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks.definition import (
    Definition,
    Network,
    make_definition,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks.lease import (
    Lease,
    LeaseRequest,
    record_key,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.untrusted.answers import AnswerError

LAB = make_definition("lab", "10.9.0.0/28", subnet6="fd00:9::/64")


def request(name: str, number: int = 0, **options: Any) -> LeaseRequest:
    """A request of a sandbox; its MAC address and tap follow from its name and the number."""
    mac = "52:54:00:" + ":".join(f"{byte:02x}" for byte in f"{name}{number}".encode().ljust(3, b"\0")[-3:])
    return LeaseRequest(name, name, f"tap-{name}", mac, **options)


def leases_of(*leases: Lease) -> dict[str, Lease]:
    """Leases by sandbox."""
    return {lease.sandbox: lease for lease in leases}


# --- definitions -----------------------------------------------------------------------------------------------------


def test_a_definition_has_defaults_and_survives_its_record() -> None:
    assert (LAB.gateway, LAB.gateway6, LAB.bridge, LAB.domain) == ("10.9.0.1", "fd00:9::1", "kata-lab", "lab.internal")
    assert Definition.from_record(LAB.as_record(), "test") == LAB


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"name": "Lab"}, "name"),
        ({"name": "user"}, "name"),
        ({"name": "none"}, "name"),
        ({"subnet": "10.9.0.0/31"}, "subnet"),
        ({"subnet": "10.9.0.1/28"}, "subnet"),
        ({"subnet": "127.0.0.0/24"}, "subnet"),
        ({"subnet": "224.0.0.0/24"}, "subnet"),
        ({"subnet": "fd00::/64"}, "subnet"),
        ({"subnet6": "fd00::/48"}, "subnet6"),
        ({"subnet6": "fe80::/64"}, "subnet6"),
        ({"gateway": "10.8.0.1"}, "gateway"),
        ({"gateway": "10.9.0.0"}, "gateway"),
        ({"gateway6": "fd00::1"}, "gateway6"),
        ({"bridge": "a-name-that-is-too-long"}, "bridge"),
        ({"bridge": 'a"b'}, "bridge"),
        ({"domain": "-a"}, "domain"),
        ({"domain": "a\nserver=1.2.3.4"}, "domain"),
        ({"dhcp_range": "10.9.0.5"}, "dhcp_range"),
        ({"dhcp_range": "10.9.0.9-10.9.0.5"}, "dhcp_range"),
        ({"dhcp_range": "10.9.0.1-10.9.0.5"}, "dhcp_range"),
        ({"dhcp_range": "10.9.0.2-10.9.0.15"}, "dhcp_range"),
        ({"dns_servers": ["example.com"]}, "dns_servers"),
    ],
)
def test_a_wrong_definition_is_refused(options: dict[str, Any], option: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_definition(**{"name": "lab", "subnet": "10.9.0.0/28", **options})
    assert caught.value.option == option


def test_a_long_name_has_a_short_bridge() -> None:
    one, other = (make_definition(f"a-long-name-of-a-network-{number}", "10.9.0.0/28").bridge for number in (1, 2))
    assert one != other
    assert len(one) <= 15


def test_networks_of_other_directories_share_no_name_on_the_host() -> None:
    usual, other = Network(LAB), Network(LAB, "/srv/other")
    assert usual.unit == "kata-network@lab.service"
    assert {usual.table, usual.unit, usual.run_directory, usual.alias}.isdisjoint(
        {other.table, other.unit, other.run_directory, other.alias}
    )


# --- leases ----------------------------------------------------------------------------------------------------------


def test_a_lease_survives_its_record() -> None:
    (lease,) = assign(
        LAB,
        {},
        [request("web", hostname="www", ports=parse_ports(["8080:80"]), egress=parse_egress(["10.0.0.0/8:443"]))],
    )
    assert Lease.from_record(lease.as_record(), LAB) == lease
    assert lease.name == "www.lab.internal"
    assert lease.names == ("www", "web")


@pytest.mark.parametrize(
    "change",
    [
        {"ipv4": "10.9.0.300"},
        {"mac": "zz"},
        {"tap": 'a"'},
        {"ports": ["x"]},
        {"egress": {"a": 1}},
        {"sandbox": "../x"},
        {"ports": 7},
    ],
)
def test_a_damaged_record_is_refused(change: dict[str, Any]) -> None:
    (lease,) = assign(LAB, {}, [request("web")])
    with pytest.raises((AnswerError, ConfigError)):
        Lease.from_record({**lease.as_record(), **change}, LAB)


def test_the_file_of_a_lease_stays_in_its_directory() -> None:
    assert record_key("web-1:0123abcd") == "web-1:0123abcd.json"
    for wrong in ("../x", "a/b", ".x", ""):
        with pytest.raises(ConfigError):
            record_key(wrong)


def test_a_sandbox_keeps_its_address_and_gets_the_same_one_again() -> None:
    first = assign(LAB, {}, [request("web")])
    assert assign(LAB, leases_of(*first), [request("web")]) == first
    assert assign(LAB, {}, [request("web")]) == first
    others = leases_of(*assign(LAB, {}, [request("db", address=first[0].ipv4)]))
    moved = assign(LAB, others, [request("web")])
    assert moved[0].ipv4 != first[0].ipv4
    assert assign(LAB, {**others, **leases_of(*moved)}, [request("web")]) == moved


@given(st.sets(st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=6), min_size=1, max_size=13))
def test_every_sandbox_has_an_address_of_its_own(names: set[str]) -> None:
    definition = make_definition("lab", "10.9.0.0/28", subnet6="fd00:9::/64")
    requests = [
        dataclasses.replace(request(name), mac=f"52:54:00:00:00:{number:02x}")
        for number, name in enumerate(sorted(names))
    ]
    leases = assign(definition, {}, requests)
    assert len({lease.ipv4 for lease in leases}) == len({lease.ipv6 for lease in leases}) == len(names)
    for lease in leases:
        assert is_usable(definition, lease.ipv4)
        assert ipaddress.ip_address(lease.ipv6) in ipaddress.ip_network("fd00:9::/64")


def test_a_full_network_is_an_error() -> None:
    leases = assign(LAB, {}, [request(f"s{number}", number) for number in range(13)])
    assert len({lease.ipv4 for lease in leases}) == 13
    with pytest.raises(ConfigError, match="must have a free address"):
        assign(LAB, leases_of(*leases), [request("more")])


def test_two_sandboxes_exchange_their_addresses_in_one_task() -> None:
    before = leases_of(*assign(LAB, {}, [request("a", address="10.9.0.5"), request("b", address="10.9.0.6")]))
    after = assign(LAB, before, [request("a", address="10.9.0.6"), request("b", address="10.9.0.5")])
    assert [lease.ipv4 for lease in after] == ["10.9.0.6", "10.9.0.5"]


@pytest.mark.parametrize(
    ("options", "option", "words"),
    [
        ({"address": "10.8.0.5"}, "address", "must be an address for guests in 10.9.0.0/28"),
        ({"address": "10.9.0.1"}, "address", "must be an address for guests"),
        ({"address": "10.9.0.15"}, "address", "must be an address for guests"),
        ({"address": "10.9.0.5"}, "address", "already used by the sandbox old"),
        ({"address6": "fd00:8::5"}, "address6", "must be an address for guests in fd00:9::/64"),
        ({"hostname": "old"}, "hostname", "host name old is already used by the sandbox old"),
    ],
)
def test_an_address_or_a_name_that_cannot_be_used_is_refused(options: dict[str, Any], option: str, words: str) -> None:
    before = leases_of(*assign(LAB, {}, [request("old", address="10.9.0.5")]))
    with pytest.raises(ConfigError) as caught:
        assign(LAB, before, [request("new", **options)])
    assert caught.value.option == option
    assert words in str(caught.value)


def test_addresses_in_the_dhcp_range_are_not_for_leases() -> None:
    definition = make_definition("lab", "10.9.0.0/28", dhcp_range="10.9.0.2-10.9.0.13")
    assert assign(definition, {}, [request("a")])[0].ipv4 == "10.9.0.14"
    with pytest.raises(ConfigError, match="not in its DHCP range"):
        assign(definition, {}, [request("a", address="10.9.0.5")])


def test_ipv6_needs_a_network_with_it() -> None:
    definition = make_definition("lab", "10.9.0.0/28")
    assert assign(definition, {}, [request("a")])[0].ipv6 == ""
    with pytest.raises(ConfigError, match="must have IPv6"):
        assign(definition, {}, [request("a", address6="fd00:9::5")])


def test_a_mac_address_is_used_once() -> None:
    before = leases_of(*assign(LAB, {}, [request("a")]))
    with pytest.raises(ConfigError, match=r"MAC address .* already used by the sandbox a"):
        assign(LAB, before, [dataclasses.replace(request("b"), mac=request("a").mac)])


# --- ports -----------------------------------------------------------------------------------------------------------

# proc(5): 0100007F:1F90 is 127.0.0.1:8080; state 0A listens, 01 is connected, 07 is an unconnected UDP socket.
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 100 0 0 10 0
"""
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue
   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000
   1: B80D0120000000000000000001000000:01BB 00000000000000000000000000000000:0000 0A 00000000:00000000
"""
UDP = """\
  sl  local_address rem_address   st tx_queue rx_queue
   0: 00000000:0035 00000000:0000 07 00000000:00000000
   1: 0200000A:9C40 01010101:0035 01 00000000:00000000
"""


@pytest.mark.skipif("sys.byteorder != 'little'")
def test_listening_sockets_are_parsed() -> None:
    assert parse_sockets(TCP, "tcp") == [Port(8080, 0, "tcp", "127.0.0.1"), Port(22, 0, "tcp", "0.0.0.0")]
    assert parse_sockets(TCP6, "tcp") == [Port(80, 0, "tcp", ""), Port(443, 0, "tcp", "2001:db8::1")]
    assert parse_sockets(UDP, "udp") == [Port(53, 0, "udp", "0.0.0.0")]
    assert parse_sockets("", "tcp") == []


@pytest.mark.parametrize(
    ("port", "words"),
    [
        ("8080:80", "already published by the sandbox old in the network lab"),
        ("22:22", "must be free, and a program of the host listens on it"),
        ("127.0.0.1:22:22", "must be free"),
    ],
)
def test_a_port_in_use_is_refused(port: str, words: str) -> None:
    old = assign(LAB, {}, [request("old", ports=parse_ports(["8080:80"]))])
    new = assign(LAB, leases_of(*old), [request("new", ports=parse_ports([port]))])
    with pytest.raises(ConfigError, match=words) as caught:
        check_ports(new, old, [Port(22, 0, "tcp", "0.0.0.0")])
    assert (caught.value.option, caught.value.sandbox) == ("ports", "new")


def test_ports_of_one_task_collide_too() -> None:
    both = assign(LAB, {}, [request(name, ports=parse_ports(["8080:80"])) for name in ("a", "b")])
    with pytest.raises(ConfigError, match="already published by the sandbox a"):
        check_ports(both, [], [])


def test_a_sandbox_keeps_its_ports() -> None:
    old = assign(LAB, {}, [request("old", ports=parse_ports(["8080:80", "22:22"]))])
    check_ports(old, old, [Port(22, 0, "tcp", "0.0.0.0")])
    with pytest.raises(ConfigError, match="must be free"):
        check_ports(assign(LAB, leases_of(*old), [request("old", ports=parse_ports(["23:22"]))]), old, [Port(23, 0)])


def test_a_port_on_an_ipv6_address_needs_ipv6() -> None:
    definition = make_definition("lab", "10.9.0.0/28")
    with pytest.raises(ConfigError, match="must have IPv6"):
        check_ports(assign(definition, {}, [request("a", ports=parse_ports(["[fd00::1]:80:80"]))]), [], [])


def test_an_overlap_names_the_other_network() -> None:
    used = [("192.0.2.7/24", "an address of eth0"), ("10.0.0.0/8", "a route of the host by tun0"), ("fd00::/8", "x")]
    check_overlap("172.16.0.0/24", "subnet", used)
    with pytest.raises(ConfigError, match=r"10\.0\.0\.0/8 is a route of the host by tun0"):
        check_overlap("10.9.0.0/28", "subnet", used)
    with pytest.raises(ConfigError, match=r"192\.0\.2\.0/24 is an address of eth0"):
        check_overlap("192.0.0.0/16", "subnet", used)


def test_a_name_that_is_only_made_from_an_id_is_left_to_others() -> None:
    dotted = request("a.b", hostname="dotted")
    assert dotted.names == ("dotted",)
    assert request("a.b").names == ("a-b",)
    assert request("a-b", hostname="other").names == ("other", "a-b")
    network = make_definition("default", "10.0.0.0/24")
    assert len(assign(network, {}, [dotted, request("a-b", 1), request("a_b", 2, hostname="third")])) == 3
