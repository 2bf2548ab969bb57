# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests. Whatever is imported from here finds the collection of this checkout as `ansible_collections.kata.hypervisor`."""

from __future__ import annotations

from .support import checkout as checkout
