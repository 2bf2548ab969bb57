# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create, verify, list and remove templates.

The engine creates a template with the steps that save a sandbox (boot, wait, pause, save, end the VM). So it is planned, locked, recorded and
repaired after a kill in the same way. The VM of a template is never resumed, so a changed template is created again.
"""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Iterator
from typing import Any

from ..errors import ConfigError, HostError, HypervisorError, StateError
from ..host.boot_cache import fingerprint
from ..hypervisors import new_hypervisor
from ..hypervisors.base import Observed
from ..options.config import HypervisorConfig
from ..options.device_options import same_devices
from ..options.spec import SandboxSpec, TemplateSpec, make_config
from ..records.layout import SANDBOX_ID
from ..records.store import Store, list_ids
from ..untrusted.files import Directory, check_parents
from .converge import observe_only, run
from .sandbox import DriverFactory, Sandbox
from .template import Template, describe_files

#: A template's state, by the state of its sandbox.
STATE_NAMES = {"saved": "ready", "absent": "absent"}


def converge_template(
    spec: TemplateSpec, check_mode: bool = False, factory: DriverFactory = new_hypervisor
) -> dict[str, Any]:
    """Bring a template to the state that the task requests.

    :param check_mode: plan and validate only
    :returns: `changed`, `actions`, `diff` and `template` (its facts)
    :raises HypervisorError: the error; a template that could not be created leaves nothing behind
    """
    return run(TemplateSandbox(spec, factory), check_mode)


def list_templates(where: SandboxSpec, factory: DriverFactory = new_hypervisor) -> list[dict[str, Any]]:
    """The facts of all templates on this host, by id. Changes nothing.

    :param where: a spec with the directories; its id is not used
    """
    found = []
    for name in _template_ids(where.state_dir):
        spec = TemplateSpec(name, state_dir=where.state_dir, run_dir=where.run_dir)
        template = TemplateSandbox(spec, factory)
        try:
            template.load()
            found.append(template.facts())
        except HypervisorError as problem:
            found.append({"id": name, "state": "unreadable", "stale": [str(problem)]})
        finally:
            template.disconnect()
    return [facts for facts in found if facts["state"] != "absent"]


def _template_ids(state_root: str) -> list[str]:
    try:
        with os.scandir(os.path.join(state_root, "templates")) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and SANDBOX_ID.fullmatch(entry.name))
    except OSError:
        return []


def clones_of(name: str, where: SandboxSpec) -> list[str]:
    """The ids of a template's clones on this host, running or not."""
    clones = []
    for identity in list_ids(where.state_dir, where.run_dir):
        sandbox = SandboxSpec(identity, state_dir=where.state_dir, run_dir=where.run_dir)
        with contextlib.suppress(HypervisorError):
            record = Store(sandbox.layout()).load()
            if record is not None and record.options.get("template") == name:
                clones.append(identity)
    return clones


