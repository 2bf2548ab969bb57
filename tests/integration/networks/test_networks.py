# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks come and go: created, changed, restored, killed at every step, and removed with nothing left."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time
from typing import Any, Callable

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, HostError, StateError
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks import host_links, service, store
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks.definition import Network
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks.leases import (
    drop_leases,
    is_current,
    plan_leases,
    put_leases,
    which_are_current,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks.management import (
    converge_network,
    list_networks,
)
from tests.support.network_lab import HOST, WORLD, Namespace, NetworkLab
from tests.support.waiting import wait_until

KILLED = 137
#: Every how many changes a task is killed; "make soak" kills it before each.
STEP = int(os.environ.get("KATA_KILL_STEP", "3"))
OPTIONS = {"subnet": "10.9.0.0/24", "subnet6": "fd00:9::/64"}

#: Rules of another program, with a table of the same family and names of chains that we use too.
FOREIGN = """
table inet other { chain forward { type filter hook forward priority 0; policy accept; counter; }; set s { type ipv4_addr; elements = { 10.9.0.7 }; }; }
table bridge other { chain forward { type filter hook forward priority -200; policy accept; }; }
"""


def converge(net: NetworkLab, name: str = "lab", check: bool = False, **options: Any) -> dict[str, Any]:
    """What the module does on the host."""
    present = options.pop("state", "present") == "present"
    force = options.pop("force", False)
    result: dict[str, Any] = net.on_host(
        lambda: converge_network(name, options, net.state_root, present=present, force=force, check=check)
    )
    return result


def kill_before(number: int) -> Callable[[], None]:
    """A function after which the process dies right before its n-th change of a file or its n-th start of a program."""

    def install() -> None:
        count = 0

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            if event == "open":
                counts = isinstance(arguments[2], int) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
            else:
                counts = event in ("subprocess.Popen", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chown")
            if counts:
                count += 1
                if count == number:
                    os._exit(KILLED)

        sys.addaudithook(hook)

    return install


def test_removal_leaves_nothing(net: NetworkLab) -> None:
    net.host.run("nft", FOREIGN)
    before = net.host_state()
    result = converge(net, **OPTIONS)
    assert result["changed"]
    assert result["network"]["state"] == "up"
    assert converge(net, **OPTIONS)["changed"] is False
    net.on_host(lambda: put_leases(net.network(**OPTIONS), [net.request("web", ports=["8080:80"], egress="none")]))
    changed = net.host_state()
    assert "kata-lab" in changed["links"]
    assert "dnsmasq" in changed["processes"]
    assert changed["settings"]["net/ipv4/ip_forward"] == "1"
    result = converge(net, state="absent")
    assert result["changed"]
    assert result["network"] == {"name": "lab", "state": "absent"}
    assert net.host_state() == before
    assert converge(net, state="absent")["changed"] is False


def test_check_mode_changes_nothing_and_predicts(net: NetworkLab) -> None:
    before = net.host_state()
    predicted = converge(net, check=True, **OPTIONS)
    assert net.host_state() == before
    real = converge(net, **OPTIONS)
    for key in ("changed", "actions", "diff", "network"):
        assert predicted[key] == real[key], key
    before = net.host_state()
    predicted = converge(net, check=True, nat=False)
    assert net.host_state() == before
    real = converge(net, nat=False)
    assert predicted == real
    assert real["actions"] == ["set nat"]
    assert "-" not in real["diff"]["after"].splitlines()[0]
    before = net.host_state()
    assert converge(net, check=True, state="absent")["changed"]
    assert net.host_state() == before


def test_rules_of_others_are_not_touched(net: NetworkLab) -> None:
    net.host.run("nft", FOREIGN)

    def foreign() -> list[str]:
        return [net.host.run("nft", "list", "table", family, "other") for family in ("inet", "bridge")]

    before = foreign()
    converge(net, **OPTIONS)
    net.on_host(lambda: put_leases(net.network(**OPTIONS), [net.request("web", ports=["8080:80"])]))
    assert foreign() == before
    converge(net, state="absent", force=True)
    assert foreign() == before


@pytest.mark.parametrize(
    ("damage", "missing"),
    [
        (("nft", "flush", "ruleset"), "nftables rules"),
        (
            ("sh", "-c", "nft delete element bridge TABLE 2>/dev/null; nft add rule inet TABLE forward accept"),
            "nftables rules",
        ),
        (("ip", "link", "delete", "kata-lab"), "bridge kata-lab"),
        (("ip", "address", "flush", "dev", "kata-lab"), "addresses of kata-lab"),
        (("sysctl", "-qw", "net.ipv4.ip_forward=0"), "net.ipv4.ip_forward = 1"),
        (("pkill", "--ns", "NS", "dnsmasq"), "dnsmasq"),
    ],
)
def test_what_is_missing_is_restored(net: NetworkLab, damage: tuple[str, ...], missing: str) -> None:
    network = net.network(**OPTIONS)
    converge(net, **OPTIONS)
    (lease,) = net.on_host(lambda: put_leases(network, [net.request("web", ports=["8080:80"])]))
    assert net.on_host(lambda: is_current(lease, net.state_root))
    if damage[0] == "pkill":
        # Only the process of this host; the name may be used by other tests.
        subprocess.run(
            ["kill", *net.host.run("cat", str(net.place / "run" / network.run_directory[5:] / "dnsmasq.pid")).split()],
            check=True,
        )
        wait_until(lambda: "dnsmasq" not in net.processes(), "dnsmasq ends")
    else:
        net.host.run(*(word.replace("TABLE", network.table) for word in damage))
    assert not net.on_host(lambda: is_current(lease, net.state_root))
    result = converge(net)
    assert f"restore {missing}" in result["actions"]
    assert net.on_host(lambda: is_current(lease, net.state_root))


def test_a_task_about_a_sandbox_sets_its_network_up(net: NetworkLab) -> None:
    """After a reboot without systemd nothing of the network is there but its files."""
    network = net.network(**OPTIONS)
    converge(net, **OPTIONS)
    (lease,) = net.on_host(lambda: put_leases(network, [net.request("web")]))
    net.on_host(lambda: service.remove(network))
    assert [one["state"] for one in net.on_host(lambda: list_networks(net.state_root))] == ["down"]
    assert net.on_host(lambda: put_leases(network, [net.request("web")])) == [lease]
    assert net.on_host(lambda: is_current(lease, net.state_root))


def _network_and_leases(net: NetworkLab) -> list[Any]:
    converge_network("lab", OPTIONS, net.state_root)
    return put_leases(net.network(**OPTIONS), [net.request("web", ports=["8080:80"], egress="none"), net.request("db")])


def _dropped(net: NetworkLab) -> None:
    drop_leases("lab", net.state_root, ["web", "db"])
    converge_network("lab", {}, net.state_root, present=False)


def test_a_task_that_is_killed_anywhere_is_completed_by_the_next(net: NetworkLab) -> None:
    before = net.host_state()
    expected = net.on_host(lambda: _network_and_leases(net))
    complete = net.host_state()
    net.on_host(lambda: _dropped(net))
    assert net.host_state() == before
    number, code = 1 - STEP, KILLED
    while code == KILLED:
        number += STEP
        code, _data = net.exit_of(lambda: _network_and_leases(net), kill_before(number))
        assert code in (0, KILLED)
        assert net.on_host(lambda: _network_and_leases(net)) == expected, number
        assert net.host_state() == complete, number
        net.on_host(lambda: _dropped(net))
        assert net.host_state() == before, number
    assert number > 30


def test_a_removal_that_is_killed_anywhere_is_completed_by_the_next(net: NetworkLab) -> None:
    before = net.host_state()
    number, code = 1 - STEP, KILLED
    while code == KILLED:
        number += STEP
        net.on_host(lambda: _network_and_leases(net))
        code, _data = net.exit_of(lambda: _dropped(net), kill_before(number))
        assert code in (0, KILLED)
        net.on_host(lambda: _dropped(net))
        assert net.host_state() == before, number
    assert number > 15


def test_a_creation_that_is_killed_can_be_removed(net: NetworkLab) -> None:
    before = net.host_state()
    for number in range(1, 60, 3):
        net.exit_of(lambda: _network_and_leases(net), kill_before(number))
        net.on_host(lambda: _dropped(net))
        assert net.host_state() == before, number


# --- DHCP and names --------------------------------------------------------------------------------------------------

SCRIPT = """#!/bin/sh
[ "$1" = bound ] || exit 0
ip address add "$ip/$mask" dev "$interface"
ip route add default via "$router"
echo "$ip $mask $router $dns $domain $lease"
"""


def dhcp(guest: Namespace, place: pathlib.Path, attempts: str = "20") -> list[str]:
    """What a real DHCP client gets: address, prefix, gateway, DNS server, domain. Empty if it gets nothing."""
    script = place / "script"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    answer = guest.run(
        "busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-t", attempts, "-T", "1", "-s", str(script), check=False
    )
    lines = [line for line in answer.splitlines() if line.startswith("10.9.")]
    return lines[0].split() if lines else []


def test_a_dhcp_client_gets_its_lease(net: NetworkLab, tmp_path: pathlib.Path) -> None:
    converge(net, **OPTIONS)
    network = net.network(**OPTIONS)
    leases = net.on_host(lambda: put_leases(network, [net.request("web"), net.request("db", egress="none")]))
    for lease in leases:
        guest = net.guest(lease, addresses=False)
        assert dhcp(guest, tmp_path)[:5] == [lease.ipv4, "24", "10.9.0.1", "10.9.0.1", "lab.internal"]
    net.world.serve(WORLD, 7000)
    assert net.guests["web"].ask(WORLD, 7000) == HOST


def test_dhcp_works_with_a_bridge_that_was_created_again(net: NetworkLab, tmp_path: pathlib.Path) -> None:
    converge(net, **OPTIONS)
    (lease,) = net.on_host(lambda: put_leases(net.network(**OPTIONS), [net.request("web")]))
    net.host.ip("link", "delete", "kata-lab")
    converge(net)
    assert dhcp(net.guest(lease, addresses=False), tmp_path)[0] == lease.ipv4


def test_a_stranger_gets_no_lease_unless_there_is_a_range(net: NetworkLab, tmp_path: pathlib.Path) -> None:
    converge(net, **OPTIONS)
    (lease,) = net.on_host(lambda: put_leases(net.network(**OPTIONS), [net.request("web", address="10.9.0.9")]))
    stranger = net.guest(dataclasses.replace(lease, id="stranger", tap="stranger", mac="52:54:00:99:99:99"), False)
    assert dhcp(stranger, tmp_path, "3") == []
    converge(net, dhcp_range="10.9.0.200-10.9.0.210")
    address = dhcp(stranger, tmp_path)[0]
    assert address in [f"10.9.0.{number}" for number in range(200, 211)]
    net.world.serve(WORLD, 7000)
    assert stranger.ask(WORLD, 7000) == HOST
    with pytest.raises(StateError, match="must not contain the addresses of sandboxes: web"):
        converge(net, dhcp_range="10.9.0.5-10.9.0.210")


def test_an_address_is_given_again_by_dhcp(net: NetworkLab, tmp_path: pathlib.Path) -> None:
    """dnsmasq remembers whom it gave an address; a sandbox that is gone, or that has another address now, must not keep it."""
    converge(net, **OPTIONS)
    network = net.network(**OPTIONS)

    def leased(**addresses: str) -> list[Any]:
        requests = [net.request(name, address=address) for name, address in addresses.items()]
        leases: list[Any] = net.on_host(lambda: put_leases(network, requests))
        return leases

    a, b = (net.guest(lease, addresses=False) for lease in leased(a="10.9.0.5", b="10.9.0.6"))
    assert (dhcp(a, tmp_path)[0], dhcp(b, tmp_path)[0]) == ("10.9.0.5", "10.9.0.6")
    leased(a="10.9.0.6", b="10.9.0.5")
    assert (dhcp(a, tmp_path)[0], dhcp(b, tmp_path)[0]) == ("10.9.0.6", "10.9.0.5")
    net.on_host(lambda: drop_leases("lab", net.state_root, ["a"]))
    (lease,) = leased(c="10.9.0.6")
    assert dhcp(net.guest(lease, addresses=False), tmp_path)[0] == "10.9.0.6"


def test_a_dnsmasq_without_its_pid_file_is_replaced(net: NetworkLab) -> None:
    converge(net, **OPTIONS)
    (net.place / "run" / net.network(**OPTIONS).run_directory[len("/run/") :] / "dnsmasq.pid").unlink()
    assert converge(net)["actions"] == ["restore dnsmasq"]
    assert net.processes().count("dnsmasq") == 1


def test_other_names_are_asked_of_the_configured_servers(net: NetworkLab, tmp_path: pathlib.Path) -> None:
    net.world.run(
        "dnsmasq", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--host-record=example.test,198.51.100.77",
        f"--pid-file={tmp_path}/world.pid", f"--listen-address={WORLD}", "--bind-interfaces",
    )  # fmt: skip
    converge(net, dns_servers=[WORLD], **OPTIONS)
    (lease,) = net.on_host(lambda: put_leases(net.network(**OPTIONS), [net.request("web")]))
    guest = net.guest(lease)
    assert net.resolve(guest, "example.test", lease.gateway) == ["198.51.100.77"]
    # Names of the network are not asked of others.
    assert net.resolve(guest, "nothing.lab.internal", lease.gateway) == []


def test_the_names_of_a_dropped_lease_are_gone(net: NetworkLab) -> None:
    network = net.network(**OPTIONS)
    converge(net, **OPTIONS)
    web, _db = net.on_host(lambda: put_leases(network, [net.request("web"), net.request("db")]))
    net.wait_for_names(network, "web.lab.internal", web.ipv4)
    assert net.on_host(lambda: drop_leases("lab", net.state_root, ["web", "nothing"])) == ["web"]
    wait_until(lambda: net.resolve(net.host, "web.lab.internal", network.definition.gateway) == [], "the name is gone")
    assert len(net.resolve(net.host, "db.lab.internal", network.definition.gateway)) == 2


# --- many, and at the same time --------------------------------------------------------------------------------------


def test_fifty_leases_are_one_transaction_and_one_signal(net: NetworkLab) -> None:
    converge(net, **OPTIONS)
    network = net.network(**OPTIONS)
    requests = [net.request(f"s{number}", ports=[f"{8000 + number}:80"]) for number in range(50)]
    started: list[str] = []

    def counted(work: Callable[[], Any]) -> Any:
        programs: list[str] = []

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "subprocess.Popen":
                programs.append(" ".join(os.path.basename(str(word)) for word in arguments[1][:2]))

        sys.addaudithook(hook)
        begin = time.monotonic()
        result = work()
        return result, programs, time.monotonic() - begin

    leases, started, seconds = net.on_host(lambda: counted(lambda: put_leases(network, requests)))
    assert len({lease.ipv4 for lease in leases}) == 50
    assert started.count("nft -f") == 1
    assert len(started) <= 8, started
    assert not [one for one in started if one.startswith("dnsmasq")]
    current, _started, _seconds = net.on_host(lambda: counted(lambda: which_are_current("lab", net.state_root, leases)))
    assert len(current) == 50
    net.wait_for_names(network, "s49.lab.internal", leases[49].ipv4)
    sys.stderr.write(f"50 leases in {seconds:.3f} s\n")


def test_two_tasks_at_once_give_no_address_twice_and_lose_no_rule(net: NetworkLab) -> None:
    subnet = {"subnet": "10.9.0.0/26"}
    converge(net, **subnet)
    network = net.network(**subnet)

    def task(number: int) -> Any:
        return net.on_host(
            lambda: [
                put_leases(
                    network,
                    plan_leases(network, [net.request(f"s{number}-{one}", ports=[f"{8000 + 10 * number + one}:80"])]),
                )
                for one in range(5)
            ]
        )

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(task, range(8)))
    leases = net.on_host(lambda: list(store.read_leases(network).values()))
    assert len(leases) == len({lease.ipv4 for lease in leases}) == 40
    assert len(net.on_host(lambda: which_are_current("lab", net.state_root, leases))) == 40
    rules = net.host.run("nft", "list", "ruleset")
    assert all(f"dnat ip to {lease.ipv4}:80" in rules for lease in leases)


def test_a_task_that_waits_too_long_names_the_lock(net: NetworkLab, monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.kata.hypervisor.plugins.module_utils.errors import LockTimeout

    converge(net, **OPTIONS)

    def work() -> None:
        with store.networks_lock(), store.networks_lock(0.2):
            pass

    with pytest.raises(LockTimeout, match="the lock of the networks of this host for more than 0"):
        net.on_host(work)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"subnet": "198.51.100.0/25"}, r"198\.51\.100\.0/24 is an address of uplink"),
        ({"subnet": "10.64.0.0/16"}, r"10\.64\.3\.0/24 is a route of the host by uplink"),
        ({"subnet": "10.66.0.0/24"}, r"10\.66\.0\.0/16 is a route of the host"),
        ({"subnet": "10.9.0.0/24", "subnet6": "2001:db8:100::/64"}, "2001:db8:100::/64 is an address of uplink"),
        ({"subnet": "10.8.0.0/24"}, r"10\.8\.0\.0/24 is of the network other"),
        ({"subnet": "10.9.0.0/24", "bridge": "uplink"}, "the host has another interface of this name"),
        ({"subnet": "10.9.0.0/24", "bridge": "kata-other"}, "already used by the network other"),
        ({"subnet": "10.9.0.0/24", "domain": "other.internal"}, "already used by the network other"),
        ({}, "is required to create a network"),
    ],
)
def test_a_network_that_collides_is_refused_before_anything_changed(
    net: NetworkLab, options: dict[str, Any], words: str
) -> None:
    net.host.ip("route", "add", "10.64.3.0/24", "via", WORLD)
    net.host.ip("route", "add", "blackhole", "10.66.0.0/16")
    converge(net, "other", subnet="10.8.0.0/24")
    before = net.host_state()
    for check in (True, False):
        with pytest.raises(ConfigError, match=words):
            converge(net, check=check, **options)
        assert net.host_state() == before


