# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes `ansible_collections.kata.hypervisor` and `tests` importable from this checkout, whatever its directory is called.

`import tests` does it for pytest and for `python -m tests...`. A program that is run by its path, from any directory, runs this file first:

    runpy.run_path(str(pathlib.Path(__file__).resolve().parents[1] / "support/checkout.py"))
"""

from __future__ import annotations

import pathlib
import sys
import types
from typing import Optional

ROOT = pathlib.Path(__file__).resolve().parents[2]


def _package(name: str, path: Optional[pathlib.Path] = None) -> None:
    if name not in sys.modules:
        module = types.ModuleType(name)
        module.__path__ = [str(path)] if path else []
        sys.modules[name] = module


def make_importable() -> None:
    """Stand in for the packages above the collection, and for `tests`, unless somebody (ansible-test) has already."""
    _package("ansible_collections")
    _package("ansible_collections.kata")
    _package("ansible_collections.kata.hypervisor", ROOT)
    _package("tests", ROOT / "tests")


make_importable()
