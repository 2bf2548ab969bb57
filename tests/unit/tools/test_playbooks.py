# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page about playbooks: how their comments are read, and that they name every variable."""

from __future__ import annotations

import pathlib
import re

import pytest

from tools.playbooks import ROOT, code, read_playbook

PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))
#: Variables of roles and of the inventory, which their own pages document, and parts of results.
FROM_ELSEWHERE = re.compile(r"kata_|quickstart_|last$|user_input$")
COMMENT = """\
---
# Copyright (c) somebody
# GNU General Public License

# Moves things. See docs/networks.md.
# It asks first.
#   ansible-playbook move -e to=here \\
#       -e from=there
#   -e to=here  where to
#   -e query="[?a == `b`]"
#               which things,
#               in words
- name: Move
  hosts: all
"""


def test_a_comment_is_read(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "move.yml"
    path.write_text(COMMENT, encoding="utf-8")
    playbook = read_playbook(path)
    assert playbook.name == "move"
    assert playbook.purpose == ["Moves things. See docs/networks.md.", "It asks first."]
    assert playbook.command == "ansible-playbook move -e to=here \\\n    -e from=there"
    assert playbook.variables == {"to=here": "where to", 'query="[?a == `b`]"': "which things, in words"}


def test_a_playbook_without_variables_of_its_own_is_run_by_its_name(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "rest.yml"
    path.write_text("---\n# Rests.\n- name: Rest\n  hosts: all\n", encoding="utf-8")
    assert read_playbook(path) == ("rest", ["Rests."], "ansible-playbook kata.hypervisor.rest", {})


def test_code_with_backticks() -> None:
    assert (code("a=1"), code("a=`1`")) == ("`a=1`", "`` a=`1` ``")


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.stem)
def test_a_playbook_names_its_variables(path: pathlib.Path) -> None:
    playbook = read_playbook(path)
    used = set(re.findall(r"\b(\w+) (?:\| default\(|is defined|is not defined)", path.read_text(encoding="utf-8")))
    named = {example.partition("=")[0] for example in playbook.variables}
    assert playbook.purpose and all(playbook.variables.values())
    assert {name for name in used - named if not FROM_ELSEWHERE.match(name)} == set()
