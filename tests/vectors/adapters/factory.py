# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The VM factory: which configurations match, and what it refuses. The life of a template is not part of the port here."""

from __future__ import annotations

from typing import Any

from adapters.answer import Answer, attempt
from adapters.go_config import config_from_go
from ansible_collections.kata.hypervisor.plugins.module_utils.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.factory import VmConfig, check_factory


def _vm_config(given: dict[str, Any]) -> VmConfig:
    return VmConfig(
        given["HypervisorType"],
        config_from_go(given["HypervisorConfig"]),
        given["AgentType"],
        given["AgentConfig"],
        given["ProxyType"],
        given["ProxyConfig"],
    )


def _new_factory(given: dict[str, Any]) -> Answer:
    complete = "config" not in given
    config = HypervisorConfig(kernel_path="/k", initrd_path="/i" if complete else "")
    check_factory(
        VmConfig("mock", config, "noop", None, "noopProxy"), given.get("cache", 0), given.get("fetch_only", False)
    )
    raise NotImplementedError("a template's life on the host")


def run(given: dict[str, Any]) -> Answer:
    operation = given["op"]
    if operation == "check_vm_config":
        failure = attempt(_vm_config(given["base"]).check_serves, _vm_config(given["new"]))[1]
        return Answer({"match": failure is None}, failure.error if failure else None)
    if operation == "vm_config_valid":
        _vm_config(given["config"]).valid()
        return Answer({})
    if operation == "get_vm" and "config" in given:
        _vm_config(given["config"]).valid()
    if operation == "new_factory":
        return _new_factory(given)
    raise NotImplementedError("a template's life on the host")
