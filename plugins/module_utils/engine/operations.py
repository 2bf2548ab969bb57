# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the steps of a plan: one function for each kind of step. The record is saved before and after each."""

from __future__ import annotations

import contextlib
import os
from typing import Callable

from ..errors import HypervisorError, VmmError
from ..hypervisors.base import Hypervisor, Observed
from ..options.spec import options_from
from ..records.record import SETTLED, SandboxRecord
from .sandbox import Sandbox, add_devices
from .states import settled_state, situation, state_of
from .steps import Step

#: The most that a driver may round memory up, MiB: the largest memory block of a guest (x86_64 hot-plugs 128 MiB at a time).
MEMORY_BLOCK_MB = 128


def run(sandbox: Sandbox) -> None:
    """Run the steps of the sandbox's plan and verify the result. If there are no steps, record the observed state.

    :raises HypervisorError: a step failed, or the sandbox is not in the planned state afterwards
    """
    if sandbox.plan.steps:
        _take_steps(sandbox)
        _verify(sandbox)
    else:
        _settle(sandbox)


def _take_steps(sandbox: Sandbox) -> None:
    plan = sandbox.plan
    created = False
    if sandbox.record is not None:
        sandbox.record.desired = plan.desired or sandbox.record.desired
        if sandbox.damage:
            sandbox.store.set_aside()
        _commit(sandbox, plan.steps[0].phase)
    for number, step in enumerate(plan.steps):
        following = plan.steps[number + 1].phase if number + 1 < len(plan.steps) else SETTLED
        created = created or step.name == "create"
        try:
            if step.name == "pause" and plan.has("start", "restore") and sandbox.spec.wait_for:
                sandbox.wait()
            OPERATIONS[step.name](sandbox, step)
            if step.name == "create" and _start_records_it(sandbox, following):
                sandbox.known_record().phase = following
            else:
                _commit(sandbox, following)
        except (HypervisorError, OSError) as problem:
            if isinstance(problem, HypervisorError):
                sandbox.explain(
                    problem
                )  # Before `_recover`, which may remove the log together with a sandbox that could not be created.
            _recover(sandbox, step, created)
            if isinstance(problem, HypervisorError) and problem.log and not os.path.exists(problem.log):
                problem.log = ""
            if isinstance(problem, OSError):
                raise VmmError(f"{step.text} failed", answer=str(problem)) from problem
            raise
    if sandbox.unsaved is not None:
        raise sandbox.unsaved


def _start_records_it(sandbox: Sandbox, phase: str) -> bool:
    """Whether a new sandbox starts right away. Then it has nothing on the host until its driver saves the record (`Context.checkpoint`), and to save it
    twice would only wait for the disk twice. The memory file of a template exists before that.

    :param phase: of the following step
    """
    prepared = sandbox.prepared
    return phase == "starting" and prepared is not None and not prepared.hypervisor_config().boot_to_be_template


def _commit(sandbox: Sandbox, phase: str) -> None:
    """Save the record, with the phase that begins now."""
    if sandbox.record is not None:
        sandbox.record.phase = phase
        if sandbox.driver is not None:
            sandbox.record.driver = sandbox.driver.save()
        sandbox.save_record(sandbox.record)


def _settle(sandbox: Sandbox) -> None:
    """Record a state that the VM reached by itself, or through a task that was killed before it saved the record."""
    record = sandbox.known_record()
    record.desired = sandbox.plan.desired
    if sandbox.has_stale_save():
        _drop_saved_state(sandbox)
    if record.phase != SETTLED and sandbox.observed.power == "off":
        sandbox.live_driver().cleanup()  # The VM was ended, but the task was killed before its driver could record that.
    _commit(sandbox, SETTLED)