@pytest.mark.parametrize(("program", "package"), [("nft", "nftables"), ("dnsmasq", "dnsmasq-base"), ("ip", "iproute2")])
def test_a_missing_program_is_named_with_its_package(
    net: NetworkLab, tmp_path: pathlib.Path, program: str, package: str
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in {"nft", "dnsmasq", "ip"} - {program}:
        (tools / name).symlink_to(host_links.program(name))

    def hide() -> None:
        os.environ["PATH"] = str(tools)
        host_links.PLACES = str(tools)

    before = net.host_state()
    with pytest.raises(HostError, match=f"the program {program} must be installed .* {package}"):
        net.on_host(lambda: converge_network("lab", OPTIONS, net.state_root), hide)
    assert net.host_state() == before


def test_a_busy_dns_port_is_an_error_that_says_so(net: NetworkLab) -> None:
    net.host.serve("0.0.0.0", 53, "tcp")
    with pytest.raises(HostError, match="Another DNS or DHCP server must not listen on all addresses") as caught:
        converge(net, **OPTIONS)
    assert "10.9.0.1" in str(caught.value)


def test_a_network_in_use_is_not_removed(net: NetworkLab) -> None:
    converge(net, **OPTIONS)
    network = net.network(**OPTIONS)
    net.on_host(lambda: put_leases(network, [net.request("web"), net.request("gone")]))
    record = pathlib.Path(net.state_root, "sandboxes/web/record.json")
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({}))
    before = net.host_state()
    for check in (True, False):
        with pytest.raises(StateError, match="sandboxes use the network lab: web"):
            converge(net, check=check, state="absent")
        for options in ({"subnet": "10.10.0.0/24"}, {"bridge": "kata-x"}, {"gateway": "10.9.0.2"}):
            with pytest.raises(StateError, match="while sandboxes use the network: gone, web"):
                converge(net, check=check, **options)
    assert net.host_state() == before
    assert converge(net, state="absent", force=True)["changed"]


