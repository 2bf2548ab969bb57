# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The texts that a network makes: rules, dnsmasq's files, configuration for other programs, the unit. What they do is tested with real programs
in tests/integration/networks; here is what they must never contain, and what must not be missing."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.module_utils.options.network_options import parse_egress, parse_ports
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks import managers, unit
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks.addresses import assign
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks.definition import (
    Network,
    make_definition,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks.dnsmasq import (
    configuration,
    dhcp_hosts,
    hosts,
    without_stale,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks.lease import Lease, LeaseRequest
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks.nftables import removal, ruleset

NETWORK = Network(make_definition("lab", "10.9.0.0/24", subnet6="fd00:9::/64"))


def lease(name: str, address: str, number: int = 1, **options: Any) -> Lease:
    """A lease of the network."""
    mac = f"52:54:00:00:00:{number:02x}"
    (made,) = assign(NETWORK.definition, {}, [LeaseRequest(name, name, f"tap-{name}", mac, address=address, **options)])
    return made


WEB = lease("web", "10.9.0.5", 1, ports=parse_ports(["8080:80"]), egress=parse_egress("none"))
DB = lease("db", "10.9.0.6", 2, isolated=True)


# --- rules -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leases", [[], [WEB], [WEB, DB]])
def test_only_tables_of_our_own_are_named(leases: list[Lease]) -> None:
    text = ruleset(NETWORK, leases)
    assert set(re.findall(r"\btable (?:inet|bridge) (\S+)", text)) == {"kata-hypervisor-lab"}
    assert "flush" not in text
    # A table is created before it is deleted, so that the transaction does not fail if it does not exist.
    for family in ("inet", "bridge"):
        assert text.index(f"table {family} ") < text.index(f"delete table {family} ")
    assert text.startswith(removal(NETWORK.table))


def test_the_order_of_leases_does_not_matter() -> None:
    assert ruleset(NETWORK, [WEB, DB]) == ruleset(NETWORK, [DB, WEB])


def test_every_tap_has_rules_of_its_own() -> None:
    text = ruleset(NETWORK, [WEB, DB])
    for one in (WEB, DB):
        assert f'"{one.tap}" : goto from-{one.key}' in text
        assert f"chain from-{one.key} {{" in text
        assert f"ether saddr != {one.mac} drop" in text
    # Every chain about a tap ends with a refusal.
    chains = re.findall(r"chain from-[0-9a-f]{12} \{\n(.*?)\n\t\}", text, re.DOTALL)
    assert [chain.splitlines()[-1].strip() for chain in chains] == ["drop", "drop"]


def test_no_protocol_has_a_name_that_needs_a_file() -> None:
    """Minimal hosts have no /etc/protocols."""
    text = ruleset(NETWORK, [WEB, DB])
    assert re.findall(r"l4proto [^0-9]*[a-z]", text) == []


def test_names_are_unique_among_many_sandboxes() -> None:
    leases = assign(
        NETWORK.definition,
        {},
        [LeaseRequest(f"s{n}", f"s{n}", f"tap{n}", f"52:54:00:00:{n // 256:02x}:{n % 256:02x}") for n in range(250)],
    )
    assert len({one.key for one in leases}) == 250


# --- dnsmasq ---------------------------------------------------------------------------------------------------------


def test_dnsmasq_answers_only_on_the_bridge_and_gives_nothing_to_strangers() -> None:
    lines = configuration(NETWORK, "dnsmasq", "nogroup").splitlines()
    assert {"interface=kata-lab", "except-interface=lo", "bind-interfaces", "user=dnsmasq"} <= set(lines)
    assert "dhcp-ignore=tag:!known" in lines
    assert not [line for line in lines if line.startswith("server=")]
    with_range = make_definition("lab", "10.9.0.0/24", dhcp_range="10.9.0.200-10.9.0.210", dns_servers=["192.0.2.1"])
    lines = configuration(Network(with_range), "nobody", "nogroup").splitlines()
    assert "dhcp-ignore=tag:!known" not in lines
    assert {"no-resolv", "server=192.0.2.1"} <= set(lines)


def test_each_sandbox_has_its_line() -> None:
    assert dhcp_hosts([DB, WEB]).splitlines() == [
        "52:54:00:00:00:01,10.9.0.5,[fd00:9::5],web,infinite",
        "52:54:00:00:00:02,10.9.0.6,[fd00:9::6],db,infinite",
    ]
    assert hosts([WEB]).splitlines() == ["10.9.0.5 web.lab.internal web", "fd00:9::5 web.lab.internal web"]


def test_what_dnsmasq_remembers_of_others_is_forgotten() -> None:
    kept = "0 52:54:00:00:00:01 10.9.0.5 web 01:52:54:00:00:00:01\n"
    six = "duid 00:01:00:01:32:9a:9a:86:52:54:00:23:19:ce\n0 1 fd00:9::5 web 00:03\n"
    gone = "0 52:54:00:00:00:07 10.9.0.6 old *\n"
    assert without_stale(kept + six, NETWORK, [WEB]) == kept + six
    assert without_stale(kept + gone + six + "0 1 fd00:9::7 old 00:03\n", NETWORK, [WEB]) == kept + six
    assert without_stale(kept, NETWORK, [DB]) == ""
    ranged = Network(make_definition("lab", "10.9.0.0/24", dhcp_range="10.9.0.200-10.9.0.210"))
    stranger = "1795680000 52:54:00:99:99:99 10.9.0.200 * 01\n"
    assert without_stale(stranger, ranged, []) == stranger
    assert without_stale("", NETWORK, []) == ""


@given(st.text(max_size=200))
def test_whatever_is_in_dnsmasqs_file_it_is_read(text: str) -> None:
    again = without_stale(text, NETWORK, [WEB])
    assert without_stale(again, NETWORK, [WEB]) == again


# --- other programs --------------------------------------------------------------------------------------------------


def test_other_managers_ignore_the_interfaces(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directories = {name: tmp_path / name for name in ("conf.d", "networkd", "netif")}
    monkeypatch.setattr(managers, "NETWORK_MANAGER", (str(directories["conf.d"]), str(tmp_path / "no"), ("false",)))
    monkeypatch.setattr(managers, "NETWORKD", (str(directories["networkd"]), str(directories["netif"]), ("true",)))
    assert managers.ensure(NETWORK) == []
    for path in directories.values():
        path.mkdir()
    assert managers.differences(NETWORK) == managers.ensure(NETWORK) != []
    assert managers.differences(NETWORK) == []
    (manager,), (networkd,) = directories["conf.d"].iterdir(), directories["networkd"].iterdir()
    assert "match-device=interface-name:kata-lab;interface-name:kh*\nmanaged=0\n" in manager.read_text()
    assert "Name=kata-lab kh*\n" in networkd.read_text() and "Unmanaged=yes" in networkd.read_text()
    assert {path.stat().st_mode & 0o777 for path in (manager, networkd)} == {0o644}
    managers.remove(NETWORK)
    managers.remove(NETWORK)
    assert not list(directories["conf.d"].iterdir()) and not list(directories["networkd"].iterdir())


def test_a_unit_is_installed_once_and_removed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    units, asked = tmp_path / "units", []
    monkeypatch.setattr(unit, "UNIT_DIRECTORY", str(units))
    monkeypatch.setattr(unit, "has_systemd", lambda: True)
    monkeypatch.setattr(unit, "_systemctl", lambda *words: asked.append(words))
    network = Network(NETWORK.definition, str(tmp_path / "state"))
    assert unit.install(network) == [f"unit {network.unit}"]
    assert unit.install(network) == []
    text = (units / network.unit).read_text()
    assert f'"lab" "{tmp_path}/state"' in text
    assert asked == [("daemon-reload",)]
    (program,) = (tmp_path / "state/lib").rglob("*.pyz")
    assert str(program) in text
    (units / network.unit).write_text("changed")
    assert unit.differences(network)
    assert unit.install(network)
    unit.remove(network)
    unit.remove(network)
    assert [path for path in tmp_path.rglob("*") if path.is_file() or path.is_symlink()] == []


def test_the_program_for_the_boot_runs_alone(tmp_path: pathlib.Path) -> None:
    """It has all that it imports, also what functions import."""
    import subprocess
    import sys

    from ansible_collections.kata.hypervisor.plugins.module_utils.delivery import boot_program

    program = tmp_path / "kata-network.pyz"
    program.write_bytes(boot_program.program_bytes(boot_program.NETWORK_ENTRY))
    sources = boot_program.sources(boot_program.NETWORK_ENTRY)
    assert not [path for path in sources if path.startswith(("engine/", "hypervisors/"))]
    modules = [path[:-3].replace("/", ".") for path in sources if not path.endswith("__init__.py")]
    code = "import sys, importlib; sys.path.insert(0, sys.argv[1]); [importlib.import_module(name) for name in sys.argv[2:]]"
    names = [f"{boot_program.PACKAGE}.{name}" for name in modules]
    subprocess.run([sys.executable, "-I", "-c", code, str(program), *names], check=True)
    done = subprocess.run(
        [sys.executable, "-I", str(program), "lab", str(tmp_path / "state")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "network lab: no change\n"), done.stderr
    done = subprocess.run([sys.executable, "-I", str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "usage:" in done.stderr
