# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An assertion that fails in a helper shows its values, as one in a test does."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.support.cgroup_orders", "tests.support.jail_adversary", "tests.support.lab")
