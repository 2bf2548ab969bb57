# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sandboxes as hosts of an inventory: what is taken from an answer, and which names, groups and variables follow."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.batch import OBSERVED_STATES
from ansible_collections.kata.hypervisor.plugins.plugin_utils.sandbox_hosts import (
    MOST_SANDBOXES,
    STATES,
    SandboxHost,
    group_names,
    host_names,
    ssh_address,
    usable_facts,
    variables,
)

WEB = {"id": "web-1", "state": "started", "hypervisor": "qemu", "labels": {"tier": "web"}, "vcpus": 1, "memory_mb": 256}


def sandbox(host: str, identity: str, **facts: Any) -> SandboxHost:
    return SandboxHost(host, {"id": identity, "state": "started", **facts}, False)


def test_the_states_are_those_of_the_engine() -> None:
    assert STATES == OBSERVED_STATES


def test_only_declared_facts_are_taken() -> None:
    assert usable_facts("a", [{**WEB, "ansible_connection": "local", "pid": 1}]) == ([WEB], [])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"id": "-oProxyCommand=x"}, "id must be"),
        ({"id": "../etc"}, "id must be"),
        ({"id": 5}, "id must be text"),
        ({"state": "{{ 1 }}"}, "state must be one of"),
        ({"hypervisor": "Q Q"}, "hypervisor must be"),
        ({"labels": {"a b": "x"}}, "the name of a label must be"),
        ({"labels": {"a": "\x1b[2J"}}, "printable text"),
        ({"labels": ["a"]}, "labels must be"),
        ({"network": {"network": "default", "address": "-oProxyCommand=x"}}, "address must be"),
        ({"network": {"network": "default", "ports": "22"}}, "ports must be"),
        ({"run_dir": "relative"}, "must be an absolute path"),
        ({"guest": {"os": {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i": {}}}}}}}}}}}}, "levels"),
    ],
)
def test_an_answer_that_cannot_be_used_is_left_out(changed: dict[str, Any], message: str) -> None:
    usable, errors = usable_facts("a", [{**WEB, **changed}, {**WEB, "id": "other"}])
    assert [facts["id"] for facts in usable] == ["other"]
    assert len(errors) == 1 and message in errors[0]


def test_a_host_has_a_limit_of_sandboxes() -> None:
    answer = [{"id": f"s{number}", "state": "stopped"} for number in range(MOST_SANDBOXES + 5)]
    usable, errors = usable_facts("a", answer)
    assert len(usable) == MOST_SANDBOXES
    assert "more than" in errors[0] and len(errors) == 1


def names_of(*sandboxes: SandboxHost, taken: tuple[str, ...] = (), **wanted: str) -> tuple[list[str | None], list[str]]:
    by_key = {one.key: wanted[one.facts["id"]] for one in sandboxes if one.facts["id"] in wanted}
    names, errors = host_names(sandboxes, by_key, taken)
    return [names.get(one.key) for one in sandboxes], errors


def test_a_sandbox_is_called_by_its_id() -> None:
    assert names_of(sandbox("a", "web-1"), sandbox("b", "db")) == (["web-1", "db"], [])


def test_sandboxes_with_the_same_id_are_called_by_their_hosts_too() -> None:
    one, other = sandbox("a", "web"), sandbox("b", "web")
    assert names_of(one, other)[0] == ["web.a", "web.b"]
    # The order of the answers changes nothing.
    assert names_of(other, one)[0] == ["web.b", "web.a"]


@pytest.mark.parametrize("name", ["kvm-1", "group_of_another", "all", "ungrouped", "localhost"])
def test_no_sandbox_takes_the_name_of_something_else(name: str) -> None:
    assert names_of(sandbox("a", name), taken=("kvm-1", "group_of_another"))[0] == [f"{name}.a"]


def test_a_name_that_cannot_be_unique_is_an_error() -> None:
    # Both would be a.b.c.
    sandboxes = [sandbox("c", "a.b"), sandbox("d", "a.b"), sandbox("b.c", "a"), sandbox("e", "a")]
    names, errors = names_of(*sandboxes)
    assert names == [None, "a.b.d", None, "a.e"]
    assert len(errors) == 1 and "sandbox a.b of c and sandbox a of b.c cannot be called a.b.c" in errors[0]


def test_a_wanted_name() -> None:
    assert names_of(sandbox("a", "web"), sandbox("a", "db"), web="front", db="front") == (
        ["front.a"] * 0 + [None, None],
        [
            "sandbox web of a and sandbox db of a cannot be called front.a, which must be a host name that nothing else has"
        ],
    )
    assert names_of(sandbox("a", "web"), web="front")[0] == ["front"]
    names, errors = names_of(sandbox("a", "web"), web="\x1b[2J")
    assert names == [None]
    assert "cannot be called \\x1b[2J" in errors[0]


def test_groups() -> None:
    one = sandbox("kvm-1.example.com", "web-12", hypervisor="qemu", network={"network": "back-end"})
    one.facts["labels"] = {"tier": "web", "example.com/owner": "team a", "old": ""}
    assert sorted(group_names(one)) == [
        "host_kvm_1_example_com",
        "hypervisor_qemu",
        "label_example_com_owner_team_a",
        "label_old",
        "label_tier_web",
        "network_back_end",
        "sandbox_web",
        "sandboxes",
        "state_started",
    ]
    assert group_names(sandbox("a", "7"), "vm_") == ["vm_sandboxes", "vm_state_started", "vm_host_a"]
    assert "sandbox_db" in group_names(sandbox("a", "db"))


def test_variables() -> None:
    assert variables(sandbox("a", "web", labels={"tier": "web"})) == {
        "kata_sandbox_id": "web",
        "kata_sandbox_host": "a",
        "kata_sandbox": {"id": "web", "state": "started", "labels": {"tier": "web"}},
    }
    default = {"run_dir": "/run/kata-hypervisor/web", "state_dir": "/var/lib/kata-hypervisor/sandboxes/web"}
    assert set(variables(sandbox("a", "web", **default))) == {"kata_sandbox_id", "kata_sandbox_host", "kata_sandbox"}
    own = variables(sandbox("a", "web", run_dir="/srv/run/web", state_dir="/srv/state/sandboxes/web"))
    assert (own["kata_sandbox_run_dir"], own["kata_sandbox_state_dir"]) == ("/srv/run", "/srv/state")
    assert variables(sandbox("a", "web")._replace(stale=True))["kata_sandbox_stale"] is True


@pytest.mark.parametrize(
    ("network", "address"),
    [
        (None, None),
        ({"network": "default", "address": "10.61.0.2", "address6": "fd00::2"}, ("10.61.0.2", 22)),
        ({"network": "default", "address": "", "address6": "fd00::2"}, ("fd00::2", 22)),
        ({"network": "user", "ports": ["8080:80"]}, None),
        ({"network": "user", "ports": ["8080:80", "2222:22"]}, ("127.0.0.1", 2222)),
        ({"network": "user", "ports": ["192.0.2.1:2222:22"]}, ("192.0.2.1", 2222)),
        ({"network": "user", "ports": ["2222:22/udp"]}, None),
        ({"network": "user", "ports": ["nonsense"]}, None),
    ],
)
def test_the_way_of_ssh(network: Any, address: Any) -> None:
    assert ssh_address({"network": network} if network else {}) == address
