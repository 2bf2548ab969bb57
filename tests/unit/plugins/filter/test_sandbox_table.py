# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status table: sandboxes of many hosts in one list, and the list as lines of text."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.filter.fleet_sandboxes import fleet_sandboxes
from ansible_collections.kata.hypervisor.plugins.filter.sandbox_table import sandbox_table

WEB = {
    "id": "web-1",
    "hypervisor": "qemu",
    "state": "started",
    "vcpus": 2,
    "memory_mb": 512,
    "changed_at": "2026-11-26T03:00:00Z",
}


def test_sandboxes_have_their_host_and_hosts_without_a_result_have_none() -> None:
    hostvars: dict[str, dict[str, Any]] = {
        "blue": {"info": {"sandboxes": [{"id": "db"}]}},
        "down": {},
        "failed": {"info": {"failed": True}},
        "other": {"info": {"sandboxes": [{"id": "not asked for"}]}},
        "red": {"info": {"sandboxes": [{"id": "web"}, {"id": "proxy", "host": "of a guest"}]}},
    }
    assert fleet_sandboxes(hostvars, ["red", "down", "failed", "blue"], "info") == [
        {"id": "web", "host": "red"},
        {"id": "proxy", "host": "red"},
        {"id": "db", "host": "blue"},
    ]


def test_a_table_has_a_heading_and_a_line_for_each_sandbox() -> None:
    rows = [{**WEB, "host": "a-host-with-a-long-name"}, {**WEB, "host": "b", "id": "db", "vcpus": 16}]
    assert sandbox_table(rows) == [
        "HOST                     ID     HYPERVISOR  STATE    VCPUS  MEMORY MiB  SINCE",
        "a-host-with-a-long-name  web-1  qemu        started      2         512  2026-11-26T03:00:00Z",
        "b                        db     qemu        started     16         512  2026-11-26T03:00:00Z",
    ]


def test_columns_can_be_chosen_and_what_is_missing_is_empty() -> None:
    rows = [{"id": "web", "state": "started", "pid": 4711}, {"id": "old", "state": "unreadable"}]
    assert sandbox_table(rows, ["id", "pid", "vcpus", "state"]) == [
        "ID    PID  VCPUS  STATE",
        "web  4711         started",
        "old               unreadable",
    ]


def test_a_table_of_nothing_is_its_heading() -> None:
    assert sandbox_table([], ["id", "memory_mb"]) == ["ID  MEMORY MiB"]


@pytest.mark.parametrize("other", [2, "web", None, {"id": "web", "state": "started"}, ["web"], [["a", "web"]], [{}]])
def test_what_is_not_a_list_of_sandboxes_stays_as_it_is(other: Any) -> None:
    assert sandbox_table(other) == other


def test_addresses_and_ports_are_shown_if_a_sandbox_has_them() -> None:
    network = {"network": "default", "address": "10.89.0.2", "ports": ["8080:80", "127.0.0.1:2222:22"]}
    assert sandbox_table(
        [{**WEB, "network": network}, {**WEB, "id": "db"}], ["id", "network.address", "network.ports"]
    ) == [
        "ID     ADDRESS    PORTS",
        "web-1  10.89.0.2  8080:80,127.0.0.1:2222:22",
        "db",
    ]
    assert sandbox_table([WEB], ["id", "network.address", "network.ports"]) == ["ID", "web-1"]
