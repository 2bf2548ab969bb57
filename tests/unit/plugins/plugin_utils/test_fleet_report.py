# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a fleet: what is a problem, and nothing that a host says is taken on trust."""

from __future__ import annotations

import datetime
import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.plugin_utils.fleet_report import (
    METRICS,
    age,
    as_json,
    as_metrics,
    as_page,
    fleet_report,
)
from ansible_collections.kata.hypervisor.plugins.plugin_utils.sandbox_columns import table_lines, table_that_fits

NOW = datetime.datetime(2026, 11, 26, 12, tzinfo=datetime.timezone.utc)
WEB = {
    "id": "web",
    "hypervisor": "qemu",
    "state": "started",
    "vcpus": 2,
    "memory_mb": 512,
    "created_at": "2026-11-24T11:00:00Z",
    "network": {"network": "default", "address": "10.61.0.2", "ports": ["8080:80"]},
    "labels": {"tier": "web"},
}
#: A line of a sample, as Prometheus reads it.
SAMPLE = re.compile(r'(\w+)(\{(\w+="([^"\\\n]|\\[\\"n])*",?)*\})? -?\d+')
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def report(**hosts: Any) -> dict[str, Any]:
    """A report about what hosts registered."""
    return fleet_report(hosts, NOW)


def problems(**facts: Any) -> list[str]:
    """The problems of one sandbox."""
    return [one["what"] for one in report(host1={"sandboxes": [{**WEB, **facts}]})["problems"]]


def test_hosts_and_their_sandboxes() -> None:
    found = report(host2={"sandboxes": []}, host1={"sandboxes": [WEB, {**WEB, "id": "db", "state": "paused"}]})
    assert [(host["name"], host["states"]) for host in found["hosts"]] == [
        ("host1", {"paused": 1, "started": 1}),
        ("host2", {}),
    ]
    web = found["sandboxes"][0]
    assert (web["host"], web["id"], web["age"], web["network"]["address"]) == ("host1", "web", "2d", "10.61.0.2")
    assert found["problems"] == []
    assert json.loads(as_json(found)) == found


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {},
        {"unreachable": True, "msg": "no route", "sandboxes": [WEB]},
        {"failed": True, "msg": "no route"},
        "text",
    ],
)
def test_a_host_without_an_answer_is_a_problem(answer: Any) -> None:
    found = report(host1=answer)
    told = answer["msg"] if isinstance(answer, dict) and "msg" in answer else "it gave no answer"
    assert found["problems"] == [{"host": "host1", "id": "", "what": told}] and found["sandboxes"] == []
    assert 'kata_host_up{host="host1"} 0' in as_metrics(found)


def test_what_is_a_problem_of_a_sandbox() -> None:
    assert problems() == []
    assert problems(state="stopped") == []
    assert problems(state="crashed", reason="QEMU is gone") == ["crashed: QEMU is gone"]
    assert problems(leftovers=["/sys/class/net/kh1"]) == ["an ended VM left 1 things on the host"]
    old = {"hypervisor": "firecracker", "hypervisor_version": "1.13.1"}
    (told,) = problems(**old)
    assert told.startswith("Firecracker 1.13.1 is vulnerable: CVE-2026-1386")
    assert problems(**old, options={"jailer": "none"}) == []
    assert "CVE-2026-5747" in " ".join(problems(**old, options={"jailer": "none", "enable_pci": True}))
    assert problems(**{**old, "hypervisor_version": "1.16.1"}) == []


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ("2026-11-26T11:59:30Z", "30s"),
        ("2026-11-26T11:48:00Z", "12m"),
        ("2026-11-26T06:59:00Z", "5h"),
        ("2026-11-22T12:00:00Z", "4d"),
        ("2026-11-26T13:00:00Z", "0s"),
        ("yesterday", ""),
        ("", ""),
    ],
)
def test_ages(since: str, expected: str) -> None:
    assert age(since, NOW) == expected


def test_metrics_are_what_prometheus_reads() -> None:
    text = as_metrics(report(**{'host"1\\': {"sandboxes": [{**WEB, "id": "a\nb"}]}}))
    lines = text.splitlines()
    assert text.endswith("\n") and 'kata_sandbox_memory_bytes{host="host\\"1\\\\",id="a\\\\nb"} 536870912' in lines
    assert [line for line in lines if not line.startswith("#") and not SAMPLE.fullmatch(line)] == []
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert sorted(names) == sorted(METRICS) and len(names) == len(set(names))


def test_no_text_of_a_host_ends_the_script_of_the_page() -> None:
    evil = "</script><script>alert(1)</script><!--"
    page = as_page(report(host1={"sandboxes": [{**WEB, "labels": {evil: evil}}]}), '<script>"@REPORT@"</script>')
    assert page.count("<") == 2
    assert json.loads(page[8:-9])["sandboxes"][0]["labels"] == {evil: evil}


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(min_size=1), VALUES, max_size=3), VALUES)
def test_whatever_a_host_answers(facts: dict[str, Any], answer: Any) -> None:
    for found in (report(host1=answer), report(host1={"sandboxes": [{**WEB, **facts}, facts, answer]})):
        assert all(SAMPLE.fullmatch(line) or line.startswith("#") for line in as_metrics(found).splitlines())
        assert json.loads(as_json(found)) == found
        assert table_that_fits(found["sandboxes"], 80) is not None


def test_a_table_fits_its_terminal() -> None:
    sandboxes = report(host1={"sandboxes": [WEB] * 3})["sandboxes"]
    wide = table_that_fits(sandboxes, 0)
    assert wide is not None
    assert wide[0].split() == [
        "HOST",
        "ID",
        "HYPERVISOR",
        "STATE",
        "VCPUS",
        "MEMORY",
        "MiB",
        "ADDRESS",
        "PORTS",
        "LABELS",
        "AGE",
    ]
    for width in range(4, 100):
        lines = table_that_fits(sandboxes, width)
        assert lines is not None and len(lines) == 4 and max(map(len, lines)) <= width
        assert lines[0].startswith("ID"[:width]) or lines[0].startswith("HOST"[:width])
    assert table_that_fits(["web"], 80) is None and table_that_fits([], 80) is not None
    assert table_lines(sandboxes, ["id", "vcpus"]) == ["ID   VCPUS", *["web      2"] * 3]
