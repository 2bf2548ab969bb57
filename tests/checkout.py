# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes `ansible_collections.kata.hypervisor` importable from this checkout, whatever its directory is called."""

from __future__ import annotations

import pathlib
import sys
import types
from typing import Optional

ROOT = pathlib.Path(__file__).resolve().parents[1]


def _package(name: str, path: Optional[pathlib.Path] = None) -> None:
    if name not in sys.modules:
        module = types.ModuleType(name)
        module.__path__ = [str(path)] if path else []
        sys.modules[name] = module


def make_importable() -> None:
    """Stand in for the packages above the collection, unless somebody (ansible-test) has already."""
    _package("ansible_collections")
    _package("ansible_collections.kata")
    _package("ansible_collections.kata.hypervisor", ROOT)


make_importable()
