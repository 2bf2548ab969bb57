# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Custom assets."""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any

from adapters.answer import UNSET, Answer, attempt
from adapters.go_config import config_from_go
from ansible_collections.kata.hypervisor.plugins.module_utils.assets import (
    asset_annotations,
    create_assets,
    hash_file,
    new_asset,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.config import ASSET_FIELDS


def _create_assets(given: dict[str, Any], directory: str) -> Answer:
    config = config_from_go(_resolved(given["config"], directory))
    failure = attempt(create_assets, config, _resolved(given["annotations"], directory))[1]
    output = {}
    for kind in [*ASSET_FIELDS, "foo"]:
        path, error = attempt(config.asset_path, kind)
        output[kind] = {"path": (path or "").replace(directory, "{DIR}"), "custom": config.is_custom_asset(kind)}
        if error:
            output[kind]["error"] = error
    return Answer(output, failure.error if failure else None)


def _new_asset(given: dict[str, Any], directory: str) -> Answer:
    asset, error = attempt(new_asset, _resolved(given["annotations"], directory), given["type"])
    if error:
        return Answer(UNSET, error.error)
    described = asset and {"path": asset.path.replace(directory, "{DIR}"), "type": asset.kind, "valid": asset.valid}
    return Answer({"asset": described})


def _resolved(values: dict[str, Any], directory: str) -> dict[str, Any]:
    return {
        key: value.replace("{DIR}", directory) if isinstance(value, str) else value for key, value in values.items()
    }


def run(given: dict[str, Any]) -> Answer:
    if given["op"] == "annotations":
        path, digest = asset_annotations(given["type"])
        return Answer({"path_annotation": path, "hash_annotation": digest})
    with tempfile.TemporaryDirectory() as directory:
        for name, content in given.get("files", {}).items():
            pathlib.Path(name.replace("{DIR}", directory)).write_text(content, encoding="utf-8")
        if given["op"] == "hash":
            return Answer({"hash": hash_file(given["path"].replace("{DIR}", directory), given["hash_type"])})
        if given["op"] == "create_assets":
            return _create_assets(given, directory)
        return _new_asset(given, directory)
