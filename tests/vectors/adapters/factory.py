# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The VM factory: which configurations match, what it refuses, and the life of a template, with the mock driver."""

from __future__ import annotations

import pathlib
import shutil
import tempfile
import time
from typing import Any

from adapters.answer import Answer, attempt
from adapters.fields import Fields, unknown_operation
from adapters.go_config import config_from_go
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.clone_compatibility import VmConfig, check_factory
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.converge import converge
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.template_building import converge_template
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import parse_spec, parse_template_spec
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig


def _vm_config(given: Fields) -> VmConfig:
    return VmConfig(
        given.text("HypervisorType"),
        config_from_go(given.values.get("HypervisorConfig")),
        given.text("AgentType"),
        given.values.get("AgentConfig"),
        given.text("ProxyType"),
        given.values.get("ProxyConfig"),
    )


class TemplateHost:
    """Directories of one line, and a template in them."""

    def __init__(self, root: pathlib.Path) -> None:
        self.directories = {"state_dir": str(root / "state"), "run_dir": str(root / "run")}
        kernel, initrd = root / "k", root / "i"
        kernel.write_text("k")
        initrd.write_text("i")
        self.boot = {"kernel_path": str(kernel), "initrd_path": str(initrd)}
        self.facts: dict[str, Any] = {}

    def template(self, **options: Any) -> dict[str, Any]:
        """Run a kata_template task."""
        spec = parse_template_spec({"id": "base", "hypervisor": "mock", **self.directories, **options})
        result = converge_template(spec)
        self.facts = result["template"] if spec.state != "absent" else self.facts
        return result

    def make(self, memory_mb: int = 128) -> dict[str, Any]:
        """Make the template."""
        return self.template(memory_mb=memory_mb, wait_for="running", **self.boot)

    def clone(self, check_mode: bool = False) -> dict[str, Any]:
        """A sandbox that begins from it."""
        return converge(
            parse_spec({"id": "clone", "hypervisor": "mock", "template": "base", **self.directories}), check_mode
        )

    def directory(self) -> dict[str, Any]:
        """The directory of its memory, in the words of the vectors. There is never a mount to tell of."""
        directory = pathlib.Path(self.facts["memory_path"]).parent
        if not directory.exists():
            return {"dir_exists": False}
        files = {path.name: {"mode": _mode(path), "size": path.stat().st_size} for path in sorted(directory.iterdir())}
        return {"dir_exists": True, "dir_mode": _mode(directory), "files": files}


def _mode(path: pathlib.Path) -> str:
    return f"{path.stat().st_mode & 0o7777:04o}"


def _present(state: str) -> tuple[bool, bool]:
    """Whether the memory and the devices' state are there, in a line's words for what a template consists of."""
    words = state.partition("(")[0]
    memory, devices = (
        ("memory" in words, "state" in words)
        if not words.startswith(("no ", "none", "neither", "nothing"))
        else (False, False)
    )
    return memory, devices


def _new_factory(given: Fields, host: TemplateHost) -> Answer:
    complete = "config" not in given
    config = HypervisorConfig(kernel_path="/k", initrd_path="/i" if complete else "")
    fetch_only = given.flag("fetch_only")
    check_factory(VmConfig("mock", config, "noop", None, "noopProxy"), given.number("cache"), fetch_only)
    if not given.flag("template"):
        # VMs that are booted when they are asked for leave nothing.
        return Answer({"dir_exists": False})
    memory, devices = _present(given.text("state"))
    if not memory and not devices:
        if fetch_only:
            host.clone(check_mode=True)
        began = time.monotonic()
        host.make(given.number("memory_mb", 128))
        return Answer({"disk": host.directory(), "elapsed_s": int(time.monotonic() - began)})
    host.make()
    if not devices:
        shutil.rmtree(pathlib.Path(host.facts["state_dir"]) / "saved")
    if not memory:
        pathlib.Path(host.facts["memory_path"]).unlink()
    if fetch_only:
        host.clone(check_mode=True)
    else:
        host.make()
    return Answer(host.directory())


def _get_vm(given: Fields, host: TemplateHost) -> Answer:
    """A VM of the factory. One that is asked for with another configuration is booted for itself, by the original and here."""
    if isinstance(given.values.get("config"), dict):
        _vm_config(given.table("config")).valid()
    host.make()
    return Answer({"got_vm": host.clone()["sandbox"]["state"] == "started"})


def run(given: dict[str, Any]) -> Answer:
    line = Fields(given)
    operation = line.text("op")
    if operation == "check_vm_config":
        failure = attempt(_vm_config(line.table("base")).check_serves, _vm_config(line.table("new")))[1]
        return Answer({"match": failure is None}, failure.error if failure else None)
    if operation == "vm_config_valid":
        _vm_config(line.table("config")).valid()
        return Answer({})
    with tempfile.TemporaryDirectory(prefix="kv-") as directory:
        host = TemplateHost(pathlib.Path(directory))
        if operation == "new_factory":
            return _new_factory(line, host)
        if operation == "get_vm":
            return _get_vm(line, host)
        if operation == "close_factory":
            host.make()
            host.template(state="absent")
            return Answer(host.directory())
    raise unknown_operation(operation)
