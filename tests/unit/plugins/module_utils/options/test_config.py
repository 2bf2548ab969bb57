# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validation of the configuration."""

from __future__ import annotations

import copy
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import DIGESTS, HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.options.declarations import options_of
from ansible_collections.kata.hypervisor.plugins.module_utils.options.kernel_params import Param

OPTIONS = {declared.name: declared for declared in options_of(HypervisorConfig)}


def _good(**fields):
    return dataclasses.replace(HypervisorConfig(kernel_path="/kernel", initrd_path="/initrd"), **fields)


@given(
    st.builds(
        HypervisorConfig,
        num_vcpus=st.integers(0, 300),
        kernel_path=st.sampled_from(["", "/k"]),
        image_path=st.sampled_from(["", "/i"]),
        initrd_path=st.sampled_from(["", "/r"]),
        memory_path=st.sampled_from(["", "/m"]),
        boot_to_be_template=st.booleans(),
        boot_from_template=st.booleans(),
    )
)
def test_valid_changes_all_or_nothing(config):
    before = copy.deepcopy(config)
    try:
        config.valid()
    except ConfigError:
        assert config == before
        return
    assert config.num_vcpus and config.memory_size and config.default_max_vcpus and config.block_device_driver
    again = copy.deepcopy(config)
    again.valid()
    assert again == config


def test_the_architecture_sets_the_maximum_of_vcpus():
    config = _good()
    config.valid(max_vcpus=248)
    assert config.default_max_vcpus == 248


def test_a_new_configuration_shares_nothing_with_another():
    HypervisorConfig().kernel_params.append(Param("a"))
    assert HypervisorConfig().kernel_params == []


def test_a_good_configuration_is_consistent_and_stays_as_it_is():
    config = _good(num_vcpus=2, default_max_vcpus=4, kernel_params=[Param("quiet"), Param("ip", "a=b,c")])
    before = copy.deepcopy(config)
    config.check_consistent()
    assert config == before


@pytest.mark.parametrize(
    ("option", "fields"),
    [
        ("kernel_path", {"kernel_path": ""}),
        ("kernel_path", {"kernel_path": "relative/kernel"}),
        ("initrd_path", {"initrd_path": ""}),
        ("image_path", {"image_path": "/image"}),
        ("vcpus", {"num_vcpus": 5, "default_max_vcpus": 4}),
        ("vcpus", {"num_vcpus": -1}),
        ("vcpus", {"num_vcpus": 1 << 32}),
        ("vcpus", {"num_vcpus": True}),
        ("memory_mb", {"memory_size": "128"}),
        ("memory_mb", {"memory_size": 1025, "max_memory_mb": 1024}),
        ("memory_slots", {"mem_slots": 256}),
        ("shared_fs", {"shared_fs": "nfs"}),
        ("shared_fs", {"shared_fs": None}),
        ("debug", {"debug": "yes"}),
        ("machine_type", {"hypervisor_machine_type": "q35\n-device"}),
        ("kernel_path", {"kernel_path": "/kernel\0"}),
        ("kernel_params", {"kernel_params": [Param("quiet init", "/bin/sh")]}),
        ("kernel_params", {"kernel_params": [Param("quiet", "a\nb")]}),
        ("kernel_params", {"kernel_params": [Param("", "value")]}),
        ("kernel_params", {"kernel_params": [Param("a=b", "c")]}),
        ("memory_path", {"boot_to_be_template": True}),
    ],
)
def test_what_is_wrong_is_named(option, fields):
    with pytest.raises(ConfigError) as caught:
        _good(**fields).check_consistent()
    assert caught.value.option == option


DISK = {"kernel_path": "", "initrd_path": "", "image_path": "/disk"}


@pytest.mark.parametrize(
    ("fields", "firmware"),
    [
        ({**DISK, "boot": "auto"}, True),
        ({**DISK, "boot": "firmware"}, True),
        ({**DISK, "boot": "auto", "kernel_path": "/kernel"}, False),
        ({**DISK, "boot": "kernel", "kernel_path": "/kernel"}, False),
        ({**DISK, "boot": "", "kernel_path": "/kernel"}, False),
        ({"boot": "auto"}, False),
    ],
)
def test_what_starts_the_guest(fields, firmware):
    config = _good(**fields)
    config.check_consistent()
    config.valid()
    assert config.boots_firmware is firmware


def test_a_hypervisor_without_the_option_needs_a_kernel():
    config = _good(**DISK)
    config.check_consistent()
    with pytest.raises(ConfigError, match="needs a guest kernel") as caught:
        config.valid()
    assert caught.value.option == "kernel_path"


@pytest.mark.parametrize(
    ("option", "fields"),
    [
        ("kernel_path", {"boot": "kernel"}),
        ("kernel_path", {"boot": "auto", "boot_to_be_template": True, "memory_path": "/m"}),
        ("kernel_path", {"boot": "auto", "initrd_path": "/initrd"}),
        ("kernel_path", {"boot": "firmware", "kernel_path": "/kernel"}),
        ("initrd_path", {"boot": "firmware", "initrd_path": "/initrd"}),
        ("initramfs_path", {"initramfs_path": "/initramfs"}),
        ("kernel_params", {"kernel_params": [Param("quiet")]}),
        ("image_path", {"boot": "firmware", "image_path": ""}),
        ("boot", {"boot": "firmware", "boot_to_be_template": True, "memory_path": "/m"}),
        ("boot", {"boot": "bios"}),
        ("firmware_vars_path", {"firmware_vars_path": "/vars"}),
        ("firmware_vars_path", {"firmware_vars_path": "vars"}),
    ],
)
def test_what_a_disk_with_a_boot_loader_cannot_have_is_named(option, fields):
    with pytest.raises(ConfigError) as caught:
        _good(**{**DISK, **fields}).check_consistent()
    assert caught.value.option == option


def test_a_template_has_no_variables_of_a_firmware():
    fields = {"firmware_path": "/code", "firmware_vars_path": "/vars"}
    _good(**fields).check_consistent()
    with pytest.raises(ConfigError) as caught:
        _good(**fields, boot_to_be_template=True, memory_path="/m").check_consistent()
    assert caught.value.option == "firmware_vars_path"


@pytest.mark.parametrize("option", sorted(DIGESTS))
@pytest.mark.parametrize(
    "digest", ["sha512:12", "md5:" + "0" * 32, "0" * 64, "sha256:" + "g" * 64, ":" + "0" * 128, "x"]
)
def test_what_is_no_digest_is_refused_by_name(option, digest):
    config = _good(**{option: digest})
    with pytest.raises(ConfigError, match="must be a digest") as caught:
        config.check_consistent()
    assert (caught.value.option, caught.value.wanted) == (option, digest)


@given(st.sampled_from(sorted(OPTIONS)), st.one_of(st.text(), st.integers(), st.booleans(), st.none()))
def test_any_value_is_taken_or_refused_by_name(name, value):
    declared = OPTIONS[name]
    if declared.type == "list":
        return
    config = _good(**{declared.attribute: value})
    try:
        config.check_consistent()
    except ConfigError as error:
        assert error.option