def test_a_port_that_the_host_uses_is_refused(net: NetworkLab) -> None:
    converge(net, **OPTIONS)
    network = net.network(**OPTIONS)
    net.host.serve("0.0.0.0", 8080, "tcp")
    net.host.serve("::1", 5353, "udp")
    before = net.host_state()
    for port in ("8080:80", "127.0.0.1:8080:80", "5353:53/udp"):
        with pytest.raises(ConfigError, match="must be free, and a program of the host listens on it"):
            net.on_host(lambda port=port: plan_leases(network, [net.request("web", ports=[port])]))
    net.on_host(lambda: plan_leases(network, [net.request("web", ports=["8080:80/udp", "5353:53"])]))
    assert net.host_state() == before


def test_a_port_of_a_sandbox_of_another_network_is_refused(net: NetworkLab) -> None:
    converge(net, **OPTIONS)
    converge(net, "other", subnet="10.8.0.0/24")
    net.on_host(lambda: put_leases(net.network(**OPTIONS), [net.request("web", ports=["8080:80"])]))
    other = Network(net.network("other", "10.8.0.0/24").definition, net.state_root)
    with pytest.raises(ConfigError, match="already published by the sandbox web in the network lab"):
        net.on_host(lambda: put_leases(other, [net.request("db", ports=["8080:80"])]))


