# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation site: what names stand for, and where pages stand in the navigation."""

from __future__ import annotations

from typing import Optional

import pytest

from tools.docsite.names import kind_of
from tools.docsite.pages import Link, all_pages, navigation, subpages


@pytest.mark.parametrize(
    ("before", "name", "kind"),
    [
        ("A task with ", "kata_sandbox", "module"),
        ("The role ", "kata_sandbox", "role"),
        ("The modules are run by the roles kata_vmm and ", "kata_host", "role"),
        ("The role takes the options of the module ", "kata_sandbox", "module"),
        ("The module ", "kata_vmm", "role"),
        ("The filter ", "query", "filter"),
        ("A ", "query", None),
        ("the inventory plugin ", "sandboxes", "inventory"),
        ("the connection plugin ", "sandbox", "connection"),
        ("The role ", "kata_sandbox_list", None),
    ],
)
def test_the_kind_that_was_mentioned_last_counts(before: str, name: str, kind: Optional[str]) -> None:
    assert kind_of(name, before) == kind


def test_the_pages_of_a_directory_stand_below_its_readme() -> None:
    below = subpages("docs/devices/README.md")
    assert Link("disks.md", "docs/devices/disks.md") in below
    assert all(link.page.startswith("docs/devices/") for link in below)
    assert subpages("docs/networks.md") == subpages("docs/README.md") == []
    pages = all_pages()
    assert pages.index("docs/devices/README.md") + len(below) == pages.index(below[-1].page)


def test_a_group_has_its_pages_with_their_texts() -> None:
    assert navigation()["Start"] == [Link("quickstart.md", "docs/quickstart.md")]
    assert Link("Role kata_vmm", "roles/kata_vmm/README.md") in navigation()["Reference"]
