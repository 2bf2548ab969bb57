# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Converge one sandbox: lock it, read its record, observe, plan, run the steps, verify. Also `main` of the program that systemd runs at boot."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from ..errors import HypervisorError
from ..hypervisors import new_hypervisor
from ..hypervisors.base import Observed
from ..options.spec import SandboxSpec
from ..records.layout import SandboxLayout
from .sandbox import DriverFactory, Sandbox

#: Facts that check mode predicts.
PREDICTED_FACTS = ("state", "hypervisor", "vcpus", "memory_mb")

#: The umask of a task and of the programs that it starts, so that the modes of the files that they create do not depend on the task's user.
UMASK = 0o022

#: How often a sandbox is observed at most while other tasks change it; then the last answer counts.
LOOKS = 5

#: Seconds to wait at boot for another task's lock, and seconds that a guest gets to shut down when the host does.
BOOT_LOCK_SECONDS = 300.0
SHUTDOWN_SECONDS = 30.0


def converge(spec: SandboxSpec, check_mode: bool = False, factory: DriverFactory = new_hypervisor) -> dict[str, Any]:
    """Bring a sandbox to the state that the task requests.

    :param check_mode: plan and validate only; nothing on the host is touched, not even a lock
    :returns: `changed`, `actions`, `diff` and `sandbox` (its facts)
    :raises HypervisorError: the error, with the sandbox's id
    """
    return run(Sandbox(spec, factory), check_mode)


def run(sandbox: Sandbox, check_mode: bool = False) -> dict[str, Any]:
    """Converge one sandbox or template; see `converge`."""
    os.umask(UMASK)
    spec, layout = sandbox.spec, sandbox.layout
    with errors_of(sandbox):
        if check_mode or (spec.state == "absent" and not _has_directories(layout)):
            return preview(sandbox)
        with sandbox.store.lock(spec.lock_timeout):
            result = apply(sandbox)
        if spec.wait_for and sandbox.plan.desired == "started":
            sandbox.wait()
            if spec.wait_for["kind"] == "agent":
                # Nobody else pays for the questions.
                result["sandbox"].update(sandbox.guest_facts())
        return result


def _has_directories(layout: SandboxLayout) -> bool:
    """Whether the sandbox has a directory on the host."""
    return os.path.lexists(layout.state_dir) or os.path.lexists(layout.run_dir)


@contextlib.contextmanager
def errors_of(sandbox: Sandbox) -> Iterator[None]:
    """Add the sandbox's id and the VMM's log to errors, so that drivers need not."""
    try:
        yield
    except HypervisorError as problem:
        sandbox.explain(problem)
        raise


def preview(sandbox: Sandbox) -> dict[str, Any]:
    """The result that `apply` would have. Changes nothing."""
    try:
        if sandbox.spec.state != "absent" or _has_directories(sandbox.layout):
            sandbox.store.check_lockable()
        sandbox.load()
        sandbox.make_plan()
        if sandbox.plan.steps and sandbox.plan.desired in ("stopped", "saved"):
            sandbox.observed = Observed(autostart=sandbox.observed.autostart)
        return sandbox.result(_predicted_facts(sandbox))
    finally:
        sandbox.disconnect()


def _predicted_facts(sandbox: Sandbox) -> dict[str, Any]:
    """The facts that the sandbox will have after the plan's steps, as far as they are known."""
    plan = sandbox.plan
    if plan.steps and sandbox.spec.state == "absent":
        return {**sandbox.place(), "state": "absent"}
    after = {name: plan.after[name] for name in PREDICTED_FACTS if name in plan.after}
    if plan.steps and plan.desired in ("stopped", "saved"):
        after.update(vcpus=0, memory_mb=0)
    elif plan.has("start", "restore"):
        options = {**plan.defaults, **plan.options}
        after = {**{name: options[name] for name in ("vcpus", "memory_mb") if options.get(name)}, **after}
    elif sandbox.observed.power == "off":
        after = {name: value for name, value in after.items() if name not in ("vcpus", "memory_mb")}
    return {**sandbox.facts(), **after}


def apply(sandbox: Sandbox) -> dict[str, Any]:
    """Plan and run the steps. The caller holds the lock."""
    try:
        sandbox.load()
        sandbox.tidy()
        sandbox.make_plan()
        if sandbox.plan.steps or sandbox.is_unsettled():
            # Imported here, since most tasks have nothing to do.
            from . import operations

            operations.run(sandbox)
        return sandbox.result(sandbox.facts())
    except BaseException:
        sandbox.abandon()
        raise
    finally:
        sandbox.disconnect()


def observe_only(spec: SandboxSpec, factory: DriverFactory = new_hypervisor) -> dict[str, Any]:
    """The facts of a sandbox, recorded and live. Takes no lock and changes nothing.

    :raises HypervisorError: its record cannot be used
    """
    for _look in range(LOOKS):
        sandbox = Sandbox(spec, factory)
        try:
            with errors_of(sandbox):
                sandbox.load()
                facts = sandbox.facts()
                if not sandbox.may_be_changing():
                    return {**facts, **sandbox.guest_facts()}
                if sandbox.store.is_held():
                    phase = sandbox.record.phase if sandbox.record is not None else ""
                    return {**facts, "state": "changing", "phase": phase or "starting"}
                if sandbox.store.load() == sandbox.record:
                    return facts  # No task holds the lock: a killed task or a crash left the sandbox in this state.
        finally:
            sandbox.disconnect()
    return facts


# --- the program that systemd runs at boot -------------------------------------------------------------------------


def start_at_boot(spec: SandboxSpec) -> list[str]:
    """Bring a sandbox to its recorded state. Returns the steps that were run."""
    actions: list[str] = converge(spec)["actions"]
    return actions


def stop_at_shutdown(spec: SandboxSpec) -> list[str]:
    """Shut a sandbox's guest down, or kill its VM. The recorded state stays `started`. Returns the steps that were run."""
    sandbox = Sandbox(spec)
    with errors_of(sandbox), sandbox.store.lock(spec.lock_timeout):
        try:
            sandbox.load()
            record, driver = sandbox.record, sandbox.driver
            if record is None or driver is None or not record.effective().get("autostart"):
                return []
            if sandbox.observed.power not in ("running", "paused"):
                return []
            driver.stop_sandbox(spec.stop_timeout, force=sandbox.observed.power == "paused")
            return ["stop"]
        finally:
            sandbox.disconnect()


def main() -> None:
    """The program's arguments: start or stop, an id, the state directory, the run directory."""
    from ..delivery.boot_program import PROGRAM

    if len(sys.argv) != 5 or sys.argv[1] not in ("start", "stop"):
        raise SystemExit(f"usage: {PROGRAM} start|stop ID STATE_DIR RUN_DIR")
    operation, sandbox, state_root, run_root = sys.argv[1:]
    try:
        layout = SandboxLayout(sandbox, state_root, run_root)
        if not os.path.exists(layout.record_path):
            return
        spec = SandboxSpec(
            sandbox,
            state_dir=state_root,
            run_dir=run_root,
            lock_timeout=BOOT_LOCK_SECONDS if operation == "start" else SHUTDOWN_SECONDS,
            stop_timeout=SHUTDOWN_SECONDS,
        )
        actions = (start_at_boot if operation == "start" else stop_at_shutdown)(spec)
    except HypervisorError as problem:
        raise SystemExit(str(problem)) from problem
    sys.stdout.write(f"sandbox {sandbox}: {', '.join(actions) or 'no change'}\n")