def _recover(sandbox: Sandbox, step: Step, created: bool) -> None:
    """Clean up after a failed step: remove a new sandbox that never ran, and resume a guest that could not be saved."""
    with contextlib.suppress(HypervisorError, OSError):
        if created and step.name in ("create", "provide", "start"):
            if sandbox.driver is not None:
                sandbox.driver.cleanup()
            _remove_resources(sandbox)
            sandbox.forget()
        elif (
            step.name == "save"
            and sandbox.plan.has("pause")
            and sandbox.driver is not None
            and sandbox.record is not None
        ):
            sandbox.driver.resume_sandbox()
            sandbox.record.desired = "started"
            _commit(sandbox, SETTLED)
            sandbox.tidy()


# --- one operation each ----------------------------------------------------------------------------------------


def _take_prepared(sandbox: Sandbox) -> Hypervisor:
    """The prepared driver for a VM that is about to start."""
    sandbox.driver, sandbox.prepared = sandbox.prepared or sandbox.prepare(), None
    return sandbox.driver


def _create(sandbox: Sandbox, step: Step) -> None:
    driver = _take_prepared(sandbox)
    sandbox.record = SandboxRecord(sandbox.spec.id, sandbox.plan.hypervisor, desired=sandbox.plan.desired)
    _define(sandbox, driver)


def _update(sandbox: Sandbox, step: Step) -> None:
    record = sandbox.known_record()
    if "everything" in step.arguments:
        record.options, record.devices = dict(sandbox.plan.options), list(sandbox.plan.devices)
    record.options.update(step.arguments.get("options", {}))


def _recreate(sandbox: Sandbox, step: Step) -> None:
    sandbox.live_driver().cleanup()
    record = sandbox.known_record()
    record.driver = {}
    if record.resources:
        sandbox.resources.discard_disk(record.resources)
    record.hypervisor = sandbox.plan.hypervisor
    _define(sandbox, _take_prepared(sandbox))


def _define(sandbox: Sandbox, driver: Hypervisor) -> None:
    """Record the definition of a new VM, with the defaults that its driver filled in. Defaults are filled in only here."""
    record = sandbox.known_record()
    record.options, record.devices = dict(sandbox.plan.options), list(sandbox.plan.devices)
    filled = options_from(driver.hypervisor_config())
    sandbox.plan.defaults = {
        name: value for name, value in {**sandbox.plan.defaults, **filled}.items() if name not in record.options
    }
    record.defaults = dict(sandbox.plan.defaults)
    sandbox.prepared = driver


def _cleanup(sandbox: Sandbox, step: Step) -> None:
    sandbox.live_driver().cleanup()


def _provide(sandbox: Sandbox, step: Step) -> None:
    options = {**sandbox.plan.defaults, **sandbox.plan.options}
    sandbox.resources.provide(step, options, sandbox.known_record().resources)
    sandbox.prepared = None  # It was prepared without this.


def _release(sandbox: Sandbox, step: Step) -> None:
    sandbox.resources.release(step, sandbox.known_record().resources)


def _resize_disk(sandbox: Sandbox, step: Step) -> None:
    disk, size = step.arguments["disk"], step.arguments["size"]
    sandbox.live_driver().resize_disk(disk, size)
    record = sandbox.known_record()
    record.options.update(step.arguments.get("options", {}))
    sandbox.resources.resized(disk, size, record.resources)


def _start(sandbox: Sandbox, step: Step) -> None:
    record = sandbox.known_record()
    _before_start(sandbox)
    with sandbox.starting():
        driver = _take_prepared(sandbox)
        record.defaults = dict(sandbox.plan.defaults)
        if sandbox.has_resources(record.options):
            record.resources.update(sandbox.resources.image)
        before, log_before = _identity_and_size(driver.console_log()), _identity_and_size(driver.vmm_log())
        driver.start_sandbox(sandbox.spec.start_timeout)
    record.console_start = _grown_from(driver.console_log(), before)
    observed = driver.observe()
    record.memory_reached_mb = observed.memory_mb
    _follow_log(sandbox, driver, observed.pid, log_before)


def _before_start(sandbox: Sandbox) -> None:
    """Before a VM starts: cut long console logs if disk space is low, and cache the digests that were computed."""
    from ..host.console_logs import free_space

    free_space(sandbox.layout.run_root)
    sandbox.keep_digests()


