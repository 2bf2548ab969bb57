# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When one VM can stand in for another."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.clone_compatibility import (
    NOT_COMPARED,
    VmConfig,
    check_factory,
    config_differences,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, Unsupported
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig

FIELDS = {field.name: field for field in dataclasses.fields(HypervisorConfig)}


def _vm(**fields):
    return VmConfig("mock", HypervisorConfig(kernel_path="/k", initrd_path="/r", **fields), "noop", None, "noopProxy")


def _changed(config, name):
    value = getattr(config, name)
    other = {bool: lambda: not value, int: lambda: value + 1, str: lambda: value + "x", list: lambda: [("a", "b")]}
    return dataclasses.replace(config, **{name: other.get(type(value), lambda: {"kernel": "/x"})()})


@given(st.sampled_from(sorted(FIELDS)))
def test_every_field_counts_but_those_a_clone_can_be_brought_over_in(name):
    config = HypervisorConfig()
    assert config_differences(config, _changed(config, name)) == ([] if name in NOT_COMPARED else [name])


def test_what_differs_is_named():
    with pytest.raises(ConfigError, match="debug, cpu_model"):
        _vm().check_serves(_vm(debug=True, cpu_model="max"))


def test_a_cache_in_another_process_cannot_be_fetched():
    check_factory(_vm(), 2, fetch_only=False)
    check_factory(_vm(), 0, fetch_only=True)
    with pytest.raises(Unsupported):
        check_factory(_vm(), 2, fetch_only=True)


@pytest.mark.parametrize("missing", ["agent_type", "proxy_type"])
def test_a_vm_of_a_factory_is_complete(missing):
    with pytest.raises(ConfigError, match=missing.replace("_", " ")):
        dataclasses.replace(_vm(), **{missing: ""}).valid()
