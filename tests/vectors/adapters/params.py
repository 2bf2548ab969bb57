# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameters to and from words."""

from __future__ import annotations

from typing import Any

from adapters.answer import Answer, attempt
from adapters.fields import Fields, unknown_operation
from ansible_collections.kata.hypervisor.plugins.module_utils.options.kernel_params import (
    Param,
    add_kernel_param,
    deserialize_params,
    parse_kernel_params,
    serialize_params,
)


def _params(line: Fields) -> list[Param]:
    return [Param(item.text("key"), item.text("value")) for item in line.tables("params")]


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
    line = Fields(given)
    operation = line.text("op")
    if operation == "serialize":
        words = serialize_params(_params(line), line.text("delim"))
        return Answer({"list": words or None, "joined": " ".join(words), "is_null": not words})
    if operation == "roundtrip":
        return Answer({"list": serialize_params(deserialize_params(line.texts("list"))) or None})
    if operation == "add_kernel_params":
        return Answer(_add_all(_params(line)))
    if operation == "deserialize_kernel_params_string":
        params = parse_kernel_params(line.text("string"))
    elif operation == "deserialize":
        params = deserialize_params(line.texts("list"))
    else:
        raise unknown_operation(operation)
    return Answer({"params": _described(params), "is_null": not params})