def _restore(sandbox: Sandbox, step: Step) -> None:
    record, driver = sandbox.known_record(), sandbox.live_driver()
    add_devices(driver, record.devices)
    _before_start(sandbox)
    before, log_before = _identity_and_size(driver.console_log()), _identity_and_size(driver.vmm_log())
    driver.restore_sandbox(record.saved_state, sandbox.spec.save_timeout)
    record.console_start = _grown_from(driver.console_log(), before)
    _follow_log(sandbox, driver, driver.observe().pid, log_before)
    _drop_saved_state(sandbox)


def _follow_log(sandbox: Sandbox, driver: Hypervisor, pid: int | None, before: tuple[int, int]) -> None:
    """Start copying the log of a new VMM into the journal."""
    from .journal import follow_log

    follow_log(
        sandbox.layout,
        driver.hypervisor_config(),
        pid,
        driver.vmm_log(),
        _grown_from(driver.vmm_log(), before),
    )


def _stop(sandbox: Sandbox, step: Step) -> None:
    driver = sandbox.live_driver()
    force = bool(step.arguments.get("force")) or not sandbox.spec.stop_timeout
    driver.stop_sandbox(sandbox.spec.stop_timeout, force)
    if driver.observe().leftovers:
        driver.cleanup()


def _pause(sandbox: Sandbox, step: Step) -> None:
    sandbox.live_driver().pause_sandbox()


def _resume(sandbox: Sandbox, step: Step) -> None:
    # Once the guest runs, its disks are no longer those of the saved state.
    _drop_saved_state(sandbox)
    sandbox.live_driver().resume_sandbox()


def _save(sandbox: Sandbox, step: Step) -> None:
    record = sandbox.known_record()
    record.saved_state = ""
    sandbox.tidy()
    driver = sandbox.live_driver()
    driver.save_sandbox(sandbox.saved_path, sandbox.spec.save_timeout)
    # Where vCPUs cannot be unplugged, the options say how many of them the guest uses.
    record.saved_vcpus = driver.observe().vcpus if driver.capabilities().vcpu_unplug else 0
    record.saved_state = sandbox.saved_path


def _discard(sandbox: Sandbox, step: Step) -> None:
    _drop_saved_state(sandbox)


def _resize_vcpus(sandbox: Sandbox, step: Step) -> None:
    wanted = step.arguments["size"]
    result = sandbox.live_driver().resize_vcpus(wanted)
    reached = result.new if result.online is None or result.new == wanted else result.online
    if reached != wanted:
        raise VmmError(f"the VM has {reached} vCPUs", option="vcpus", wanted=wanted)
    sandbox.known_record().options["vcpus"] = wanted
    sandbox.resized["vcpus"] = result.how


def _resize_memory(sandbox: Sandbox, step: Step) -> None:
    wanted = step.arguments["size"]
    result = sandbox.live_driver().resize_memory(wanted)
    if not wanted <= result.new_mb < wanted + MEMORY_BLOCK_MB:
        raise VmmError(
            f"the guest's memory is {result.new_mb} MiB after the resize",
            option="memory_mb",
            wanted=wanted,
            fix="The guest may need its memory, or be too busy to give it up; run the task again, or restart it.",
        )
    sandbox.known_record().options["memory_mb"] = wanted
    sandbox.known_record().memory_reached_mb = result.new_mb
    sandbox.resized["memory_mb"] = result.how


def _plug(sandbox: Sandbox, step: Step) -> None:
    from ..options.device_options import make_device

    device = step.arguments["device"]
    sandbox.live_driver().hotplug_add_device(make_device(device))
    _forget_device(sandbox, device["id"])
    order = [listed["id"] for listed in sandbox.plan.devices]
    sandbox.known_record().devices.append(device)
    sandbox.known_record().devices.sort(
        key=lambda listed: order.index(listed["id"]) if listed["id"] in order else len(order)
    )


