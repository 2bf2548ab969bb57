# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task may write about ports, egress rules and addresses."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.options.network_options import (
    NONE,
    OPEN,
    Egress,
    EgressRule,
    Port,
    host_name_of,
    parse_address,
    parse_egress,
    parse_host_name,
    parse_network,
    parse_port,
    parse_ports,
)


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("8080:80", Port(8080, 80)),
        ("8080:80/tcp", Port(8080, 80)),
        ("53:5353/udp", Port(53, 5353, "udp")),
        ("127.0.0.1:2222:22", Port(2222, 22, "tcp", "127.0.0.1")),
        ("[fd00::1]:8080:80", Port(8080, 80, "tcp", "fd00::1")),
        ("[2001:DB8:0::1]:65535:1/udp", Port(65535, 1, "udp", "2001:db8::1")),
    ],
)
def test_a_port_is_parsed_and_its_text_gives_it_again(text: str, port: Port) -> None:
    assert parse_port(text) == port
    assert parse_port(port.text) == port


@pytest.mark.parametrize(
    "text",
    [
        "80",
        "8080:",
        ":80",
        "0:80",
        "80:65536",
        "8080:80/sctp",
        "1.2.3:80:80",
        "::1:80:80",
        "[::1]:80:80",
        "a:80:80",
        "80:80:80",
        133342,
        None,
        "8080:80 /udp",
    ],
)
def test_a_wrong_port_is_refused_with_option_and_value(text: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_port(text)
    assert caught.value.option == "ports"
    assert caught.value.wanted is not None or text is None


@pytest.mark.parametrize(
    ("one", "other", "collide"),
    [
        ("80:1", "80:2", True),
        ("80:1", "80:2/udp", False),
        ("80:1", "127.0.0.1:80:2", True),
        ("80:1", "[fd00::1]:80:2", True),
        ("127.0.0.1:80:1", "127.0.0.2:80:2", False),
        ("127.0.0.1:80:1", "0.0.0.0:80:2", True),
        ("0.0.0.0:80:1", "[::]:80:2", False),
        ("80:1", "81:1", False),
    ],
)
def test_two_ports_collide_if_a_packet_could_match_both(one: str, other: str, collide: bool) -> None:
    assert parse_port(one).collides_with(parse_port(other)) is collide
    assert parse_port(other).collides_with(parse_port(one)) is collide


def test_a_list_of_ports_claims_each_port_once() -> None:
    assert parse_ports(["80:80", "80:80/udp"]) == (Port(80, 80), Port(80, 80, "udp"))
    with pytest.raises(ConfigError, match=r"claim each port of the host once: 80:80 and 127\.0\.0\.1:80:81"):
        parse_ports(["80:80", "127.0.0.1:80:81"])


@pytest.mark.parametrize(
    ("value", "egress"),
    [
        ("open", OPEN),
        (["open"], OPEN),
        ("none", NONE),
        ([], NONE),
        (["10.0.0.0/8"], Egress(False, (EgressRule("10.0.0.0/8"),))),
        (["192.0.2.1:443"], Egress(False, (EgressRule("192.0.2.1/32", 443, 443, "tcp"),))),
        (["192.0.2.0/24:8000-8080/udp"], Egress(False, (EgressRule("192.0.2.0/24", 8000, 8080, "udp"),))),
        (["2001:db8::/32"], Egress(False, (EgressRule("2001:db8::/32"),))),
        (["[2001:db8::/32]:53/udp"], Egress(False, (EgressRule("2001:db8::/32", 53, 53, "udp"),))),
        ("0.0.0.0/0:443", Egress(False, (EgressRule("0.0.0.0/0", 443, 443, "tcp"),))),
    ],
)
def test_egress_is_parsed_and_its_value_gives_it_again(value: Any, egress: Egress) -> None:
    assert parse_egress(value) == egress
    assert parse_egress(egress.value) == egress


@pytest.mark.parametrize(
    "value",
    [
        "closed",
        ["example.com:443"],
        ["10.0.0.1/8"],
        ["10.0.0.0/33"],
        ["10.0.0.0/8:0"],
        ["10.0.0.0/8:90-80"],
        [80],
        80,
        ["::/0:80/icmp"],
        ["open", "none"],
    ],
)
def test_wrong_egress_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_egress(value)
    assert caught.value.option == "egress"
    assert caught.value.wanted is not None


def test_addresses_have_one_spelling() -> None:
    assert parse_address("FD00:0:0::5", "address6", 6) == "fd00::5"
    for wrong in ("10.0.0.300", "010.0.0.1", "fe80::1%eth0", "", 7):
        with pytest.raises(ConfigError, match="must be an"):
            parse_address(wrong)
    with pytest.raises(ConfigError, match="must be an IPv4 address"):
        parse_address("::1", "address", 4)


def test_a_network_has_no_bits_of_a_host() -> None:
    assert str(parse_network("10.1.0.0/16", "subnet", 4)) == "10.1.0.0/16"
    with pytest.raises(ConfigError, match=r"The network of it is 10\.1\.0\.0/16"):
        parse_network("10.1.2.3/16")
    with pytest.raises(ConfigError, match="IPv6 network"):
        parse_network("10.1.0.0/16", "subnet6", 6)


def test_a_host_name_follows_from_an_id() -> None:
    assert host_name_of("web-1") == "web-1"
    assert host_name_of("Web_1.a") == "web-1-a"
    assert host_name_of("_") == "sandbox"
    for identity in ("a" * 64, "_x", "A.B.C", "0"):
        assert parse_host_name(host_name_of(identity))
    with pytest.raises(ConfigError, match="host name"):
        parse_host_name("Web")
