# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bench table: medians, ratios and verdicts."""

from __future__ import annotations

import pytest

from tests.bench.rows import Row, as_json, table


@pytest.mark.parametrize(
    ("ours", "limit", "aim", "ratio", "verdict"),
    [
        ([1.1, 9.0, 1.0], [1.0], 1.1, 1.1, "reached"),
        ([1.2], [2.0, 1.0, 0.5], 1.1, 1.2, "missed"),
        ([1.2], [1.0], 0.0, 1.2, ""),
        ([1.2], [], 1.1, 0.0, ""),
    ],
)
def test_a_row_compares_medians(ours: list[float], limit: list[float], aim: float, ratio: float, verdict: str) -> None:
    row = Row("no-op", ours, limit, "ping", aim)
    assert row.ratio() == pytest.approx(ratio) and row.verdict() == verdict
    assert as_json("task", row)["verdict"] == verdict


def test_the_table_shows_units() -> None:
    rows = [Row("no-op", [0.25], [0.2], "ping", 1.1), Row("memory", [33.0], unit="MiB"), Row("site", [12.5])]
    lines = [line.split() for line in table("Tasks", rows).splitlines()]
    assert lines[0] == ["Tasks"]
    assert lines[2] == ["no-op", "250.0", "ms", "200.0", "ms", "1.25", "1.10", "missed", "ping"]
    assert lines[3:] == [["memory", "33.00", "MiB"], ["site", "12.50", "s"]]
