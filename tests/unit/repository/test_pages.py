# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages of the documentation: links lead somewhere, every page is listed, and what they name exists."""

from __future__ import annotations

import pathlib
import re

import pytest
import yaml

from tools.docsite.pages import all_pages, navigation

ROOT = pathlib.Path(__file__).resolve().parents[3]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
#: The site's pages that are Markdown: those of docs/ and others that docs/README.md lists.
PAGES = sorted({ROOT / "README.md", *DOCS, *(ROOT / page for page in all_pages() if page.endswith(".md"))})
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([\w-]+))?\)")


def anchors(page: pathlib.Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: pathlib.Path) -> None:
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        path = (page.parent / target) if target else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_in_full_exists(page: pathlib.Path) -> None:
    patterns = ("playbooks/*.yml", "plugins/[!m]*/*.py", "plugins/modules/*.py", "roles/*")
    names = {path.stem for pattern in patterns for path in ROOT.glob(pattern)}
    named = set(re.findall(r"\bkata\.hypervisor\.([a-z]\w+)", page.read_text(encoding="utf-8")))
    # The group of the modules' defaults is named like the namespace.
    assert named - names <= {"kata"}


def test_the_navigation_has_every_page_once() -> None:
    listed = [ROOT / page for page in all_pages()]
    assert sorted(set(listed)) == sorted(listed)
    roles = (ROOT / "roles").glob("*/README.md")
    others = (ROOT / name for name in ("CHANGELOG.rst", "CONTRIBUTING.md", "SECURITY.md"))
    assert {*DOCS, *roles, *others} <= set(listed)
    assert list(navigation()) == ["Start", "Guides", "Drivers", "Operations", "Reference", "Development"]


def test_the_readme_names_every_playbook() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    playbooks = [path.stem for path in (ROOT / "playbooks").glob("*.yml")]
    assert [name for name in playbooks if f"`{name}`" not in readme] == []


def test_the_address_of_the_repository_is_not_an_example() -> None:
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
    for field in ("repository", "homepage", "documentation", "issues"):
        assert galaxy[field].startswith("https://") and "example" not in galaxy[field]
        assert f"{galaxy['namespace']}.{galaxy['name']}" in galaxy[field]
