# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages of the documentation: links lead somewhere, every page is listed, and what they name exists."""

from __future__ import annotations

import pathlib
import re

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
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


def test_every_page_is_listed() -> None:
    index = ROOT / "docs/README.md"
    listed = {(index.parent / target).resolve() for target, _anchor in LINK.findall(index.read_text(encoding="utf-8"))}
    devices = ROOT / "docs/devices/README.md"
    listed |= {(devices.parent / target).resolve() for target, _anchor in LINK.findall(devices.read_text("utf-8"))}
    pages = {page for page in PAGES if page.is_relative_to(ROOT / "docs") and page != index}
    assert pages <= listed


def test_the_readme_names_every_playbook() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    playbooks = [path.stem for path in (ROOT / "playbooks").glob("*.yml")]
    assert [name for name in playbooks if f"`{name}`" not in readme] == []


def test_the_address_of_the_repository_is_not_an_example() -> None:
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
    for field in ("repository", "homepage", "documentation", "issues"):
        assert galaxy[field].startswith("https://") and "example" not in galaxy[field]
        assert f"{galaxy['namespace']}.{galaxy['name']}" in galaxy[field]
