# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/security.md names tests that exist, and every advisory that code or tests answer."""

from __future__ import annotations

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")
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


def test_each_advisory_has_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| CVE-")]
    assert len(rows) > 10 and all("::test_" in row for row in rows)
