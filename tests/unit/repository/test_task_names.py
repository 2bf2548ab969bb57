# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of tasks and plays are understood alone, in a log; and what is computed is computed in Python, not in YAML."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
FILES = sorted(
    path
    for pattern in ("roles/*/tasks/*.yml", "roles/*/handlers/*.yml", "playbooks/*.yml", "extensions/molecule/**/*.yml")
    for path in ROOT.glob(pattern)
    if path.name not in ("molecule.yml", "config.yml") and path.parent.name != "vars"
)
#: The words with which a name begins.
VERBS = {
    *(
        "Add",
        "Alter",
        "Ask",
        "Attach",
        "Boot",
        "Build",
        "Check",
        "Choose",
        "Collect",
        "Configure",
        "Confirm",
        "Convert",
    ),
    *("Copy", "Count", "Create", "Cut", "Damage", "Declare", "Extract", "Fail", "Fetch", "Find", "Gather", "Get"),
    *(
        "Increase",
        "Install",
        "Kill",
        "List",
        "Load",
        "Look",
        "Merge",
        "Pack",
        "Pause",
        "Predict",
        "Prepare",
        "Provision",
    ),
    *("Read", "Reboot", "Record", "Reload", "Remove", "Repair", "Reserve", "Resize", "Restart", "Restore", "Resume"),
    *("Roll", "Run", "Save", "Set", "Show", "Start", "Stop", "Switch", "Try", "Undo", "Unpack", "Upgrade", "Verify"),
    *("Wait", "Write", "Enable", "Complete"),
}
#: Objects that mean something only after another task.
POINTERS = {"all", "both", "it", "one", "that", "them", "these", "this", "those"}


def named(items: Any) -> Iterator[str]:
    """The names of plays and tasks, also of those in blocks; an empty one where there is none."""
    for item in items:
        yield str(item.get("name", ""))
        for part in ("pre_tasks", "tasks", "post_tasks", "handlers", "block", "rescue", "always"):
            yield from named(item.get(part, []))


def test_all_files_are_read() -> None:
    assert len(FILES) > 60
    assert sum(len(list(named(yaml.safe_load(path.read_text(encoding="utf-8"))))) for path in FILES) > 300


def is_clear(name: str) -> bool:
    """Does a name say what happens to which thing? `Remove them` does not, `Remove both sandboxes` does."""
    words = name.split()
    return len(words) > 1 and words[0].rstrip(",") in VERBS and not (len(words) < 4 and words[-1] in POINTERS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_name_is_clear(path: pathlib.Path) -> None:
    names = list(named(yaml.safe_load(path.read_text(encoding="utf-8"))))
    assert names
    assert [name for name in names if not is_clear(name)] == []


@pytest.mark.parametrize(
    "name", ["Have it run from now on", "Remove them", "Tell where it is", "Check", "Switch to it", ""]
)
def test_some_names_are_not_clear(name: str) -> None:
    assert not is_clear(name)


def test_yaml_holds_no_programs() -> None:
    """A loop or an assignment of Jinja in YAML is a filter that nobody has written."""
    files = [*(ROOT / "playbooks").rglob("*.yml"), *(ROOT / "roles").rglob("*.yml")]
    assert len(files) > 50
    program = re.compile(r"\{%-? *(for|set|macro)\b|\.append\(")
    assert [path for path in files if program.search(path.read_text(encoding="utf-8"))] == []