def test_ipv6_can_be_added_to_a_network_in_use(net: NetworkLab) -> None:
    converge(net, subnet="10.9.0.0/24")
    (lease,) = net.on_host(lambda: put_leases(net.network(), [net.request("web")]))
    assert lease.ipv6 == ""
    assert converge(net, subnet6="fd00:9::/64")["actions"] == ["set subnet6", "set gateway6"]
    (again,) = net.on_host(lambda: put_leases(net.network(**OPTIONS), [net.request("web")]))
    assert (again.ipv4, again.ipv6.startswith("fd00:9::")) == (lease.ipv4, True)


def test_a_host_with_router_advertisements_keeps_its_route(net: NetworkLab) -> None:
    """With forwarding the kernel ignores router advertisements unless accept_ra is 2, and a default route from one ends."""
    net.host.run("sysctl", "-qw", "net.ipv6.conf.uplink.accept_ra=1")
    converge(net, **OPTIONS)
    assert net.host.run("cat", "/proc/sys/net/ipv6/conf/uplink/accept_ra").strip() == "2"
    converge(net, state="absent")
    assert net.host.run("cat", "/proc/sys/net/ipv6/conf/uplink/accept_ra").strip() == "1"


def test_settings_return_with_the_last_network(net: NetworkLab) -> None:
    converge(net, **OPTIONS)
    converge(net, "other", subnet="10.8.0.0/24")
    converge(net, state="absent")
    assert net.host_state()["settings"]["net/ipv4/ip_forward"] == "1"
    converge(net, "other", state="absent")
    assert net.host_state()["settings"]["net/ipv4/ip_forward"] == "0"


def test_what_was_on_stays_on(net: NetworkLab) -> None:
    net.host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    converge(net, **OPTIONS)
    converge(net, state="absent")
    assert net.host_state()["settings"]["net/ipv4/ip_forward"] == "1"
