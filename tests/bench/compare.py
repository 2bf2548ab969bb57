# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bench of another commit and of this checkout, in turns on the same host.

    make bench-compare REV=COMMIT [GROUPS="task template"]
    .venv/bin/python -m tests.bench.compare COMMIT task --rounds 5

Each turn runs the bench of its own checkout for one round, so that a noisy machine is noisy for both.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Any, Iterator

from tests.bench.rows import Row, table
from tests.support.checkout import ROOT

Values = dict[tuple[str, str], list[float]]


@contextlib.contextmanager
def checkout_of(revision: str) -> Iterator[pathlib.Path]:
    """A checkout of another commit, for a while."""
    with tempfile.TemporaryDirectory(prefix="kb-") as name:
        place = pathlib.Path(name) / "checkout"
        subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "--detach", str(place), revision], check=True)
        try:
            if not (place / "tests/bench/rows.py").exists():
                raise SystemExit(f"{revision}: its bench writes no JSON, so it cannot be compared")
            link = place / ".collections/ansible_collections/kata/hypervisor"
            if not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to("../../..")
            yield place
        finally:
            subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(place)], check=False)


def measure(checkout: pathlib.Path, groups: list[str], found: Values) -> list[dict[str, Any]]:
    """Run one round of a checkout's bench, and add its values to those of the rounds before."""
    with tempfile.NamedTemporaryFile(suffix=".json") as written:
        words = ["-m", "tests.bench.run", *groups, "--rounds", "1", "--json", written.name]
        done = subprocess.run([sys.executable, *words], cwd=checkout, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{checkout}: {done.stdout[-4000:]}")
        rows: list[dict[str, Any]] = json.loads(pathlib.Path(written.name).read_text())["rows"]
    for row in rows:
        found.setdefault((row["group"], row["name"]), []).extend(row["ours"])
    return rows


def main() -> None:
    """Measure both in turns, and print the ratio of each row that both have."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("revision")
    parser.add_argument("groups", nargs="*")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    groups = arguments.groups or ["task"]
    before: Values = {}
    after: Values = {}
    with checkout_of(arguments.revision) as other:
        for number in range(arguments.rounds):
            sides = [(other, before), (ROOT, after)]
            for checkout, found in sides if number % 2 else reversed(sides):
                rows = measure(checkout, groups, found)
    units = {(row["group"], row["name"]): row["unit"] for row in rows}
    shared = [
        Row(f"{key[0]}: {key[1]}", after[key], before[key], arguments.revision, unit=units.get(key, "s"))
        for key in after
        if key in before
    ]
    sys.stdout.write(
        table(f"This checkout beside {arguments.revision}, {arguments.rounds} rounds in turns", shared) + "\n"
    )


if __name__ == "__main__":
    main()
