# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user waits for, measured on this host in one run, beside what the same work takes without our code.

    make bench                                        every group but those of ON_REQUEST
    .venv/bin/python -m tests.bench.run task many     these groups
    .venv/bin/python -m tests.bench.run --rounds 20 --json /tmp/run.json

The rounds of ours and of the limit alternate, so that a noisy machine is noisy for both. A machine's clock fails no test.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pathlib
import sys

from tests.bench.rows import as_json, machine, table

#: Each group is a module of this package with a `TITLE`, and a function `rows(rounds)` that measures and returns its rows;
#: one with a function `missing()` is skipped where that returns a reason.
GROUPS = {
    "task": "task_times",
    "template": "template_times",
    "firecracker": "firecracker_times",
    "network": "network_times",
    "inventory": "inventory_times",
    "guest": "guest_times",
    "many": "many_times",
    "density": "density_times",
    "libvirt": "libvirt_times",
    "fleet": "fleet_times",
}
#: Groups that need packages or hosts of their own.
ON_REQUEST = ("libvirt", "fleet")


def main() -> None:
    """Measure, print a table for each group as soon as it is done, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"some of {', '.join(GROUPS)}")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=pathlib.Path, help="write the rows to this file")
    arguments = parser.parse_args()
    unknown = set(arguments.groups) - set(GROUPS)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: must be some of {', '.join(GROUPS)}")
    host = machine()
    sys.stdout.write("\n".join(f"{name}: {value}" for name, value in host.items()) + "\n")
    found = []
    for group in arguments.groups or [name for name in GROUPS if name not in ON_REQUEST]:
        module = importlib.import_module(f"tests.bench.{GROUPS[group]}")
        reason = module.missing() if hasattr(module, "missing") else ""
        if reason:
            sys.stdout.write(f"\n{module.TITLE}\n  skipped: {reason}\n")
            continue
        rows = module.rows(arguments.rounds)
        sys.stdout.write("\n" + table(module.TITLE, rows) + "\n")
        sys.stdout.flush()
        found += [as_json(group, row) for row in rows]
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": host, "rows": found}, indent=2) + "\n")
    with_aim = [row for row in found if row["verdict"]]
    missed = [f"{row['group']}: {row['name']}" for row in with_aim if row["verdict"] == "missed"]
    sys.stdout.write(f"\n{len(with_aim) - len(missed)} of {len(with_aim)} aims reached\n")
    sys.stdout.write("".join(f"  missed  {name}\n" for name in missed))


if __name__ == "__main__":
    main()
