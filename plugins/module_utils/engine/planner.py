# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The planner: computes the steps from the task's request, the record and the observed state. Pure: it does not access the host.

Check mode shows the same steps that a real run takes.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Mapping

from ..errors import ConfigError, DisruptionError, StateError, Unsupported
from ..hypervisors.base import Capabilities, Observed
from ..options.config import DIGESTS
from ..options.declarations import Cost
from ..options.resource_options import PROVIDED
from ..options.shown import shown_device, shown_options, shown_value
from ..options.spec import DEFAULT_HYPERVISOR, DISRUPTIONS, SandboxSpec, creation_defaults, declared_options, zero_of
from ..records.layout import same_path
from ..records.record import SandboxRecord
from .states import as_saved, situation, state_of
from .steps import Plan, Step, brief

#: Options that are about the host and not about the VM: a change does not involve the guest. Devices that follow from them have costs of their own.
HOST_SIDE = ("autostart", "volumes", "ports", "egress", "isolated", "labels", *DIGESTS)

#: The devices that follow from a sandbox's options.
Derived = Callable[[Mapping[str, Any]], "list[dict[str, Any]]"]


def no_devices(_options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The devices that follow from the options of a sandbox without resources."""
    return []


@dataclasses.dataclass(frozen=True)
class Change:
    """An option or a device that a task changes.

    :param name: the option's name, or `devices`
    :param old: the current value; for a device its id, or None for a new device
    :param new: the requested value
    :param steps: the steps that change it while the VM runs
    """

    name: str
    old: Any
    new: Any
    cost: Cost
    steps: tuple[Step, ...] = ()
    why: str = ""

    def __str__(self) -> str:
        old, new = self.shown
        return f"{self.name} {brief(old)} -> {brief(new)}"

    @property
    def shown(self) -> tuple[Any, Any]:
        """The old and the new value as users see them."""
        return shown_value(self.name, self.old), shown_value(self.name, self.new)

    @property
    def wakes(self) -> bool:
        """Whether the guest must run for the change."""
        return any(step.name != "update" for step in self.steps)

    def needs(self) -> str:
        """A text that says what the change is and what it needs."""
        what = {Cost.LIVE: "the guest to run", Cost.RESTART: "a restart", Cost.RECREATE: "a new VM"}[self.cost]
        return f"{self} needs {what}" + (f" ({self.why})" if self.why else "")


def _shown(device: dict[str, Any]) -> dict[str, Any]:
    """A device with the options that a task gives it."""
    return {name: value for name, value in shown_device(device).items() if name != "index"}


def make_plan(
    spec: SandboxSpec,
    record: SandboxRecord | None,
    observed: Observed,
    capabilities: Callable[[], Capabilities] = Capabilities,
    cold: Mapping[str, str] | None = None,
    derived: Derived = no_devices,
) -> Plan:
    """The steps from the observed state to the requested one.

    :param capabilities: a function, called only if needed, since it may have to run the VMM
    :param cold: devices that this VM cannot get while it runs: the reason by id
    :param derived: a function from options to the devices that follow from them
    :raises DisruptionError: a change needs more disruption than the task allows
    :raises Unsupported: the hypervisor does not have such an option
    :raises ConfigError: a new size exceeds the sandbox's maximum
    """
    state = state_of(record, observed)
    plan = Plan(before={"state": state})
    if observed.leftovers:
        plan.before["leftovers"], plan.after["leftovers"] = list(observed.leftovers), []
    if spec.state == "absent":
        _plan_removal(plan, record, observed)
        return plan
    if spec.device_changes is not None and (record is None or record.phase == "removing"):
        if any(spec.device_changes.values()):
            raise StateError("the sandbox does not exist", sandbox=spec.id, fix="Make it first, with kata_sandbox.")
        plan.after["state"] = state
        return plan
    if record is not None and record.phase == "removing":
        plan.add("remove", "finish the removal")
        record, observed = None, Observed()
    plan.hypervisor = spec.hypervisor or (record.hypervisor if record else DEFAULT_HYPERVISOR)
    moved = record is not None and record.hypervisor != plan.hypervisor
    _refuse_unsupported(
        spec.id, {**record.options, **spec.options} if record and moved else spec.options, plan.hypervisor
    )
    if record is None:
        _plan_creation(plan, spec, observed, derived)
    else:
        _Existing(plan, spec, record, observed, capabilities, cold or {}, derived).fill()
    _plan_autostart(plan, observed)
    plan.after["state"] = plan.desired
    if plan.has("stop", "cleanup") and plan.has("start"):
        plan.before["boot"], plan.after["boot"] = "previous", "new"
    return plan


def _goal(spec: SandboxSpec, record: SandboxRecord | None) -> str:
    """The state to reach: the requested one, else the recorded one, else `started` for a new sandbox."""
    if spec.state in (None, "present"):
        if record is not None:
            return record.desired
        return "started" if spec.state is None else "stopped"
    return "started" if spec.state == "restarted" else str(spec.state)


def _refuse_unsupported(sandbox: str, options: dict[str, Any], hypervisor: str) -> None:
    declared = declared_options() if options else {}
    refused = [
        name
        for name, value in options.items()
        if declared[name].cost_for(hypervisor) is Cost.UNSUPPORTED and value != zero_of(name)
    ]
    if refused:
        raise Unsupported(
            f"the {hypervisor} hypervisor does not support {' and '.join(refused)}",
            sandbox=sandbox,
            option=refused[0],
            wanted=options[refused[0]],
            fix="Omit it, set it to an empty value if it is recorded, or choose another hypervisor.",
        )


def _plan_removal(plan: Plan, record: SandboxRecord | None, observed: Observed) -> None:
    plan.after["state"] = "absent"
    if record is None and situation(None, observed) == "off":
        return
    if observed.power in ("running", "paused"):
        plan.add("stop")
    plan.add("remove")


def _plan_creation(plan: Plan, spec: SandboxSpec, observed: Observed, derived: Derived) -> None:
    plan.desired = _goal(spec, None)
    plan.options = dict(spec.options)
    plan.defaults = creation_defaults(plan.hypervisor)
    plan.after.update(hypervisor=plan.hypervisor, **shown_options(spec.options))
    own, following = spec.devices or [], derived(plan.options)
    if own or following:
        from ..options.device_options import with_indexes

        _refuse_same_ids(spec.id, own, following)
        plan.devices = with_indexes([*own, *following], [])
        plan.after["devices"] = [_shown(device) for device in plan.devices]
    if situation(None, observed) == "broken":
        plan.add("cleanup")
    plan.add("create")
    if plan.desired != "stopped":
        _add_start(plan)
    _pause_or_save(plan, "running")


def _refuse_same_ids(sandbox: str, own: list[dict[str, Any]], following: list[dict[str, Any]]) -> None:
    """Refuse devices of a task that have the id of a device which follows from an option."""
    by_id = {device["id"]: device["source"] for device in following}
    for device in own:
        if device["id"] in by_id:
            raise ConfigError(
                f"the id {device['id']} belongs to the device of the option {by_id[device['id']]}",
                sandbox=sandbox,
                option="devices",
                wanted=device["id"],
                fix="Give the device another id.",
            )


def _plan_autostart(plan: Plan, observed: Observed) -> None:
    """Add the step that creates the service as the last one, or the step that removes it as the first one."""
    wanted = bool({**plan.defaults, **plan.options}.get("autostart"))
    if wanted == observed.autostart:
        return
    plan.before["autostart_service"], plan.after["autostart_service"] = observed.autostart, wanted
    text = (
        "create the service that starts it after a reboot"
        if wanted
        else "remove the service that starts it after a reboot"
    )
    step = Step("autostart", text, {"wanted": wanted})
    plan.steps.insert(len(plan.steps) if wanted else 0, step)


def _pause_or_save(plan: Plan, now: str) -> None:
    """Add the steps from a running or paused VM to a paused or saved one."""
    if plan.desired in ("paused", "saved") and now == "running":
        plan.add("pause")
    if plan.desired == "saved":
        plan.add("save")
        plan.add("stop", "stop the VMM", force=True)


def _add_start(plan: Plan) -> None:
    template = plan.options.get("template")
    plan.add("start", f"start from template {template}" if template else "start")


class _Existing:
    """The plan for a sandbox that has a record."""

    def __init__(
        self,
        plan: Plan,
        spec: SandboxSpec,
        record: SandboxRecord,
        observed: Observed,
        capabilities: Callable[[], Capabilities],
        cold: Mapping[str, str],
        derived: Derived,
    ) -> None:
        self.plan = plan
        self.spec = spec
        self.record = record
        self.capabilities = capabilities
        self.cold = cold
        self.derived = derived
        self.now = situation(record, observed)
        self.unresponsive = self.now == "unresponsive"
        self.broken = self.now == "broken"
        if self.broken:
            self.now = "saved" if record.saved_state else "off"
        #: The observed VM; if it is saved, the VM that will be restored.
        self.observed = as_saved(record, observed) if self.now == "saved" else observed
        self.has_guest = self.now not in ("off", "unresponsive")

    def fill(self) -> None:
        plan, spec, record = self.plan, self.spec, self.record
        plan.desired = _goal(spec, record)
        plan.options = {**record.options, **spec.options}
        plan.defaults = dict(record.defaults)
        plan.devices = list(record.devices)
        changes = [*self._hypervisor_change(), *self._option_changes(), *self._device_changes()]
        for change in changes:
            if change.name != "devices":
                plan.before[change.name], plan.after[change.name] = change.shown
        if any(change.name == "devices" for change in changes):
            plugged = set(self.observed.devices)
            plan.before["devices"] = [
                {**_shown(device), **({"plugged": False} if self.has_guest and device["id"] not in plugged else {})}
                for device in record.devices
            ]
            plan.after["devices"] = [_shown(device) for device in plan.devices]
        self._check_disruption(changes)
        self._steps(changes)

    # --- what to change ---------------------------------------------------------------------------------------------

    def _hypervisor_change(self) -> list[Change]:
        if self.plan.hypervisor == self.record.hypervisor:
            return []
        lost = "its root disk is made again, and the content is lost" if self.record.options.get("root_disk_mb") else ""
        return [Change("hypervisor", self.record.hypervisor, self.plan.hypervisor, Cost.RECREATE, why=lost)]

    def _option_changes(self) -> list[Change]:
        changes = []
        declared = declared_options() if self.spec.options else {}
        effective = self.record.effective()
        for name, wanted in self.spec.options.items():
            recorded = effective.get(name)
            if recorded is None:
                recorded = zero_of(name)
            live = self._live_change(name, recorded, wanted) if self.has_guest else None
            if live:
                changes.append(live)
            elif name == "root_disk_mb":
                changes += self._disk_change(recorded, wanted)
            elif wanted != recorded and not (declared[name].type == "path" and same_path(recorded, wanted)):
                cost = declared[name].cost_for(self.plan.hypervisor)
                cost = (
                    Cost.RESTART
                    if cost in (Cost.UNSUPPORTED, Cost.LIVE) and name not in (*LIVE_SIZES, *HOST_SIDE)
                    else cost
                )
                why = (
                    f"{self.plan.hypervisor} cannot change it while the VM runs" if name in LIVE_SIZES and cost else ""
                )
                if name == "image_path" and effective.get("root_disk_mb"):
                    cost, why = Cost.RECREATE, "the root disk is made again from this image, and its content is lost"
                changes.append(Change(name, recorded, wanted, cost, why=why))
        return changes

    def _disk_change(self, recorded: int, wanted: int) -> list[Change]:
        """The change of the root disk's size. A disk only grows."""
        if wanted == recorded:
            return []
        name = "root_disk_mb"
        if not wanted:
            return [Change(name, recorded, wanted, Cost.RECREATE, why="the root disk and its content are removed")]
        if not recorded:
            return [Change(name, recorded, wanted, Cost.RESTART, why="the guest gets a root disk of its own")]
        if wanted < recorded:
            raise ConfigError(
                f"must be at least {recorded}, since a disk is never shrunk",
                sandbox=self.spec.id,
                option=name,
                wanted=wanted,
                fix="Raise it, or remove the sandbox and create it again.",
            )
        if not self.has_guest:
            return [Change(name, recorded, wanted, Cost.LIVE)]
        if not self.capabilities().disk_resize:
            return [Change(name, recorded, wanted, Cost.RESTART, why="this VM cannot resize a disk while it runs")]
        text = f"grow the root disk {recorded} -> {wanted} MiB"
        step = Step("resize_disk", text, {"disk": "root", "size": wanted, "options": {name: wanted}})
        return [Change(name, recorded, wanted, Cost.LIVE, (step,))]

    def _live_change(self, name: str, recorded: int, wanted: int) -> Change | None:
        """The change of a size of a running VM, compared with what the VMM reports."""
        if name not in LIVE_SIZES or declared_options()[name].cost_for(self.record.hypervisor) is not Cost.LIVE:
            return None
        observed = self.observed
        if name == "vcpus":
            # If vCPUs cannot be unplugged, a driver takes them offline in the guest. Then more are plugged than were requested.
            offline = observed.vcpus_online is not None and observed.vcpus_online < observed.vcpus
            now = int(observed.vcpus_online or 0) if offline and recorded == observed.vcpus_online else observed.vcpus
        else:
            rounded = recorded == wanted and observed.memory_mb == self.record.memory_reached_mb
            now = wanted if rounded else observed.memory_mb
        if now == wanted:
            return None
        maximum_name, minimum_name, grow, shrink, step = LIVE_SIZES[name]
        maximum = self.record.effective().get(maximum_name) or 0
        minimum = getattr(observed, minimum_name)
        why = ""
        if maximum and wanted > maximum:
            if maximum_name not in self.spec.options:
                raise ConfigError(
                    f"{wanted} exceeds this sandbox's maximum of {maximum}",
                    sandbox=self.spec.id,
                    option=name,
                    wanted=wanted,
                    fix=f"Lower it, or raise {maximum_name} too, which needs a restart.",
                )
            why = f"the new size is above the old {maximum_name}"
        elif wanted < minimum:
            why = f"this VM booted with {minimum} and cannot go below that while it runs"
        elif not getattr(self.capabilities(), grow if wanted > now else shrink):
            why = f"this VM has no {grow if wanted > now else shrink}"
        if why:
            return Change(name, now, wanted, Cost.RESTART, why=why)
        return Change(name, now, wanted, Cost.LIVE, (Step(step, f"{step} {now} -> {wanted}", {"size": wanted}),))

    def _device_changes(self) -> list[Change]:
        """The differences between the listed devices, the recorded ones and those that are plugged."""
        requested = any(name in PROVIDED for name in self.spec.options)
        if self.spec.devices is None and self.spec.device_changes is None and not requested:
            return []
        from ..options.device_options import changed_devices, same_device, with_indexes

        following = self.derived(self.plan.options)
        wanted = self.spec.devices
        if wanted is None:
            wanted = [device for device in self.record.devices if "source" not in device]
            if self.spec.device_changes:
                changed = [{"id": name} for name in self.spec.device_changes]
                _refuse_same_ids(self.spec.id, changed, following)
                wanted = changed_devices(wanted, self.spec.device_changes)
        _refuse_same_ids(self.spec.id, wanted, following)
        self.plan.devices = with_indexes([*wanted, *following], self.record.devices)
        recorded = {device["id"]: device for device in self.record.devices}
        listed = {device["id"]: device for device in self.plan.devices}
        changes = []
        for identity, device in recorded.items():
            new = listed.get(identity)
            if (
                new is not None
                and same_device(device, new)
                and not (self.has_guest and identity in self.observed.outdated)
            ):
                continue
            changes.append(self._device_change(device, new))
        for identity, device in listed.items():
            missing = self.has_guest and identity not in self.observed.devices
            if identity not in recorded or (missing and same_device(recorded[identity], device)):
                changes.append(self._device_change(None, device))
        return changes

    def _device_change(self, old: dict[str, Any] | None, new: dict[str, Any] | None) -> Change:
        from ..options.device_kinds import HOTPLUG, KINDS, UNPLUG, UPDATABLE

        if old and new and self.has_guest and old["id"] in self.observed.devices:
            needed = _update_needs(old, new)
            if old["id"] in self.observed.outdated and not needed and old["type"] == new["type"]:
                # A task was killed, or another program changed it. Values that the device does not have are those of another hypervisor.
                own = KINDS[new["type"]].suboptions if new["type"] in KINDS else {}
                updatable = UPDATABLE.get(new["type"], {})
                needed = {capability for name, capability in updatable.items() if name in own or name in new}
            if needed and all(getattr(self.capabilities(), name) for name in needed):
                step = Step("modify", f"change {new['type']} {new['id']}", {"device": new})
                name = f"{new['type']} {new['id']}"
                return Change("devices", name, name, Cost.LIVE, (step,))
        steps = []
        cost = Cost.LIVE
        if old and (self.has_guest and old["id"] in self.observed.devices):
            steps.append(Step("unplug", f"unplug {old['type']} {old['id']}", {"device": old}))
        elif old and self.has_guest:
            # The guest released it late, or a task was killed: its host resources may still be allocated.
            steps.append(Step("unplug", f"forget {old['type']} {old['id']}", {"device": old}))
        if new:
            steps.append(Step("plug", f"plug {new['type']} {new['id']}", {"device": new}))
        why = ""
        if self.has_guest:
            for device, table in ((old, UNPLUG), (new, HOTPLUG)):
                kind = self._plugged_as(device) if device else ""
                if kind and (kind not in table or not getattr(self.capabilities(), table[kind])):
                    cost, why = Cost.RESTART, f"this VM cannot plug or unplug a {kind} device while it runs"
            if new and new["id"] in self.cold:
                cost, why = Cost.RESTART, self.cold[new["id"]]
        shown = [f"{device['type']} {device['id']}" if device else None for device in (old, new)]
        return Change("devices", shown[0], shown[1], cost, tuple(steps), why)

    def _plugged_as(self, device: dict[str, Any]) -> str:
        """The kind whose capabilities this VM needs to plug or unplug a device."""
        from ..options.device_kinds import KINDS

        kind = KINDS.get(device["type"])
        return kind.plugged_as(device, {**self.plan.defaults, **self.plan.options}) if kind else str(device["type"])

    # --- what the changes need ------------------------------------------------------------------------------------------

    def _check_disruption(self, changes: list[Change]) -> None:
        """Refuse changes that need more disruption than the task allows. If the sandbox is off, only a new VM is refused."""
        goal, allowed = self.plan.desired, DISRUPTIONS.index(self.spec.disruption)
        stops = goal == "stopped" or self.spec.state == "restarted"
        refused: list[str] = []
        for change in changes:
            needed = change.cost
            if needed is Cost.RESTART and (stops or self.now == "off"):
                needed = Cost.LIVE  # The guest is stopped anyway.
            if change.wakes and not stops and goal != "started" and self.now in ("paused", "saved"):
                needed = max(needed, Cost.RESTART)
            if needed > allowed:
                refused.append(change.needs())
        if self.unresponsive and not stops and allowed < Cost.RESTART:
            refused.append(
                f"its VMM does not answer and must be killed ({self.observed.reason or 'no reason is known'})"
            )
        if self.now == "saved" and stops and not allowed:
            refused.append("the change discards its saved state, which needs disruption=restart, or starting it first")
        if refused:
            most = "recreate" if any("a new VM" in text for text in refused) else "restart"
            raise DisruptionError(
                f"these changes need more disruption than the task allows: {'; '.join(refused)}",
                sandbox=self.spec.id,
                option="disruption",
                wanted=self.spec.disruption,
                fix=f"Set disruption={most} to allow it"
                + (", or start the sandbox first." if self.now in ("paused", "saved") else "."),
            )

    # --- the steps -------------------------------------------------------------------------------------------------

    def _steps(self, changes: list[Change]) -> None:
        plan, goal = self.plan, self.plan.desired
        recreate = any(change.cost is Cost.RECREATE for change in changes)
        restart = recreate or any(change.cost is Cost.RESTART for change in changes)
        stops = restart or self.unresponsive or goal == "stopped" or self.spec.state == "restarted"
        now = self.now
        if self.broken:
            plan.add("cleanup")
        if now == "unresponsive":
            plan.add("stop", "end the VMM, which does not answer", force=True)
            now = "off"
        if now in ("running", "paused") and stops:
            plan.add("stop")
            now = "off"
        if now == "saved" and stops:
            plan.add("discard")
            now = "off"
        if now == "off":
            self._define(changes, recreate)
            if goal == "stopped":
                return
            _add_start(plan)
            now = "running"
        else:
            now = self._wake(now, changes)
        if now == "paused" and goal == "saved" and self.record.saved_state and not plan.steps:
            plan.add("stop", "stop the VMM", force=True)  # The task that saved it was killed here.
        elif now != "saved":
            _pause_or_save(plan, now)

    def _define(self, changes: list[Change], recreate: bool) -> None:
        """Add the step that changes the definition of a VM that is off."""
        if recreate:
            self.plan.defaults = creation_defaults(self.plan.hypervisor)
            self.plan.add("recreate", "recreate with " + ", ".join(map(str, changes)))
        elif changes:
            self.plan.add("update", "set " + ", ".join(map(str, changes)), everything=True)

    def _wake(self, now: str, changes: list[Change]) -> str:
        """Add the steps that restore and resume the VM as far as the goal and the changes need, and the steps of the changes."""
        plan, goal = self.plan, self.plan.desired
        wakes = any(change.wakes for change in changes)
        if now == "saved" and (wakes or goal != "saved"):
            plan.add("restore")
            now = "paused"
        if now == "paused" and (wakes or goal == "started"):
            plan.add("resume")
            now = "running"
        for change in changes:
            if change.steps:
                plan.steps.extend(change.steps)
            else:
                plan.add("update", f"set {change}", options={change.name: change.new})
        return now


def _update_needs(old: dict[str, Any], new: dict[str, Any]) -> set[str]:
    """The capabilities that change one device into the other while it stays plugged. Empty if that is impossible."""
    from ..options.device_kinds import UPDATABLE

    different = {name for name in {**old, **new} if name != "index" and old.get(name) != new.get(name)}
    updatable = UPDATABLE.get(new["type"], {})
    if old["type"] != new["type"] or not different <= set(updatable):
        return set()
    return {updatable[name] for name in different}


#: Sizes that can change while the VM runs: the option of their maximum, the field of `Observed` with their minimum, the capabilities to
#: grow and to shrink, and the step.
LIVE_SIZES = {
    "vcpus": ("max_vcpus", "min_vcpus", "vcpu_hotplug", "vcpu_unplug", "resize_vcpus"),
    "memory_mb": ("max_memory_mb", "min_memory_mb", "memory_grow", "memory_shrink", "resize_memory"),
}
