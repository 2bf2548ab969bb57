# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pages the site has, and its navigation. Both come from the tables of docs/README.md, which readers of the repository use too."""

from __future__ import annotations

import os
import pathlib
import re
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]
INDEX = "docs/README.md"

#: A row of a table that begins with a group's name or with a link to a page.
ROW = re.compile(r"^\| (?:\*\*(?P<group>[^*]+)\*\*|\[(?P<text>[^\]]*)\]\((?P<target>[^)#]+)\)) \|", re.MULTILINE)


class Link(NamedTuple):
    """A link to a page, by its path in the repository."""

    text: str
    page: str


def linked_pages(page: str) -> dict[str, list[Link]]:
    """The links in the first columns of a page's tables, by group."""
    groups: dict[str, list[Link]] = {}
    group = ""
    for row in ROW.finditer((ROOT / page).read_text(encoding="utf-8")):
        group = row["group"] or group
        links = groups.setdefault(group, [])
        if row["target"]:
            links.append(Link(row["text"], os.path.normpath(os.path.join(os.path.dirname(page), row["target"]))))
    return groups


def navigation() -> dict[str, list[Link]]:
    """The groups of the site's navigation."""
    return linked_pages(INDEX)


def subpages(page: str) -> list[Link]:
    """The pages of its own directory that a README lists: they stand below it in the navigation."""
    directory = os.path.dirname(page)
    if os.path.basename(page) != "README.md" or page == INDEX:
        return []
    return [link for links in linked_pages(page).values() for link in links if os.path.dirname(link.page) == directory]


def all_pages() -> list[str]:
    """Every page, in the order of the navigation."""
    pages = [INDEX]
    for links in navigation().values():
        for link in links:
            pages += [link.page, *(below.page for below in subpages(link.page))]
    return pages
