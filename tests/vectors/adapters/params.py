# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameters to and from words."""

from __future__ import annotations

from typing import Any, Optional

from adapters.answer import Answer, attempt
from ansible_collections.kata.hypervisor.plugins.module_utils.params import (
    Param,
    add_kernel_param,
    deserialize_params,
    parse_kernel_params,
    serialize_params,
)


def _params(items: Optional[list[dict[str, str]]]) -> list[Param]:
    return [Param(item["key"], item["value"]) for item in items or []]


def _described(params: list[Param]) -> list[dict[str, str]]:
    return [{"key": param.key, "value": param.value} for param in params]


def _add_all(params: list[Param]) -> dict[str, Any]:
    errors = []
    added: list[Param] = []
    for param in params:
        longer, error = attempt(add_kernel_param, added, param)
        errors.append(error)
        added = added if error else longer
    return {"errors": errors, "params": _described(added)}


def run(given: dict[str, Any]) -> Answer:
    operation = given["op"]
    if operation == "serialize":
        words = serialize_params(_params(given["params"]), given["delim"])
        return Answer({"list": words or None, "joined": " ".join(words), "is_null": not words})
    if operation == "roundtrip":
        return Answer({"list": serialize_params(deserialize_params(given["list"] or [])) or None})
    if operation == "add_kernel_params":
        return Answer(_add_all(_params(given["params"])))
    from_line = operation == "deserialize_kernel_params_string"
    params = parse_kernel_params(given["string"]) if from_line else deserialize_params(given["list"] or [])
    return Answer({"params": _described(params), "is_null": not params})
