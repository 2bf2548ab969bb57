# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generates docs/playbooks.md from the comments at the beginning of the playbooks.

Usage: python -m tools.playbooks [--check]

A comment says what the playbook does, then lists its command, if it needs variables, and its variables:

    # Shows the logs of sandboxes. See docs/console-and-logs.md.
    #   -e lines=100   how many lines of each log; 50 by default

With `--check` nothing is written, and the exit code is 1 when the page is not current.
"""

from __future__ import annotations

import pathlib
import re
import sys
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/playbooks.md"

#: An indented line of a comment: a variable with its example and its meaning, or more of the command or meaning above.
VARIABLE = re.compile(r"  +-e (?P<example>\w+=(?:\"[^\"]*\"|\S*))(?:  +(?P<meaning>.*))?")

INTRODUCTION = """\
<!--
Copyright (c) 2026 The kata.hypervisor authors
GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
SPDX-License-Identifier: GPL-3.0-or-later
-->

# Playbooks

`make docs` generates this page from the comments at the beginning of the playbooks, and a test checks that it is current.

A playbook is run by its name, without a file: `ansible-playbook -i INVENTORY kata.hypervisor.status`. It works on all hosts of the inventory, or on those that
`-e target=GROUP` or `--limit` selects, as root: set `ansible_become: true` for hosts where Ansible logs in as another user. The other variables are
set in the same way.
"""


class Playbook(NamedTuple):
    """What the comment of a playbook says."""

    name: str
    purpose: list[str]
    command: str
    variables: dict[str, str]


def read_playbook(path: pathlib.Path) -> Playbook:
    """The comment at the beginning of a playbook."""
    comment = re.split(r"^- ", path.read_text(encoding="utf-8"), maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line[2:] for line in comment.splitlines() if line.startswith("# ")]
    purpose = [line for line in lines if not line.startswith((" ", "Copyright", "GNU General", "SPDX-"))]
    command: list[str] = []
    variables: dict[str, str] = {}
    for line in lines:
        found = VARIABLE.fullmatch(line)
        if found and not (command and command[-1].endswith("\\")):
            variables[found["example"]] = found["meaning"] or ""
        elif line.startswith(" ") and variables:
            last = list(variables)[-1]
            variables[last] = f"{variables[last]} {line.strip()}".strip()
        elif line.startswith(" "):
            command.append(line.strip() if not command else "    " + line.strip())
    return Playbook(
        path.stem, purpose, "\n".join(command) or f"ansible-playbook kata.hypervisor.{path.stem}", variables
    )


def section(playbook: Playbook) -> str:
    """A playbook's part of the page."""
    purpose = re.sub(r"docs/([\w-]+\.md)", r"[\1](\1)", "\n".join(playbook.purpose))
    lines = ["", f"## `{playbook.name}`", "", purpose, "", *(f"    {line}" for line in playbook.command.splitlines())]
    if playbook.variables:
        lines += ["", "| variable | meaning |", "|---|---|"]
    lines += [f"| {code(example)} | {meaning} |" for example, meaning in playbook.variables.items()]
    return "\n".join(lines) + "\n"


def code(text: str) -> str:
    """A cell of a table that shows a text as it is."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def page() -> str:
    """The text of the page, in the order in which the README lists the playbooks."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8").partition("| playbook |")[2]
    paths = sorted((ROOT / "playbooks").glob("*.yml"), key=lambda path: readme.index(f"`{path.stem}`"))
    return INTRODUCTION + "".join(section(read_playbook(path)) for path in paths)


def main() -> int:
    """Write the page, or compare it."""
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page(), encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page():
        print(f"{PAGE} is not current; run make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
