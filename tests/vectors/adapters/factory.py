# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The VM factory: which configurations match, what it refuses, and the life of a template, with the mock driver."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
import tempfile
import time
from typing import Any

from adapters.answer import Answer, attempt
from adapters.fields import Fields, unknown_operation
from adapters.go_config import config_from_go
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.clone_compatibility import config_differences
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.converge import converge
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.template_building import converge_template
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, Unsupported
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import parse_spec, parse_template_spec
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig


@dataclasses.dataclass
class VmConfig:
    """A recorded configuration of a VM without a sandbox. Nothing here names an agent or a proxy."""

    hypervisor: str
    config: HypervisorConfig
    agent: Any

    @classmethod
    def of(cls, given: Fields) -> VmConfig:
        """From a line."""
        config = given.values.get("HypervisorConfig")
        agent = (given.text("AgentType"), given.values.get("AgentConfig"), given.text("ProxyType"))
        return cls(given.text("HypervisorType"), config_from_go(config), agent)

    def check_serves(self, wanted: VmConfig) -> None:
        """Return when a clone of a template made from this can be `wanted`.

        :raises ConfigError: names what differs
        """
        names = config_differences(self.config, wanted.config)
        names += ["hypervisor"] if self.hypervisor != wanted.hypervisor else []
        if names:
            raise ConfigError(f"the clone differs in {', '.join(names)}", option=names[0])


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
    config.valid()
    if given.number("cache") > 0 and fetch_only:
        raise Unsupported("there is no cache of VMs that another process could have made")
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
    """A VM of the factory. One that is asked for with another configuration is booted for itself, by Kata 1.x and here."""
    if isinstance(given.values.get("config"), dict):
        VmConfig.of(given.table("config")).config.valid()
    host.make()
    return Answer({"got_vm": host.clone()["sandbox"]["state"] == "started"})


def run(given: dict[str, Any]) -> Answer:
    line = Fields(given)
    operation = line.text("op")
    if operation == "check_vm_config":
        base, new = VmConfig.of(line.table("base")), VmConfig.of(line.table("new"))
        failure = attempt(base.check_serves, new)[1]
        return Answer({"match": failure is None}, failure.error if failure else None)
    if operation == "vm_config_valid":
        VmConfig.of(line.table("config")).config.valid()
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
