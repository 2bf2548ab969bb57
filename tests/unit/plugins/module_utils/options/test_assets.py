# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Custom assets."""

from __future__ import annotations

import hashlib

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError, ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.options.assets import (
    HASH_TYPE_ANNOTATION,
    Asset,
    asset_annotations,
    create_assets,
    hash_file,
    new_asset,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig

PATH, HASH = asset_annotations("kernel")


@pytest.fixture(name="kernel")
def _kernel(tmp_path):
    path = tmp_path / "kernel"
    path.write_bytes(b"kernel" * 300_000)
    return path


def _digest(path):
    return hashlib.sha512(path.read_bytes()).hexdigest()


def test_a_file_of_more_than_one_chunk_is_hashed_whole(kernel):
    assert hash_file(str(kernel)) == _digest(kernel)


def test_the_right_digest_gives_the_asset(kernel):
    assert new_asset({PATH: str(kernel), HASH: _digest(kernel)}, "kernel") == Asset(str(kernel), "kernel")


def test_another_digest_is_refused_and_told(kernel):
    with pytest.raises(AssetError) as caught:
        new_asset({PATH: str(kernel), HASH: "0" * 128}, "kernel")
    assert _digest(kernel) in str(caught.value)
    assert caught.value.wanted == "0" * 128


def test_without_a_digest_no_file_is_touched():
    assert new_asset({PATH: "/nonexistent/kernel"}, "kernel") == Asset("/nonexistent/kernel", "kernel")


def test_an_unknown_digest_is_refused(kernel):
    with pytest.raises(ConfigError) as caught:
        new_asset({PATH: str(kernel), HASH: _digest(kernel), HASH_TYPE_ANNOTATION: "md5"}, "kernel")
    assert caught.value.wanted == "md5"


def test_an_empty_file_is_refused_before_its_digest(tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(AssetError, match="empty"):
        hash_file(str(tmp_path / "empty"), "md5")


def test_no_asset_is_taken_when_one_is_wrong(kernel):
    config = HypervisorConfig()
    annotations = {
        PATH: str(kernel),
        asset_annotations("image")[0]: "/image",
        asset_annotations("initrd")[0]: "/initrd",
    }
    with pytest.raises(ConfigError, match="at once"):
        create_assets(config, annotations)
    assert not config.custom_assets


def test_a_custom_asset_goes_before_the_configured_path():
    config = HypervisorConfig(kernel_path="/configured")
    create_assets(config, {PATH: "/custom"})
    assert (config.kernel_asset_path(), config.kernel_path) == ("/custom", "/configured")


def test_what_is_no_asset_cannot_be_added():
    config = HypervisorConfig()
    config.add_custom_asset(None)
    config.add_custom_asset(Asset("", "kernel"))
    for asset in (Asset("relative", "kernel"), Asset("/ctl", "hypervisorctl")):
        with pytest.raises(ConfigError):
            config.add_custom_asset(asset)
    assert not config.custom_assets
