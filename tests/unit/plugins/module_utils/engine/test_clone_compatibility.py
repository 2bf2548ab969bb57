# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a VM can begin from a template."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.clone_compatibility import (
    NOT_COMPARED,
    config_differences,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig

FIELDS = {field.name: field for field in dataclasses.fields(HypervisorConfig)}


def _changed(config, name):
    value = getattr(config, name)
    other = {bool: lambda: not value, int: lambda: value + 1, str: lambda: value + "x", list: lambda: [("a", "b")]}
    return dataclasses.replace(config, **{name: other[type(value)]()})


@given(st.sampled_from(sorted(FIELDS)))
def test_every_field_counts_but_those_a_clone_can_be_brought_over_in(name):
    config = HypervisorConfig()
    assert config_differences(config, _changed(config, name)) == ([] if name in NOT_COMPARED else [name])


def test_what_differs_is_named() -> None:
    config = HypervisorConfig(kernel_path="/k", initrd_path="/r")
    other = dataclasses.replace(config, debug=True, cpu_model="max", num_vcpus=4)
    assert config_differences(config, other) == ["debug", "cpu_model"]


def test_a_clone_may_have_digests_of_its_own() -> None:
    assert config_differences(HypervisorConfig(), HypervisorConfig(kernel_digest=f"sha512:{'0' * 128}")) == []