def _unplug(sandbox: Sandbox, step: Step) -> None:
    from ..options.device_options import make_device

    device = step.arguments["device"]
    sandbox.live_driver().hotplug_remove_device(make_device(device))
    _forget_device(sandbox, device["id"])


def _autostart(sandbox: Sandbox, step: Step) -> None:
    service = sandbox.service({**sandbox.known_record().options, **sandbox.plan.options})
    if step.arguments["wanted"]:
        service.enable()
    else:
        service.disable()


def _modify(sandbox: Sandbox, step: Step) -> None:
    from ..options.device_options import make_device

    device = step.arguments["device"]
    sandbox.live_driver().update_device(make_device(device))
    record = sandbox.known_record()
    record.devices = [device if listed["id"] == device["id"] else listed for listed in record.devices]


def _remove(sandbox: Sandbox, step: Step) -> None:
    driver = sandbox.live_driver()
    if sandbox.observed.autostart:
        _autostart(sandbox, Step("autostart", "", {"wanted": False}))
    for one in (driver, *sandbox.other_drivers):
        one.cleanup()
    _remove_resources(sandbox)
    sandbox.forget()
    sandbox.unsaved = None
    sandbox.driver = None
    sandbox.observed = Observed()


def _remove_resources(sandbox: Sandbox) -> None:
    """Remove everything that the host gave a sandbox that goes away."""
    record = sandbox.record
    if record is None or sandbox.damage:
        # What it had is found on the host.
        sandbox.resources.remove_all({}, {})
    elif sandbox.has_resources(record.options):
        sandbox.resources.remove_all(record.options, record.resources)


def _forget_device(sandbox: Sandbox, identity: str) -> None:
    record = sandbox.known_record()
    record.devices = [device for device in record.devices if device["id"] != identity]


def _drop_saved_state(sandbox: Sandbox) -> None:
    """Remove the saved state from the record, durably, and only then from the disk: no state must ever be restored twice."""
    record = sandbox.known_record()
    if record.saved_state:
        record.saved_state = ""
        sandbox.save_record(record)
        sandbox.tidy()


#: The function that runs each step, by the step's name in `steps.STEPS`.
OPERATIONS: dict[str, Callable[[Sandbox, Step], None]] = {
    "create": _create,
    "update": _update,
    "recreate": _recreate,
    "cleanup": _cleanup,
    "provide": _provide,
    "release": _release,
    "start": _start,
    "restore": _restore,
    "stop": _stop,
    "pause": _pause,
    "resume": _resume,
    "save": _save,
    "discard": _discard,
    "resize_vcpus": _resize_vcpus,
    "resize_memory": _resize_memory,
    "resize_disk": _resize_disk,
    "plug": _plug,
    "unplug": _unplug,
    "autostart": _autostart,
    "modify": _modify,
    "remove": _remove,
}


# --- reading back ----------------------------------------------------------------------------------------------


def _verify(sandbox: Sandbox) -> None:
    """Verify that the sandbox is in the planned state.

    :raises VmmError: it is not
    """
    plan = sandbox.plan
    if sandbox.record is None or sandbox.driver is None:
        return
    sandbox.observed = sandbox.driver.observe()
    now = settled_state(situation(sandbox.record, sandbox.observed))
    missing = []
    if now != plan.desired:
        missing.append(f"it is {state_of(sandbox.record, sandbox.observed)} and should be {plan.desired}")
    if sandbox.observed.power in ("running", "paused"):
        plugged = set(sandbox.observed.devices)
        missing += [
            f"device {device['id']} is missing" for device in sandbox.record.devices if device["id"] not in plugged
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
            + (f" ({sandbox.observed.reason})" if sandbox.observed.reason else ""),
            wanted=plan.desired,
            answer=last_words(sandbox.driver),
            log=sandbox.driver.vmm_log(),
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
    """Where the newest part of a log begins: at its old end, or at 0 if the log was rotated."""
    inode, size = _identity_and_size(path)
    return before[1] if inode == before[0] and size >= before[1] else 0
