# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a fleet as a person sees it: in a browser, with 200 hosts and 5,000 sandboxes. Part of `make long`, which installs the browser."""

from __future__ import annotations

import datetime
import pathlib
from typing import Any, Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.plugin_utils.fleet_report import as_page, fleet_report
from tests.support.browser import opened_page
from tests.support.checkout import ROOT

HOSTS, SANDBOXES = 200, 25
STATES = ("started", "started", "started", "paused", "stopped")

pytestmark = pytest.mark.long


def answers() -> dict[str, Any]:
    """What the hosts answered: two problems, and a label that would be a script."""
    found: dict[str, Any] = {}
    for host in range(HOSTS):
        found[f"host{host}"] = {
            "sandboxes": [
                {
                    "id": f"box-{host}-{number}",
                    "hypervisor": "qemu",
                    "hypervisor_version": "7.2.22",
                    "state": STATES[number % len(STATES)],
                    "vcpus": 1 + number,
                    "memory_mb": 256 * (1 + host % 4),
                    "created_at": f"2026-11-{1 + number % 25:02}T00:00:00Z",
                    "network": {"network": "default", "address": f"10.61.{host}.{number + 2}"},
                    "labels": {"tier": "web" if number % 2 else "<img src=x onerror=document.title='taken'>"},
                }
                for number in range(SANDBOXES)
            ]
        }
    found["host7"]["sandboxes"][3].update(state="crashed", reason="QEMU (pid 4711) is gone")
    found["host9"] = {"unreachable": True, "msg": "ssh: connect to host host9 port 22: No route to host"}
    return found


@pytest.fixture
def page(tmp_path: pathlib.Path) -> Iterator[Any]:
    """The page in a browser."""
    report = fleet_report(answers(), datetime.datetime(2026, 11, 26, tzinfo=datetime.timezone.utc))
    path = tmp_path / "report.html"
    path.write_text(as_page(report, (ROOT / "playbooks/files/report.html").read_text()))
    with opened_page(path.as_uri(), seconds=600) as opened:
        yield opened
        assert opened.title() == "VM sandboxes", "no label is run as a script"


def cells(page: Any, column: int) -> list[str]:
    """The shown cells of a column."""
    found: list[str] = page.locator(f"#sandboxes tbody tr td:nth-child({column})").all_inner_texts()
    return found


def test_a_report_of_many_hosts(page: Any) -> None:
    total = (HOSTS - 1) * SANDBOXES
    assert page.locator("#numbers").inner_text().split() == [
        "200", "hosts", str(total), "sandboxes", str((HOSTS - 1) * SANDBOXES * 3 // 5), "started", "2", "problems",
    ]  # fmt: skip
    assert page.locator("#problem-table tbody tr").all_inner_texts() == [
        "host9\t\tssh: connect to host host9 port 22: No route to host",
        "host7\tbox-7-3\tcrashed: QEMU (pid 4711) is gone",
    ]
    assert page.locator("#count").inner_text() == f"200 of {total} sandboxes"
    assert cells(page, 2)[0] == "box-7-3", "problems come first"

    page.fill("#words", "host7 tier=web")
    assert set(cells(page, 1)) == {"host7", *(f"host{number}" for number in range(70, 80))}
    page.fill("#words", "")
    page.select_option("#state", "crashed")
    assert cells(page, 2) == ["box-7-3"]
    page.select_option("#state", "")
    page.select_option("#host", "host12")
    assert page.locator("#count").inner_text() == f"{SANDBOXES} of {SANDBOXES} sandboxes"

    page.get_by_role("button", name="vCPUs").click()
    assert [int(text) for text in cells(page, 6)] == list(range(1, SANDBOXES + 1))
    page.get_by_role("button", name="vCPUs").click()
    assert [int(text) for text in cells(page, 6)] == list(range(SANDBOXES, 0, -1))
    page.get_by_role("button", name="Sandbox").click()
    assert cells(page, 2) == [f"box-12-{number}" for number in range(SANDBOXES)], "numbers are sorted as numbers"
    page.select_option("#host", "")
    page.get_by_role("button", name="Show more").click()
    assert page.locator("#sandboxes tbody tr").count() == 2200


def test_a_phone_shows_all_of_a_sandbox(page: Any) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.select_option("#state", "crashed")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    shown = page.locator("#sandboxes tbody tr").inner_text()
    assert all(text in shown for text in ("box-7-3", "host7", "crashed", "10.61.7.5", "qemu 7.2.22"))
