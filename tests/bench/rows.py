# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One row of the bench table: what was measured, what it is compared with, and the aim. Less is always better."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
from importlib.metadata import version
from typing import Any, Sequence

HEADINGS = ("", "ours", "limit", "ratio", "aim", "", "limit is")


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table. The table shows medians.

    :param ours: what our code took, one value a round
    :param limit: what the same work takes without our code, measured in the same run; empty where nothing is comparable
    :param against: what the limit is
    :param aim: the greatest ratio of ours to the limit that is accepted; 0 for no aim
    :param unit: of the values: s, or MiB
    """

    name: str
    ours: Sequence[float]
    limit: Sequence[float] = ()
    against: str = ""
    aim: float = 0.0
    unit: str = "s"

    def ratio(self) -> float:
        """The median of ours divided by the median of the limit; 0 without a limit."""
        return statistics.median(self.ours) / statistics.median(self.limit) if self.limit else 0.0

    def verdict(self) -> str:
        """Whether the aim was reached; empty for a row without aim."""
        if not (self.aim and self.limit):
            return ""
        return "reached" if self.ratio() <= self.aim else "missed"

    def cells(self) -> tuple[str, ...]:
        """The row as text, in the order of HEADINGS."""
        ratio, aim = self.ratio(), self.aim if self.limit else 0.0
        return (
            self.name,
            amount(statistics.median(self.ours), self.unit),
            amount(statistics.median(self.limit), self.unit) if self.limit else "",
            f"{ratio:.2f}" if ratio else "",
            f"{aim:.2f}" if aim else "",
            self.verdict(),
            self.against,
        )


def amount(value: float, unit: str) -> str:
    """A value with its unit: seconds as ms where there is less than one."""
    if unit == "s" and value < 1:
        return f"{value * 1000:.1f} ms"
    return f"{value:.2f} {unit}"


def table(title: str, rows: Sequence[Row]) -> str:
    """The rows below a title, in columns."""
    lines = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    text = [title]
    for line in lines:
        first = f"  {line[0]:{widths[0]}}"
        numbers = [f"{cell:>{width}}" for cell, width in zip(line[1:5], widths[1:5])]
        words = [f"{cell:{width}}" for cell, width in zip(line[5:], widths[5:])]
        text.append("  ".join([first, *numbers, *words]).rstrip())
    return "\n".join(text)


def as_json(group: str, row: Row) -> dict[str, Any]:
    """A row as a JSON value."""
    return {"group": group, **dataclasses.asdict(row), "ratio": row.ratio(), "verdict": row.verdict()}


def machine() -> dict[str, str]:
    """The machine and the programs of this run."""
    model = re.search(r"^model name\s*:\s*(.+)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    qemu = ""
    if shutil.which("qemu-system-x86_64"):
        printed = subprocess.run(
            ["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=False
        ).stdout
        qemu = printed.splitlines()[0] if printed else ""
    return {
        "processors": f"{os.cpu_count()} x {model[1] if model else platform.machine()}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "ansible-core": version("ansible-core"),
        "qemu": qemu,
        "load": " ".join(f"{value:.1f}" for value in os.getloadavg()),
    }
