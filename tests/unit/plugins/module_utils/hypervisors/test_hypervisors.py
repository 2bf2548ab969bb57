# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of hypervisors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors import HYPERVISORS, new_hypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context


@given(st.text().filter(lambda text: text not in HYPERVISORS))
def test_no_driver_is_made_for_a_text_that_is_no_name(name):
    with pytest.raises(ConfigError) as caught:
        new_hypervisor(name, Context("web", "/run/web", "/state/web"))
    assert (caught.value.option, caught.value.wanted) == ("hypervisor", name)


def test_no_driver_is_made_for_a_name_that_is_not_known():
    with pytest.raises(ConfigError):
        new_hypervisor("Mock", Context("web", "/run/web", "/state/web"))
