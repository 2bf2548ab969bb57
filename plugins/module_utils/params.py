# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel parameters: pairs of a key and a value."""

from __future__ import annotations

from typing import NamedTuple


class Param(NamedTuple):
    """One parameter; an empty value stands for a bare word."""

    key: str
    value: str = ""
