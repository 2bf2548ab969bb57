# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real browser, headless. `make long` installs it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def opened_page(address: str, seconds: int) -> Iterator[Any]:
    """A page of Chromium, opened at an address. At the end it must have had no error, and no request to anywhere else.

    :param address: a `file:` URL, or the beginning of all URLs that may be requested
    :param seconds: how long to wait for what the page should show
    """
    from playwright.sync_api import sync_playwright

    browser_path = shutil.which("chromium")
    assert browser_path, "make long installs chromium"
    complaints: list[str] = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(seconds * 1000)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if is_foreign(request.url, address) else None)
        page.goto(address)
        yield page
        assert complaints == [], "errors, or requests to the network"
        browser.close()


def is_foreign(url: str, address: str) -> bool:
    """Does a request leave the place where the page is?"""
    return url.startswith("http") and not url.startswith(address)
