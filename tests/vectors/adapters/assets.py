# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that annotations name, with a digest: the options of a task that say the same, and the check before a start."""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any

from adapters.answer import UNSET, Answer, attempt
from adapters.fields import Fields, raw_bytes, unknown_operation, write_scratch
from adapters.go_config import config_from_go
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.host.digests import ALGORITHMS, file_digest
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.common.boot_files import check_digests
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig, checked_value
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import declared_options

PREFIX = "com.github.containers.virtcontainers."
HASH_TYPE = f"{PREFIX}AssetHashType"
#: The annotations' word for each kind that an annotation can name, and the beginning of the options' names.
KINDS = {
    "kernel": ("Kernel", "kernel"),
    "image": ("Image", "image"),
    "initrd": ("Initrd", "initrd"),
    "hypervisor": ("Hypervisor", "hypervisor"),
    "jailer": ("Jailer", "jailer"),
    "firmware": ("Firmware", "firmware"),
}
#: What Kata 1.x takes from the annotations of a sandbox.
SANDBOX_KINDS = ("kernel", "image", "initrd")
#: The option of each kind that a line asks for.
OPTIONS = {**{kind: f"{words[1]}_path" for kind, words in KINDS.items()}, "hypervisorctl": "hypervisor_ctl_path"}


def _annotations(kind: str) -> tuple[str, str]:
    """The names of the annotations of a file and its digest.

    :raises ConfigError: this kind has none
    """
    if kind not in KINDS:
        raise ConfigError("no annotation can name such a file", wanted=kind, fix=f"The kinds are {', '.join(KINDS)}.")
    return f"{PREFIX}{KINDS[kind][0]}Path", f"{PREFIX}{KINDS[kind][0]}Hash"


def _options(annotations: dict[str, str], kind: str) -> dict[str, str]:
    """The options of a task that say what annotations say of a file; none where they name none."""
    path, digest = (annotations.get(name, "") for name in _annotations(kind))
    if not path:
        return {}
    options = {OPTIONS[kind]: path}
    if digest:
        algorithm = f"{annotations[HASH_TYPE]}:" if HASH_TYPE in annotations else ""
        options[f"{KINDS[kind][1]}_digest"] = f"{algorithm}{digest}"
    return options


def _checked(options: dict[str, str]) -> HypervisorConfig:
    """The configuration of a task with these options, whose files have the digests that it names."""
    config, declared = HypervisorConfig(), declared_options()
    for name, value in options.items():
        setattr(config, declared[name].attribute, checked_value(declared[name], value))
    check_digests(config, "")
    return config


def _new_asset(given: Fields, directory: str) -> Answer:
    kind = given.text("type")
    options, error = attempt(_options, _given_annotations(given, directory), kind)
    config, error = (None, error) if error else attempt(_checked, options)
    if error:
        return Answer(UNSET, error.error)
    path = str(getattr(config, OPTIONS[kind])).replace(directory, "{DIR}")
    return Answer({"asset": {"path": path, "type": kind, "valid": True} if path else None})


def _create_assets(given: Fields, directory: str) -> Answer:
    config = config_from_go(_resolved(given.table("config"), directory))
    annotations = _given_annotations(given, directory)

    def found() -> dict[str, str]:
        options = {name: value for kind in SANDBOX_KINDS for name, value in _options(annotations, kind).items()}
        named = _checked(options)
        if named.image_path and named.initrd_path:
            HypervisorConfig(kernel_path="/k", image_path="/i", initrd_path="/i").check_consistent()
        return {option: getattr(named, option) for option in OPTIONS.values() if getattr(named, option)}

    replaced, failure = attempt(found)
    output: dict[str, Any] = {"foo": {"path": "", "custom": False, "error": attempt(_annotations, "foo")[1]}}
    for kind, option in OPTIONS.items():
        path = (replaced or {}).get(option) or getattr(config, option)
        output[kind] = {"path": path.replace(directory, "{DIR}"), "custom": option in (replaced or {})}
    return Answer(output, failure.error if failure else None)


def _given_annotations(given: Fields, directory: str) -> dict[str, str]:
    """Annotations are texts, all of them."""
    annotations = given.table("annotations")
    return {name: annotations.text(name).replace("{DIR}", directory) for name in annotations.values}


def _resolved(given: Fields, directory: str) -> dict[str, Any]:
    return {
        key: value.replace("{DIR}", directory) if isinstance(value, str) else value
        for key, value in given.values.items()
    }


def _hash(path: str, algorithm: str) -> Answer:
    if algorithm not in ALGORITHMS:
        raise ConfigError("there is no such digest", wanted=algorithm, fix=f"Choose one of {', '.join(ALGORITHMS)}.")
    return Answer({"hash": file_digest(path, algorithm)})


def run(given: dict[str, Any]) -> Answer:
    line = Fields(given)
    operation = line.text("op")
    if operation == "annotations":
        path, digest = _annotations(line.text("type"))
        return Answer({"path_annotation": path, "hash_annotation": digest})
    with tempfile.TemporaryDirectory() as directory:
        files = line.table("files")
        for name in files.values:
            write_scratch(pathlib.Path(directory), name, raw_bytes(files.text(name)))
        if operation == "hash":
            return _hash(line.text("path").replace("{DIR}", directory), line.text("hash_type"))
        if operation == "create_assets":
            return _create_assets(line, directory)
        if operation == "new":
            return _new_asset(line, directory)
    raise unknown_operation(operation)
