# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole configuration files of Kata."""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any

from adapters.answer import Answer
from adapters.fields import Fields, raw_bytes, write_scratch
from adapters.go_config import config_to_go
from ansible_collections.kata.hypervisor.plugins.module_utils.options.kata_toml import (
    AgentSettings,
    FactorySettings,
    LoaderHost,
    load_kata_toml,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.options.kernel_params import kernel_params_string

#: Files that exist although the vectors tell no size of theirs.
BINARIES: tuple[str, ...] = ("hv", "proxy", "shim", "ctl", "jailer", "fw", "firmware")

#: The largest file that a line begins with; it has holes.
MOST_BYTES = 1 << 40


def _agent(agent: AgentSettings) -> dict[str, Any]:
    return {
        "LongLiveConn": False,
        "UseVSock": agent.use_vsock,
        "Debug": agent.debug,
        "Trace": agent.trace,
        "TraceMode": agent.trace_mode,
        "TraceType": agent.trace_type,
        "KernelModules": agent.kernel_modules,
    }


def _factory(factory: FactorySettings) -> dict[str, Any]:
    values = {
        "Template": factory.template,
        "TemplatePath": factory.template_path,
        "VMCacheNumber": factory.vm_cache_number,
        "VMCacheEndpoint": factory.vm_cache_endpoint,
    }
    return {name: value for name, value in values.items() if value}


def _prepare(directory: pathlib.Path, given: Fields) -> pathlib.Path:
    """Make the files of a line in its scratch directory, and nowhere else.

    :raises ConfigError: one cannot be there
    """
    sizes = given.table("file_sizes")
    for name in sizes.values:
        write_scratch(directory, name, size=sizes.number(name, 0, 0, MOST_BYTES))
    for name in BINARIES:
        (directory / name).write_bytes(b"x")
    (directory / "link").symlink_to(directory / "kernel")
    if given.table("host").flag("vhost_vsock_device"):
        (directory / "vhost-vsock").touch()
    path = directory / "configuration.toml"
    path.write_bytes(raw_bytes(given.text("toml").replace("{D}", str(directory))))
    return path


def _named(value: Any, directory: str) -> Any:
    """A value with the scratch directory's placeholder."""
    if isinstance(value, dict):
        return {key: _named(item, directory) for key, item in value.items()}
    if isinstance(value, list):
        return [_named(item, directory) for item in value]
    return value.replace(directory, "{D}") if isinstance(value, str) else value


def run(given: dict[str, Any]) -> Answer:
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name).resolve()
        line = Fields(given)
        host = LoaderHost(line.table("host").number("num_cpus", 1, 1, 1 << 20), str(directory / "vhost-vsock"))
        loaded = load_kata_toml(str(_prepare(directory, line)), host)
    output = {
        "hypervisor_type": loaded.hypervisor_type,
        "hypervisor_config": {"KernelParams": [], **config_to_go(loaded.hypervisor_config)},
        "kernel_params_joined": kernel_params_string(loaded.hypervisor_config.kernel_params),
        "proxy_type": loaded.proxy_type,
        "factory": _factory(loaded.factory),
        "agent": _agent(loaded.agent),
    }
    return Answer(_named(output, str(directory)))
