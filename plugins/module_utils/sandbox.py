# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Converge one sandbox: lock, remember, observe, plan, act, read back."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from typing import Any, Callable

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError, VmmError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors import new_hypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context, Hypervisor, Observed
from ansible_collections.kata.hypervisor.plugins.module_utils.plan import Plan, Step, make_plan, situation, state_of
from ansible_collections.kata.hypervisor.plugins.module_utils.spec import (
    DEFAULT_HYPERVISOR,
    SandboxSpec,
    make_config,
    options_from,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.store import SETTLED, SandboxRecord, Store

DriverFactory = Callable[[str, Context], Hypervisor]

#: A driver may round memory up to a block of the guest's; this is the largest block (x86_64 hot-plugs 128 MiB at a time).
MEMORY_BLOCK_MB = 128


#: Facts that check mode gives as they will be.
FORETOLD = ("state", "hypervisor", "vcpus", "memory_mb")


def converge(spec: SandboxSpec, check_mode: bool = False, factory: DriverFactory = new_hypervisor) -> dict[str, Any]:
    """Bring a sandbox to what the task asks for.

    :param check_mode: plan and validate only; nothing on the host is touched, not even a lock
    :returns: C(changed), C(actions), C(diff) and C(sandbox) (its facts)
    :raises HypervisorError: whatever went wrong, with the sandbox's id
    """
    try:
        return _converge(Sandbox(spec, factory), spec, check_mode)
    except HypervisorError as problem:
        problem.sandbox = problem.sandbox or spec.id
        raise


def _converge(sandbox: Sandbox, spec: SandboxSpec, check_mode: bool) -> dict[str, Any]:
    layout = spec.layout()
    if check_mode:
        return sandbox.preview()
    if spec.state == "absent" and not os.path.lexists(layout.state_dir) and not os.path.lexists(layout.run_dir):
        return sandbox.preview()
    with sandbox.store.lock(spec.lock_timeout):
        result = sandbox.apply()
    if spec.wait_for and sandbox.plan.desired == "started":
        sandbox.wait()
    return result


def observe_only(spec: SandboxSpec, factory: DriverFactory = new_hypervisor) -> dict[str, Any]:
    """The facts of a sandbox, recorded and live. Takes no lock and changes nothing.

    :raises HypervisorError: its record cannot be used
    """
    sandbox = Sandbox(spec, factory)
    try:
        sandbox.load()
        return sandbox.facts()
    except HypervisorError as problem:
        problem.sandbox = problem.sandbox or spec.id
        raise
    finally:
        sandbox.disconnect()


class Sandbox:
    """One sandbox in the hands of one task."""

    def __init__(self, spec: SandboxSpec, factory: DriverFactory = new_hypervisor) -> None:
        self.spec = spec
        self.layout = spec.layout()
        self.store = Store(self.layout)
        self.factory = factory
        self.record: SandboxRecord | None = None
        self.driver: Hypervisor | None = None
        self.observed = Observed()
        self.plan = Plan()
        self._prepared: Hypervisor | None = None

    # --- the walk --------------------------------------------------------------------------------------------------

    def preview(self) -> dict[str, Any]:
        """What L(apply) would do, found without touching anything."""
        try:
            self.load()
            self._make_plan()
            after = {name: self.plan.after[name] for name in FORETOLD if name in self.plan.after}
            return self._result({**self.facts(), **after})
        finally:
            self.disconnect()

    def apply(self) -> dict[str, Any]:
        """Plan and do it. The lock is held by the caller."""
        try:
            self.load()
            self._tidy()
            self._make_plan()
            if self.plan.steps:
                self._run()
                self._verify()
            else:
                self._settle()
            return self._result(self.facts())
        finally:
            self.disconnect()

    def load(self) -> None:
        """Read the record and ask the VMM."""
        self.record = self.store.load()
        if self.record is not None:
            self.driver = self._loaded_driver(self.record)
        elif os.path.isdir(self.layout.run_dir):
            # Something ran here and nobody remembers it.
            self.driver = self._new_driver(self.spec.hypervisor or DEFAULT_HYPERVISOR)
        if self.driver is not None:
            self.observed = self.driver.observe()

    def disconnect(self) -> None:
        """Close what the drivers hold open."""
        for driver in (self.driver, self._prepared):
            if driver is not None:
                driver.disconnect()

    def wait(self) -> None:
        """Wait for what the task names with C(wait_for)."""
        from ansible_collections.kata.hypervisor.plugins.module_utils.waiting import wait_for

        if self.spec.wait_for and self.driver is not None and self.record is not None:
            try:
                wait_for(self.spec.wait_for, self.driver, self.spec.id, self.record.console_start)
            finally:
                self.driver.disconnect()

    # --- drivers ---------------------------------------------------------------------------------------------------

    def _new_driver(self, hypervisor: str) -> Hypervisor:
        context = Context(self.spec.id, self.layout.run_dir, self.layout.state_dir)
        driver = self.factory(hypervisor, context)
        context.checkpoint = lambda: self._checkpoint(driver)
        return driver

    def _loaded_driver(self, record: SandboxRecord) -> Hypervisor:
        driver = self._new_driver(record.hypervisor)
        driver.load(record.driver, make_config(record.effective()))
        return driver

    def _checkpoint(self, driver: Hypervisor) -> None:
        """Store a driver's state; what a driver says while it is only being asked is not stored."""
        if self.record is not None and driver is self.driver:
            self.record.driver = driver.save()
            self.store.save(self.record)

    def _prepare(self, with_devices: bool = True) -> Hypervisor:
        """A driver with the plan's options validated and its devices added, ready to start.

        :raises ConfigError: they are wrong
        """
        config = make_config({**self.plan.defaults, **self.plan.options})
        config.check_consistent()
        driver = self._new_driver(self.plan.hypervisor)
        if self.record is not None and self.record.hypervisor == self.plan.hypervisor:
            driver.load(self.record.driver, config)
        driver.create_sandbox(config)
        if with_devices:
            _add_devices(driver, self.plan.devices)
        return driver

    # --- planning --------------------------------------------------------------------------------------------------

    def _make_plan(self) -> None:
        capabilities = self.driver.capabilities if self.driver is not None else None
        self.plan = make_plan(self.spec, self.record, self.observed, *([capabilities] if capabilities else []))
        if self.plan.has("create", "recreate", "start") or any(
            "everything" in step.arguments for step in self.plan.steps
        ):
            self._prepared = self._prepare(with_devices=self.observed.power == "off")
            if self.plan.has("stop", "cleanup", "remove"):
                self._prepared = None  # It was asked while another VM was there.

    def _tidy(self) -> None:
        """Remove what a killed task left half-written, and saved state that no record speaks of: it is incomplete or was restored."""
        self.store.drop_draft()
        saved = self._saved_path()
        if os.path.isdir(saved) and (self.record is None or not self.record.saved_state):
            shutil.rmtree(saved, ignore_errors=True)

    # --- doing -----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        plan = self.plan
        created = False
        if self.record is not None:
            self.record.desired = plan.desired or self.record.desired
            self._commit(plan.steps[0].phase)
        for number, step in enumerate(plan.steps):
            following = plan.steps[number + 1].phase if number + 1 < len(plan.steps) else SETTLED
            created = created or step.name == "create"
            try:
                if step.name in ("pause", "save") and plan.has("start", "restore") and self.spec.wait_for:
                    self.wait()
                getattr(self, f"_do_{step.name}")(step)
                self._commit(following)
            except (HypervisorError, OSError) as problem:
                self._recover(step, created)
                if isinstance(problem, OSError):
                    raise VmmError(f"{step.text} failed", sandbox=self.spec.id, answer=str(problem)) from problem
                raise

    def _commit(self, phase: str) -> None:
        """Write down what has been done and what comes next."""
        if self.record is not None:
            self.record.phase = phase
            if self.driver is not None:
                self.record.driver = self.driver.save()
            self.store.save(self.record)

    def _settle(self) -> None:
        """Write down a state that was reached without us, or by a task that was killed before it could write."""
        record = self.record
        if record is None or not self.plan.desired:
            return
        stale = record.saved_state and self.observed.power == "running"
        if stale or record.phase != SETTLED or record.desired != self.plan.desired:
            record.desired = self.plan.desired
            if stale:
                self._drop_saved_state()
            if record.phase != SETTLED and self.observed.power == "off":
                self._live().cleanup()  # The VM was ended, and the task killed before its driver could put that down.
            self._commit(SETTLED)

    def _recover(self, step: Step, created: bool) -> None:
        """After a failed step: a new sandbox that never ran leaves nothing behind, and a guest that could not be saved runs on."""
        with contextlib.suppress(HypervisorError, OSError):
            if created and step.name in ("create", "start"):
                if self.driver is not None:
                    self.driver.cleanup()
                self.record = None
                self.store.remove()
            elif step.name == "save" and self.plan.has("pause") and self.driver is not None and self.record is not None:
                self.driver.resume_sandbox()
                self.record.desired = "started"
                self._commit(SETTLED)
                self._tidy()

    # --- one operation each ----------------------------------------------------------------------------------------

    def _live(self) -> Hypervisor:
        if self.driver is None:
            raise VmmError("there is no driver for it", sandbox=self.spec.id)
        return self.driver

    def _known(self) -> SandboxRecord:
        if self.record is None:
            raise VmmError("there is no record of it", sandbox=self.spec.id)
        return self.record

    def _take_prepared(self) -> Hypervisor:
        """The driver for a VM that is about to be made."""
        self.driver, self._prepared = self._prepared or self._prepare(), None
        return self.driver

    def _do_create(self, step: Step) -> None:
        driver = self._take_prepared()
        self.record = SandboxRecord(self.spec.id, self.plan.hypervisor, desired=self.plan.desired)
        self._define(driver)

    def _do_update(self, step: Step) -> None:
        record = self._known()
        if "everything" in step.arguments:
            record.options, record.devices = dict(self.plan.options), list(self.plan.devices)
        record.options.update(step.arguments.get("options", {}))
        self._forget_device(step.arguments.get("without"))

    def _do_recreate(self, step: Step) -> None:
        self._live().cleanup()
        record = self._known()
        record.driver = {}
        record.hypervisor = self.plan.hypervisor
        self._define(self._take_prepared())

    def _define(self, driver: Hypervisor) -> None:
        """Record the definition of a new VM, with the defaults that its driver fills in, this once."""
        record = self._known()
        record.options, record.devices = dict(self.plan.options), list(self.plan.devices)
        filled = options_from(driver.hypervisor_config())
        self.plan.defaults = {
            name: value for name, value in {**self.plan.defaults, **filled}.items() if name not in record.options
        }
        record.defaults = dict(self.plan.defaults)
        self._prepared = driver

    def _do_cleanup(self, step: Step) -> None:
        self._live().cleanup()

    def _do_start(self, step: Step) -> None:
        record = self._known()
        driver = self._take_prepared()
        before = _identity_and_size(driver.console_log())
        driver.start_sandbox(self.spec.start_timeout)
        record.console_start = _grown_from(driver.console_log(), before)
        record.memory_reached_mb = driver.observe().memory_mb

    def _do_restore(self, step: Step) -> None:
        record, driver = self._known(), self._live()
        _add_devices(driver, record.devices)
        before = _identity_and_size(driver.console_log())
        driver.restore_sandbox(record.saved_state, self.spec.save_timeout)
        record.console_start = _grown_from(driver.console_log(), before)
        self._drop_saved_state()

    def _do_stop(self, step: Step) -> None:
        driver = self._live()
        force = bool(step.arguments.get("force")) or not self.spec.stop_timeout
        driver.stop_sandbox(self.spec.stop_timeout, force)
        if driver.observe().leftovers:
            driver.cleanup()

    def _do_pause(self, step: Step) -> None:
        self._live().pause_sandbox()

    def _do_resume(self, step: Step) -> None:
        # Once the guest runs, its disks are no longer those of the saved state.
        self._drop_saved_state()
        self._live().resume_sandbox()

    def _do_save(self, step: Step) -> None:
        record = self._known()
        record.saved_state = ""
        self._tidy()
        self._live().save_sandbox(self._saved_path(), self.spec.save_timeout)
        record.saved_state = self._saved_path()

    def _do_discard(self, step: Step) -> None:
        self._drop_saved_state()

    def _do_resize_vcpus(self, step: Step) -> None:
        wanted = step.arguments["size"]
        result = self._live().resize_vcpus(wanted)
        reached = result.new if result.online is None or result.new == wanted else result.online
        if reached != wanted:
            raise VmmError(f"the VM has {reached} vCPUs", sandbox=self.spec.id, option="vcpus", wanted=wanted)
        self._known().options["vcpus"] = wanted

    def _do_resize_memory(self, step: Step) -> None:
        wanted = step.arguments["size"]
        result = self._live().resize_memory(wanted)
        if not wanted <= result.new_mb < wanted + MEMORY_BLOCK_MB:
            raise VmmError(
                f"the guest took {result.new_mb} MiB",
                sandbox=self.spec.id,
                option="memory_mb",
                wanted=wanted,
                fix="The guest may need its memory, or be too busy to give it up; run the task again, or restart it.",
            )
        self._known().options["memory_mb"] = wanted
        self._known().memory_reached_mb = result.new_mb

    def _do_plug(self, step: Step) -> None:
        from ansible_collections.kata.hypervisor.plugins.module_utils.device_options import make_device

        device = step.arguments["device"]
        self._live().hotplug_add_device(make_device(device))
        self._forget_device(device["id"])
        order = [listed["id"] for listed in self.plan.devices]
        self._known().devices.append(device)
        self._known().devices.sort(key=lambda listed: order.index(listed["id"]) if listed["id"] in order else len(order))

    def _do_unplug(self, step: Step) -> None:
        from ansible_collections.kata.hypervisor.plugins.module_utils.device_options import make_device

        device = step.arguments["device"]
        self._live().hotplug_remove_device(make_device(device))
        self._forget_device(device["id"])

    def _do_remove(self, step: Step) -> None:
        driver = self._live()
        driver.cleanup()
        self.record = None
        self.store.remove()
        self.driver = None
        self.observed = Observed()

    def _forget_device(self, identity: str | None) -> None:
        record = self._known()
        record.devices = [device for device in record.devices if device["id"] != identity]

    def _saved_path(self) -> str:
        return os.path.join(self.layout.state_dir, "saved")

    def _drop_saved_state(self) -> None:
        """Forget the saved state, durably, and only then remove it: nothing must ever be restored twice."""
        record = self._known()
        if record.saved_state:
            record.saved_state = ""
            self.store.save(record)
            self._tidy()

    # --- reading back ----------------------------------------------------------------------------------------------

    def _verify(self) -> None:
        """Read the state back.

        :raises VmmError: it is not what the plan promised
        """
        plan = self.plan
        if self.record is None or self.driver is None:
            return
        self.observed = self.driver.observe()
        now = {"off": "stopped", "running": "started"}.get(situation(self.record, self.observed), "")
        now = now or situation(self.record, self.observed)
        missing = []
        if now != plan.desired:
            missing.append(f"it is {state_of(self.record, self.observed)} and should be {plan.desired}")
        if self.observed.power in ("running", "paused"):
            plugged = set(self.observed.devices)
            missing += [
                f"device {device['id']} is missing" for device in self.record.devices if device["id"] not in plugged
            ]
            missing += [
                f"device {step.arguments['device']['id']} is still there"
                for step in plan.steps
                if step.name == "unplug"
                and step.arguments["device"]["id"] in plugged - {device["id"] for device in plan.devices}
            ]
        if missing:
            from ansible_collections.kata.hypervisor.plugins.module_utils.waiting import last_words

            raise VmmError(
                f"after {', '.join(plan.actions)} {'; '.join(missing)}"
                + (f" ({self.observed.reason})" if self.observed.reason else ""),
                sandbox=self.spec.id,
                wanted=plan.desired,
                answer=last_words(self.driver),
                log=self.driver.vmm_log(),
                fix="Run the task again to repair it.",
            )

    def facts(self) -> dict[str, Any]:
        """What is known of the sandbox."""
        record, driver, observed = self.record, self.driver, self.observed
        facts: dict[str, Any] = {
            "id": self.spec.id,
            "state": state_of(record, observed),
            "run_dir": self.layout.run_dir,
            "state_dir": self.layout.state_dir,
        }
        if driver is not None:
            facts.update(
                hypervisor=driver.name,
                vmm_status=observed.vmm_status,
                reason=observed.reason,
                pid=observed.pid,
                vcpus=observed.vcpus,
                vcpus_online=observed.vcpus_online,
                memory_mb=observed.memory_mb,
                leftovers=observed.leftovers,
                console=driver.get_sandbox_console(),
                console_log=driver.console_log(),
                vmm_log=driver.vmm_log(),
                capabilities=dataclasses.asdict(driver.capabilities()),
                thread_ids=_thread_ids(driver, observed),
            )
        if record is not None:
            plugged = set(observed.devices)
            facts.update(
                hypervisor=record.hypervisor,
                desired=record.desired,
                options=record.effective(),
                devices=[{**device, "plugged": device["id"] in plugged} for device in record.devices],
                saved_state=record.saved_state,
                created_at=record.created,
                changed_at=record.changed,
                collection_version=record.collection_version,
            )
        return facts

    def _result(self, facts: dict[str, Any]) -> dict[str, Any]:
        return {
            "changed": bool(self.plan.steps),
            "actions": self.plan.actions,
            "sandbox": facts,
            "diff": {"before": self.plan.before, "after": self.plan.after},
        }


def _thread_ids(driver: Hypervisor, observed: Observed) -> dict[str, int]:
    """Host threads by vCPU, of a VMM that answers."""
    if observed.power not in ("running", "paused"):
        return {}
    return {str(vcpu): thread for vcpu, thread in driver.get_thread_ids().items()}


def _add_devices(driver: Hypervisor, devices: list[dict[str, Any]]) -> None:
    """Add a task's devices to a VM that does not run yet."""
    if devices:
        from ansible_collections.kata.hypervisor.plugins.module_utils.device_options import make_device

        for device in devices:
            driver.add_device(make_device(device))


def _identity_and_size(path: str) -> tuple[int, int]:
    """The inode of a file and its size in bytes; zeros where there is none."""
    try:
        status = os.stat(path)
        return status.st_ino, status.st_size
    except OSError:
        return 0, 0


def _grown_from(path: str, before: tuple[int, int]) -> int:
    """Where in a log the newest part begins: at its old end, or at its beginning when it was begun anew."""
    inode, size = _identity_and_size(path)
    return before[1] if inode == before[0] and size >= before[1] else 0
