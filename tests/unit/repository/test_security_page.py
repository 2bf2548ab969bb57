# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/threat-model.md names tests that exist, and every advisory that code or tests answer; a border and an advisory without a test fail."""

from __future__ import annotations

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/threat-model.md").read_text(encoding="utf-8")
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
ADVISORY = re.compile(r"CVE-\d{4}-\d{4,}")


@pytest.mark.parametrize(("path", "name"), TESTS)
def test_each_test_that_it_names_exists(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def test_it_has_every_advisory_that_is_answered() -> None:
    sources = [path for folder in ("plugins", "tests") for path in (ROOT / folder).rglob("*.py")]
    answered = {number for path in sources for number in ADVISORY.findall(path.read_text(encoding="utf-8"))}
    assert TESTS and answered and answered <= set(ADVISORY.findall(PAGE))


def rows(heading: str) -> list[list[str]]:
    """The rows of the table below a heading, without that of its titles."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return table[1:]


@pytest.mark.parametrize(
    ("heading", "least"), [("What protects each border", 10), ("Advisories of similar projects", 15)]
)
def test_each_row_has_a_test(heading: str, least: int) -> None:
    tested = [row[0] for row in rows("Tests") if re.search(r"`tests/[\w/]+\.py::test_", row[-1])]
    found = [row[0] for row in rows(heading)]
    assert len(found) >= least
    assert [
        name for name in found if not any(name == one or name.startswith((f"{one} ", f"{one},")) for one in tested)
    ] == []


def test_the_table_of_tests_has_nothing_else() -> None:
    named = [
        row[0] for heading in ("What protects each border", "Advisories of similar projects") for row in rows(heading)
    ]
    assert [row[0] for row in rows("Tests") if not any(name.startswith(row[0]) for name in named)] == []


def test_each_advisory_names_the_project() -> None:
    assert [
        row[0] for row in rows("Advisories of similar projects") if not re.search(r"\([A-Z]?[\w -]+\)", row[0])
    ] == []


def test_the_page_for_operators_names_no_tests() -> None:
    page = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    assert "tests/" not in page and "(threat-model.md)" in page