class TemplateSandbox(Sandbox):
    """One template while a task works on it."""

    spec: TemplateSpec

    def __init__(self, spec: TemplateSpec, factory: DriverFactory = new_hypervisor) -> None:
        super().__init__(spec, factory)
        self.places = spec.layout()
        #: Why the existing template must be created again; empty if it can stay.
        self.stale: list[str] = []
        self._recorded_memory = ""
        #: Whether the old template, if there was one, has been removed.
        self._begun = False

    @property
    def memory_path(self) -> str:
        """The path of the memory, or where it will be once the template is created again."""
        if self.spec.memory_dir is None and self._recorded_memory:
            return self._recorded_memory
        return self.places.memory_path(self.spec.memory_dir)

    # --- methods that the engine calls -------------------------------------------------------------------------------------

    def load(self) -> None:
        super().load()
        if self.record is None:
            return
        self._recorded_memory = str(self.record.template.get("memory", ""))
        self.stale = self._why_stale()
        if self.stale and self.spec.state != "absent" and self.record.phase != "removing":
            # The old template does not count: for the planner it is off, so that it plans all the steps to the saved state.
            self.record = copy.deepcopy(self.record)
            self.record.saved_state, self.record.desired = "", "saved"
            self.observed = Observed()

    def tidy(self) -> None:
        if self.record is None or not self.stale or self.plan.steps:
            super().tidy()
        else:
            # A template that is out of date stays until the new one has been validated.
            self.store.drop_draft()

    def abandon(self) -> None:
        if self._begun and self.record is not None:
            with contextlib.suppress(HypervisorError, OSError):
                if self.driver is not None:
                    self.driver.cleanup()
                self.forget()

    def configuration(self, options: dict[str, Any]) -> HypervisorConfig:
        config = make_config(options)
        config.boot_to_be_template = True
        config.memory_path = self.memory_path
        config.devices_state_path = self.saved_path
        return config

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        self._begun = True
        if self.record is not None:
            if self._recorded_memory not in ("", self.memory_path):
                _remove_private_directory(self._recorded_memory)
            files = describe_files(self.record.effective())
            self.record.template = {"memory": self.memory_path, "files": files}
            self.store.save(self.record)
        yield

    def forget(self) -> None:
        memory = self.record.template.get("memory") if self.record is not None else None
        if memory:
            _remove_private_directory(memory)
        super().forget()

    def make_plan(self) -> None:
        if self.spec.state == "absent":
            self._refuse_while_clones_run()
        elif self.record is None or self.stale:
            self._check_memory_dir()
        super().make_plan()
        if self.stale:
            self.plan.before["stale"], self.plan.after["stale"] = self.stale, []
        if self.plan.has("start") and self.spec.wait_for is None:
            raise ConfigError(
                "wait_for must be given, so that the template is saved after its guest has booted",
                option="wait_for",
                fix="Set what the guest prints then, such as 'console: login'.",
            )

    def facts(self) -> dict[str, Any]:
        """The facts of the template."""
        record, sandbox = self.record, super().facts()
        state = "stale" if self.stale else STATE_NAMES.get(sandbox["state"], "incomplete")
        facts: dict[str, Any] = {"id": self.spec.id, "state": state, "stale": self.stale}
        if record is not None:
            facts.update(
                hypervisor=record.hypervisor,
                options=record.effective(),
                memory_path=str(record.template.get("memory", "")),
                files=[
                    {name: file[name] for name in ("option", "path", "sha512")}
                    for file in record.template.get("files", [])
                ],
                clones=clones_of(self.spec.id, self.spec),
                state_dir=self.layout.state_dir,
                created_at=record.created,
                changed_at=record.changed,
            )
        return facts

    def result(self, facts: dict[str, Any]) -> dict[str, Any]:
        if self._begun and self.record is not None:
            self.record.template["memory_is"] = fingerprint(self.memory_path)
            self.store.save(self.record)
            self.stale = []
            facts = self.facts()
        facts["state"] = STATE_NAMES.get(facts["state"], facts["state"])
        if self.plan.has("start"):
            facts["stale"] = []
        result = super().result(facts)
        sandbox = result.pop("sandbox")
        result["template"] = {name: value for name, value in sandbox.items() if name not in ("vcpus", "memory_mb")}
        for side in result["diff"].values():
            side["state"] = "stale" if side.get("stale") else STATE_NAMES.get(side["state"], "incomplete")
        return result

    # --- methods of templates only ---------------------------------------------------------------------------------------

    def _why_stale(self) -> list[str]:
        """The reasons why it must be created again: the errors that its clones would get, and the options that the task changes."""
        record = self.record
        if record is None:
            return []
        template = Template(self.places, record)
        reasons = template.why_stale()
        if self.observed.power != "off":
            reasons.append("its VM was not ended")
        if not reasons:
            try:
                clone = self._new_driver(record.hypervisor)
                clone.create_sandbox(template.configuration_of_clone(record.hypervisor, {}))
            except HypervisorError as problem:
                reasons.append(problem.message)
        if reasons == ["it is incomplete"] or self.spec.state == "absent":
            return reasons
        effective = record.effective()
        if self.spec.hypervisor not in (None, record.hypervisor):
            reasons.append("the task changes hypervisor")
        reasons += [
            f"the task changes {name}" for name, value in self.spec.options.items() if effective.get(name) != value
        ]
        if self.spec.devices is not None and not same_devices(self.spec.devices, record.devices):
            reasons.append("the task changes devices")
        if self.memory_path != self._recorded_memory:
            reasons.append("the task changes memory_dir")
        return reasons

    def _refuse_while_clones_run(self) -> None:
        if self.spec.force or self.record is None:
            return
        running = [
            identity
            for identity in clones_of(self.spec.id, self.spec)
            if observe_only(
                SandboxSpec(identity, state_dir=self.spec.state_dir, run_dir=self.spec.run_dir), self.factory
            ).get("pid")
        ]
        if running:
            raise StateError(
                f"no clone of this template may run, but these do: {', '.join(running)}",
                option="force",
                fix="Stop or remove them first, or set force: the clones then keep running, and cannot start again.",
            )

    def _check_memory_dir(self) -> None:
        if self.spec.memory_dir is not None and not os.path.isdir(self.spec.memory_dir):
            raise HostError("the directory does not exist", option="memory_dir", wanted=self.spec.memory_dir)
        if self.spec.memory_dir is not None:
            check_parents(self.spec.memory_dir, "memory_dir")
        directory = os.path.dirname(self.memory_path)
        if self.memory_path != self._recorded_memory and os.path.lexists(directory):
            raise HostError(
                f"{directory} must not exist, or be a directory that this collection created",
                option="memory_dir",
                fix="Choose another directory, or remove it.",
            )


def _remove_private_directory(memory_path: str) -> None:
    """Remove a template's memory, and the directory that was created for it unless it contains other files."""
    with contextlib.suppress(OSError), Directory.open(os.path.dirname(memory_path)) as directory:
        name = os.path.basename(memory_path)
        for entry in directory.names():
            if entry == name or entry.startswith(f"{name}."):
                directory.unlink(entry)
        os.rmdir(directory.path)
