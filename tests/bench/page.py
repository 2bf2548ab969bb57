# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the tables of bench runs into docs/performance.md: `python -m tests.bench.page RUN.json...`, files of `make bench JSON=RUN.json`."""

from __future__ import annotations

import importlib
import json
import pathlib
import sys
from typing import Any

from tests.bench.rows import HEADINGS, Row
from tests.bench.run import GROUPS
from tests.support.checkout import ROOT

PAGE = ROOT / "docs/performance.md"
BEGIN, END = "<!-- begin: tests/bench/page.py -->\n", "<!-- end -->\n"


def tables(runs: list[dict[str, Any]]) -> str:
    """The machine, and a table for each group of each run."""
    text = []
    for run in runs:
        groups: dict[str, list[Row]] = {}
        for row in run["rows"]:
            fields = {name: row[name] for name in ("name", "ours", "limit", "against", "aim", "unit")}
            groups.setdefault(row["group"], []).append(Row(**fields))
        for group, rows in groups.items():
            title = importlib.import_module(f"tests.bench.{GROUPS[group]}").TITLE
            text += [f"### {title}", "", _line(HEADINGS), _line(["---"] * len(HEADINGS))]
            text += [_line(row.cells()) for row in rows]
            text.append("")
    machine = "; ".join(f"{name} {value}" for name, value in runs[0]["machine"].items() if name != "load")
    loads = ", ".join(run["machine"]["load"].split()[0] for run in runs)
    return "\n".join([f"Machine: {machine}. Load at the start of each run: {loads}.", "", *text])


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Replace the tables of the page."""
    runs = [json.loads(pathlib.Path(name).read_text()) for name in sys.argv[1:]]
    page = PAGE.read_text()
    before, after = page.partition(BEGIN)[0], page.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{tables(runs)}\n{END}{after}")


if __name__ == "__main__":
    main()
