# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation site as a person sees it, in a browser. Part of `make long`, which installs the browser."""

from __future__ import annotations

import functools
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.browser import opened_page
from tests.support.checkout import ROOT

SITE = ROOT / "build/site"
PHONE = {"width": 390, "height": 844}

#: The elements of an article that stand out of the screen, and are in no box of it that scrolls.
CUT_OFF = """() => {
  const article = document.querySelector("article");
  const scrolls = (element) => element !== article
    && (["auto", "scroll"].includes(getComputedStyle(element).overflowX) || scrolls(element.parentElement));
  return [...article.querySelectorAll("*")]
    .filter((element) => element.getBoundingClientRect().right > innerWidth + 1 && !scrolls(element))
    .map((element) => element.outerHTML.slice(0, 200));
}"""

pytestmark = pytest.mark.long


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files, and prints nothing."""

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of the site, which is built first. Sphinx fails if a link leads nowhere."""
    subprocess.run([sys.executable, "-m", "tools.docsite"], cwd=ROOT, check=True)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(SITE))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    """The first page of the site."""
    with opened_page(address, seconds=120) as opened:
        yield opened


def title(page: Any) -> str:
    """The heading of the page, without the sign that links to it."""
    found: str = page.locator("article h1").inner_text()
    return found.removesuffix("¶").strip()


@pytest.mark.parametrize(
    ("link", "heading"),
    [
        ("Quickstart", "Quickstart"),
        ("Networks", "Networks"),
        ("Playbooks", "Playbooks"),
        ("Role kata_image", "kata_image"),
        ("What each hypervisor can do", "What each hypervisor can do"),
        ("Architecture", "Architecture"),
        ("Changelog", "kata.hypervisor Release Notes"),
        ("Security policy", "Security policy"),
    ],
)
def test_the_navigation_leads_to(link: str, heading: str, page: Any) -> None:
    page.locator(".sidebar-tree").get_by_role("link", name=link, exact=True).click()
    page.wait_for_load_state()
    assert title(page) == heading


def test_the_first_page_leads_to_a_module_and_its_options(page: Any) -> None:
    page.locator("article").get_by_role("link", name="kata_sandbox", exact=True).first.click()
    page.wait_for_load_state()
    assert title(page).startswith("kata.hypervisor.kata_sandbox module")

    rows = page.locator("#parameters tr:visible")
    assert rows.count() > 80
    page.get_by_role("searchbox", name="Find one of").first.fill("max_mem")
    assert [row.split()[0] for row in rows.all_inner_texts()[1:]] == ["max_memory_mb"]
    page.get_by_role("searchbox", name="Find one of").first.fill("default_memory")
    assert [row.split()[0] for row in rows.all_inner_texts()[1:]] == ["memory_mb"], "found by its alias"


def test_the_overview_leads_to_everything_that_is_documented(page: Any) -> None:
    page.locator(".sidebar-tree").get_by_role("link", name="Modules, plugins and roles").click()
    page.wait_for_load_state()
    linked = {word for text in page.locator("article li a").all_inner_texts() for word in text.split()}
    for pattern in ("plugins/modules/*.py", "plugins/filter/*.py", "plugins/inventory/*.py", "roles/*"):
        names = {path.stem for path in ROOT.glob(pattern)}
        assert names and names <= linked


def test_the_search_finds_a_module(page: Any) -> None:
    page.locator(".sidebar-search").fill("kata_sandbox")
    page.locator(".sidebar-search").press("Enter")
    page.wait_for_function("document.querySelectorAll('#search-results li').length > 10")
    found = page.locator("#search-results li a").all_inner_texts()
    assert any(text.startswith("kata.hypervisor.kata_sandbox module") for text in found)


def test_a_phone_has_the_menu_and_nothing_is_cut_off(page: Any, address: str) -> None:
    page.set_viewport_size(PHONE)
    page.locator("label[for=__navigation]:visible").first.click()
    page.locator(".sidebar-tree").get_by_role("link", name="Names, keys and user data").click()
    page.wait_for_load_state()
    assert title(page) == "Names, keys and user data"

    pages = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html") if "_static" not in path.parts)
    assert len(pages) > 90
    for path in pages:
        page.goto(address + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
        assert page.evaluate(CUT_OFF) == [], path
