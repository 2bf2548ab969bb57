# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a plan, done. Apart from `sandbox`, since a task that has nothing to do need not import it."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from ..errors import HypervisorError, VmmError
from ..hypervisors.base import Hypervisor, Observed
from ..options.spec import options_from
from ..records.store import SETTLED, SandboxRecord
from .sandbox import add_devices
from .states import situation, state_of
from .steps import Step

if TYPE_CHECKING:
    from .sandbox import Sandbox

#: A driver may round memory up to a block of the guest's; this is the largest block (x86_64 hot-plugs 128 MiB at a time).
MEMORY_BLOCK_MB = 128


class Operations:
    """What can be done to a sandbox: a method for each name of a step, and the record written around it."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    def run(self) -> None:
        """Take the steps and read the state back; without steps, write down what is true already.

        :raises HypervisorError: a step failed, or the sandbox is not what the plan promised
        """
        if self.sandbox.plan.steps:
            self._take_steps()
            self._verify()
        else:
            self._settle()

    def _take_steps(self) -> None:
        plan = self.sandbox.plan
        created = False
        if self.sandbox.record is not None:
            self.sandbox.record.desired = plan.desired or self.sandbox.record.desired
            if self.sandbox.damage:
                self.sandbox.store.set_aside()
            self._commit(plan.steps[0].phase)
        for number, step in enumerate(plan.steps):
            following = plan.steps[number + 1].phase if number + 1 < len(plan.steps) else SETTLED
            created = created or step.name == "create"
            try:
                if step.name == "pause" and plan.has("start", "restore") and self.sandbox.spec.wait_for:
                    self.sandbox.wait()
                getattr(self, f"_do_{step.name}")(step)
                self._commit(following)
            except (HypervisorError, OSError) as problem:
                self._recover(step, created)
                if isinstance(problem, HypervisorError) and problem.log and not os.path.exists(problem.log):
                    problem.log = ""  # It went with the sandbox; its last lines are in the answer.
                if isinstance(problem, OSError):
                    raise VmmError(
                        f"{step.text} failed", sandbox=self.sandbox.spec.id, answer=str(problem)
                    ) from problem
                raise
        if self.sandbox.unsaved is not None:
            raise self.sandbox.unsaved

    def _commit(self, phase: str) -> None:
        """Write down what has been done and what comes next."""
        if self.sandbox.record is not None:
            self.sandbox.record.phase = phase
            if self.sandbox.driver is not None:
                self.sandbox.record.driver = self.sandbox.driver.save()
            self.sandbox.save_record(self.sandbox.record)

    def _settle(self) -> None:
        """Write down a state that was reached without us, or by a task that was killed before it could write."""
        record = self._known()
        record.desired = self.sandbox.plan.desired
        if self.sandbox.has_stale_save():
            self._drop_saved_state()
        if record.phase != SETTLED and self.sandbox.observed.power == "off":
            self._live().cleanup()  # The VM was ended, and the task killed before its driver could put that down.
        self._commit(SETTLED)

    def _recover(self, step: Step, created: bool) -> None:
        """After a failed step: a new sandbox that never ran leaves nothing behind, and a guest that could not be saved runs on."""
        with contextlib.suppress(HypervisorError, OSError):
            if created and step.name in ("create", "start"):
                if self.sandbox.driver is not None:
                    self.sandbox.driver.cleanup()
                self.sandbox.forget()
            elif (
                step.name == "save"
                and self.sandbox.plan.has("pause")
                and self.sandbox.driver is not None
                and self.sandbox.record is not None
            ):
                self.sandbox.driver.resume_sandbox()
                self.sandbox.record.desired = "started"
                self._commit(SETTLED)
                self.sandbox.tidy()

    # --- one operation each ----------------------------------------------------------------------------------------

    def _live(self) -> Hypervisor:
        if self.sandbox.driver is None:
            raise VmmError("there is no driver for it", sandbox=self.sandbox.spec.id)
        return self.sandbox.driver

    def _known(self) -> SandboxRecord:
        if self.sandbox.record is None:
            raise VmmError("there is no record of it", sandbox=self.sandbox.spec.id)
        return self.sandbox.record

    def _take_prepared(self) -> Hypervisor:
        """The driver for a VM that is about to be made."""
        self.sandbox.driver, self.sandbox.prepared = self.sandbox.prepared or self.sandbox.prepare(), None
        return self.sandbox.driver

    def _do_create(self, step: Step) -> None:
        driver = self._take_prepared()
        self.sandbox.record = SandboxRecord(
            self.sandbox.spec.id, self.sandbox.plan.hypervisor, desired=self.sandbox.plan.desired
        )
        self._define(driver)

    def _do_update(self, step: Step) -> None:
        record = self._known()
        if "everything" in step.arguments:
            record.options, record.devices = dict(self.sandbox.plan.options), list(self.sandbox.plan.devices)
        record.options.update(step.arguments.get("options", {}))

    def _do_recreate(self, step: Step) -> None:
        self._live().cleanup()
        record = self._known()
        record.driver = {}
        record.hypervisor = self.sandbox.plan.hypervisor
        self._define(self._take_prepared())

    def _define(self, driver: Hypervisor) -> None:
        """Record the definition of a new VM, with the defaults that its driver fills in, this once."""
        record = self._known()
        record.options, record.devices = dict(self.sandbox.plan.options), list(self.sandbox.plan.devices)
        filled = options_from(driver.hypervisor_config())
        self.sandbox.plan.defaults = {
            name: value
            for name, value in {**self.sandbox.plan.defaults, **filled}.items()
            if name not in record.options
        }
        record.defaults = dict(self.sandbox.plan.defaults)
        self.sandbox.prepared = driver

    def _do_cleanup(self, step: Step) -> None:
        self._live().cleanup()

    def _do_start(self, step: Step) -> None:
        record = self._known()
        self._make_room()
        with self.sandbox.starting():
            driver = self._take_prepared()
            record.defaults = dict(self.sandbox.plan.defaults)
            before, said = _identity_and_size(driver.console_log()), _identity_and_size(driver.vmm_log())
            driver.start_sandbox(self.sandbox.spec.start_timeout)
        record.console_start = _grown_from(driver.console_log(), before)
        observed = driver.observe()
        record.memory_reached_mb = observed.memory_mb
        self._follow_log(driver, observed.pid, said)

    def _make_room(self) -> None:
        """What a start does before: cut console logs that are too long, and cache what was found out."""
        from ..host.console_logs import make_room

        make_room(self.sandbox.layout.run_root)
        self.sandbox.keep_digests()

    def _do_restore(self, step: Step) -> None:
        record, driver = self._known(), self._live()
        add_devices(driver, record.devices)
        self._make_room()
        before, said = _identity_and_size(driver.console_log()), _identity_and_size(driver.vmm_log())
        driver.restore_sandbox(record.saved_state, self.sandbox.spec.save_timeout)
        record.console_start = _grown_from(driver.console_log(), before)
        self._follow_log(driver, driver.observe().pid, said)
        self._drop_saved_state()

    def _follow_log(self, driver: Hypervisor, pid: int | None, before: tuple[int, int]) -> None:
        """Let the journal have what a new VMM says."""
        from ..host.systemd import follow_log

        follow_log(
            self.sandbox.layout,
            driver.hypervisor_config(),
            pid,
            driver.vmm_log(),
            _grown_from(driver.vmm_log(), before),
        )

    def _do_stop(self, step: Step) -> None:
        driver = self._live()
        force = bool(step.arguments.get("force")) or not self.sandbox.spec.stop_timeout
        driver.stop_sandbox(self.sandbox.spec.stop_timeout, force)
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
        self.sandbox.tidy()
        self._live().save_sandbox(self.sandbox.saved_path, self.sandbox.spec.save_timeout)
        record.saved_state = self.sandbox.saved_path

    def _do_discard(self, step: Step) -> None:
        self._drop_saved_state()

    def _do_resize_vcpus(self, step: Step) -> None:
        wanted = step.arguments["size"]
        result = self._live().resize_vcpus(wanted)
        reached = result.new if result.online is None or result.new == wanted else result.online
        if reached != wanted:
            raise VmmError(f"the VM has {reached} vCPUs", sandbox=self.sandbox.spec.id, option="vcpus", wanted=wanted)
        self._known().options["vcpus"] = wanted
        self.sandbox.resized["vcpus"] = result.how

    def _do_resize_memory(self, step: Step) -> None:
        wanted = step.arguments["size"]
        result = self._live().resize_memory(wanted)
        if not wanted <= result.new_mb < wanted + MEMORY_BLOCK_MB:
            raise VmmError(
                f"the guest took {result.new_mb} MiB",
                sandbox=self.sandbox.spec.id,
                option="memory_mb",
                wanted=wanted,
                fix="The guest may need its memory, or be too busy to give it up; run the task again, or restart it.",
            )
        self._known().options["memory_mb"] = wanted
        self._known().memory_reached_mb = result.new_mb
        self.sandbox.resized["memory_mb"] = result.how

    def _do_plug(self, step: Step) -> None:
        from ..options.device_options import make_device

        device = step.arguments["device"]
        self._live().hotplug_add_device(make_device(device))
        self._forget_device(device["id"])
        order = [listed["id"] for listed in self.sandbox.plan.devices]
        self._known().devices.append(device)
        self._known().devices.sort(
            key=lambda listed: order.index(listed["id"]) if listed["id"] in order else len(order)
        )

    def _do_unplug(self, step: Step) -> None:
        from ..options.device_options import make_device

        device = step.arguments["device"]
        self._live().hotplug_remove_device(make_device(device))
        self._forget_device(device["id"])

    def _do_autostart(self, step: Step) -> None:
        from .autostart import Service

        service = Service(self.sandbox.layout)
        if step.arguments["wanted"]:
            service.enable()
        else:
            service.disable()

    def _do_modify(self, step: Step) -> None:
        from ..options.device_options import make_device

        device = step.arguments["device"]
        self._live().update_device(make_device(device))
        record = self._known()
        record.devices = [device if listed["id"] == device["id"] else listed for listed in record.devices]

    def _do_remove(self, step: Step) -> None:
        driver = self._live()
        if self.sandbox.observed.autostart:
            self._do_autostart(Step("autostart", "", {"wanted": False}))
        for one in (driver, *self.sandbox.other_drivers):
            one.cleanup()
        self.sandbox.forget()
        self.sandbox.unsaved = None
        self.sandbox.driver = None
        self.sandbox.observed = Observed()

    def _forget_device(self, identity: str) -> None:
        record = self._known()
        record.devices = [device for device in record.devices if device["id"] != identity]

    def _drop_saved_state(self) -> None:
        """Forget the saved state, durably, and only then remove it: nothing must ever be restored twice."""
        record = self._known()
        if record.saved_state:
            record.saved_state = ""
            self.sandbox.save_record(record)
            self.sandbox.tidy()

    # --- reading back ----------------------------------------------------------------------------------------------

    def _verify(self) -> None:
        """Read the state back.

        :raises VmmError: it is not what the plan promised
        """
        plan = self.sandbox.plan
        if self.sandbox.record is None or self.sandbox.driver is None:
            return
        self.sandbox.observed = self.sandbox.driver.observe()
        now = {"off": "stopped", "running": "started"}.get(situation(self.sandbox.record, self.sandbox.observed), "")
        now = now or situation(self.sandbox.record, self.sandbox.observed)
        missing = []
        if now != plan.desired:
            missing.append(f"it is {state_of(self.sandbox.record, self.sandbox.observed)} and should be {plan.desired}")
        if self.sandbox.observed.power in ("running", "paused"):
            plugged = set(self.sandbox.observed.devices)
            missing += [
                f"device {device['id']} is missing"
                for device in self.sandbox.record.devices
                if device["id"] not in plugged
            ]
            missing += [
                f"device {step.arguments['device']['id']} is still there"
                for step in plan.steps
                if step.name == "unplug"
                and step.arguments["device"]["id"] in plugged - {device["id"] for device in plan.devices}
            ]
        if missing:
            from .waiting import last_words

            raise VmmError(
                f"after {', '.join(plan.actions)} {'; '.join(missing)}"
                + (f" ({self.sandbox.observed.reason})" if self.sandbox.observed.reason else ""),
                sandbox=self.sandbox.spec.id,
                wanted=plan.desired,
                answer=last_words(self.sandbox.driver),
                log=self.sandbox.driver.vmm_log(),
                fix="Run the task again to repair it.",
            )


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
