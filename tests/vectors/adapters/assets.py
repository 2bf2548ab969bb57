# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Custom assets."""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any

from adapters.answer import UNSET, Answer, attempt
from adapters.fields import Fields, raw_bytes, unknown_operation, write_scratch
from adapters.go_config import config_from_go
from ansible_collections.kata.hypervisor.plugins.module_utils.options.assets import (
    asset_annotations,
    create_assets,
    hash_file,
    new_asset,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import ASSET_FIELDS


def _create_assets(given: Fields, directory: str) -> Answer:
    config = config_from_go(_resolved(given.table("config"), directory))
    failure = attempt(create_assets, config, _annotations(given, directory))[1]
    output = {}
    for kind in [*ASSET_FIELDS, "foo"]:
        path, error = attempt(config.asset_path, kind)
        output[kind] = {"path": (path or "").replace(directory, "{DIR}"), "custom": config.is_custom_asset(kind)}
        if error:
            output[kind]["error"] = error
    return Answer(output, failure.error if failure else None)


def _new_asset(given: Fields, directory: str) -> Answer:
    asset, error = attempt(new_asset, _annotations(given, directory), given.text("type"))
    if error:
        return Answer(UNSET, error.error)
    described = asset and {"path": asset.path.replace(directory, "{DIR}"), "type": asset.kind, "valid": asset.valid}
    return Answer({"asset": described})


def _annotations(given: Fields, directory: str) -> dict[str, str]:
    """Annotations are texts, all of them."""
    annotations = given.table("annotations")
    return {name: annotations.text(name).replace("{DIR}", directory) for name in annotations.values}


def _resolved(given: Fields, directory: str) -> dict[str, Any]:
    return {
        key: value.replace("{DIR}", directory) if isinstance(value, str) else value
        for key, value in given.values.items()
    }


def run(given: dict[str, Any]) -> Answer:
    line = Fields(given)
    operation = line.text("op")
    if operation == "annotations":
        path, digest = asset_annotations(line.text("type"))
        return Answer({"path_annotation": path, "hash_annotation": digest})
    with tempfile.TemporaryDirectory() as directory:
        files = line.table("files")
        for name in files.values:
            write_scratch(pathlib.Path(directory), name, raw_bytes(files.text(name)))
        if operation == "hash":
            return Answer({"hash": hash_file(line.text("path").replace("{DIR}", directory), line.text("hash_type"))})
        if operation == "create_assets":
            return _create_assets(line, directory)
        if operation == "new":
            return _new_asset(line, directory)
    raise unknown_operation(operation)
