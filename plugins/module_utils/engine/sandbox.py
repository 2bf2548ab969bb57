# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One sandbox while a task works on it: its record, its driver, what was observed, and the plan."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Callable

from ..errors import ConfigError, HypervisorError, NeedsRestart, StoreError, VmmError, printable
from ..hypervisors import HYPERVISORS, new_hypervisor
from ..hypervisors.base import Capabilities, Context, Hypervisor, Observed
from ..options.config import ASSET_NAME, DIGESTS
from ..options.resource_options import PROVIDED, RESOURCE_OPTIONS, checked_resource, managed_network
from ..options.shown import shown_device, shown_options
from ..options.spec import DEFAULT_HYPERVISOR, SandboxSpec, make_config
from ..records.record import SETTLED, SandboxRecord, unusable_record
from ..records.store import Store, StoreFull
from ..untrusted.answers import AnswerError, brief
from .planner import make_plan, no_devices
from .states import state_of
from .steps import Plan

if TYPE_CHECKING:
    from ..options.config import HypervisorConfig
    from .autostart import Service
    from .resources import SandboxResources
    from .template import Template


#: A function that creates the driver of a hypervisor, by the hypervisor's name.
DriverFactory = Callable[[str, Context], Hypervisor]


class Sandbox:
    """One sandbox while a task works on it."""

    def __init__(self, spec: SandboxSpec, factory: DriverFactory = new_hypervisor) -> None:
        self.spec = spec
        self.layout = spec.layout()
        self.store = Store(self.layout)
        self.factory = factory
        self.record: SandboxRecord | None = None
        self.driver: Hypervisor | None = None
        self.observed = Observed()
        self.plan = Plan()
        self.prepared: Hypervisor | None = None
        #: Digests that this task computed and that are not in the cache yet.
        self.digests: dict[str, str] = {}
        #: The method of each resize, by option.
        self.resized: dict[str, str] = {}
        #: The template that a clone is about to start from.
        self.template: Template | None = None
        self._resources: SandboxResources | None = None
        #: The error of a record that could not be stored while a VM was ended.
        self.unsaved: StoreFull | None = None
        #: Why the record cannot be used; set only if the task removes the sandbox.
        self.damage = ""
        #: Further drivers that may have the VM of a sandbox whose record cannot be used.
        self.other_drivers: list[Hypervisor] = []

    # --- reading and observing ----------------------------------------------------------------------------------------

    def load(self) -> None:
        """Read the record and observe the VM.

        :raises StoreError: the record cannot be used, and the task does not remove the sandbox
        :raises ConfigError: the sandbox was created with another `run_dir`
        """
        lost: list[str] = []
        try:
            self.record = self.store.load()
            if self.record is not None:
                self._check_run_dir(self.record)
                self.driver = self._loaded_driver(self.record)
            else:
                lost = self._files_without_record()
                if lost or os.path.isdir(self.layout.run_dir):
                    # A VM ran here, and its record is lost.
                    self.driver = self._new_driver(self.spec.hypervisor or DEFAULT_HYPERVISOR)
        except StoreError as problem:
            if self.spec.state != "absent":
                raise
            self._salvage(problem)
        if self.driver is not None:
            self.observed = self.driver.observe()
        self.observed.leftovers += lost
        if self.record is not None and "autostart" in {**self.spec.options, **self.record.options}:
            service = self.service(self._options())
            wanted = self._options()["autostart"] and self.spec.state != "absent"
            # If it is to be removed, any version of it counts.
            self.observed.autostart = service.in_place() if wanted else service.exists()

    def _files_without_record(self) -> list[str]:
        """The root disk and the seed of a sandbox whose record is lost."""
        try:
            there = os.listdir(self.layout.state_dir)
        except OSError:
            return []
        if set(there) <= {os.path.basename(self.layout.lock_path)}:
            return []  # A new sandbox has nothing but its lock.
        from .resources import resource_files

        return resource_files(self.layout)

    def service(self, options: dict[str, Any]) -> Service:
        """The service that starts the sandbox at boot."""
        from .autostart import Service

        network = managed_network(options)
        if not network:
            return Service(self.layout)
        from ..resources.networks.definition import unit_name

        return Service(self.layout, unit_name(network, self.layout.state_root))

    def _check_run_dir(self, record: SandboxRecord) -> None:
        """Refuse a run_dir other than the recorded one: the VM, whose sockets are there, would not be found and would be started twice."""
        if record.run_dir and record.run_dir != self.layout.run_root:
            raise ConfigError(
                f"run_dir must be {record.run_dir}, with which the sandbox was created",
                sandbox=self.spec.id,
                option="run_dir",
                wanted=self.layout.run_root,
                fix=f"Set run_dir={record.run_dir}. To move the sandbox, remove it and create it again.",
            )

    def _salvage(self, problem: StoreError) -> None:
        """Find what to remove of a sandbox whose record cannot be used, from the readable part of the record, or by a search of each driver."""
        from ..records.record import salvage_record

        self.damage = problem.message
        try:
            text = self.store.read() or ""
        except StoreError as unreadable:
            if isinstance(unreadable.__cause__, PermissionError):
                raise
            text = ""
        self.record = salvage_record(text, self.spec.id, self.spec.hypervisor or DEFAULT_HYPERVISOR)
        names = [self.record.hypervisor, *(name for name in HYPERVISORS if name != self.record.hypervisor)]
        drivers = []
        for name in names:
            with contextlib.suppress(ConfigError):
                drivers.append(self._searching_driver(name, self.record))
        self.driver, self.other_drivers = drivers[0], drivers[1:]

    def _searching_driver(self, hypervisor: str, record: SandboxRecord) -> Hypervisor:
        """A driver that has the readable part of the record and searches the host for its VM."""
        driver = self._new_driver(hypervisor)
        if hypervisor == record.hypervisor:
            with contextlib.suppress(HypervisorError, TypeError, ValueError, KeyError, AttributeError):
                driver.load(record.driver, self.configuration(record.effective()))
        driver.adopt()
        return driver

    def disconnect(self) -> None:
        """Close the drivers' connections and descriptors."""
        for driver in (self.driver, self.prepared, *self.other_drivers):
            if driver is not None:
                driver.disconnect()

    def wait(self) -> None:
        """Wait for the condition of the option `wait_for`."""
        from .waiting import wait_for

        if self.spec.wait_for and self.driver is not None and self.record is not None:
            try:
                wait_for(
                    self.spec.wait_for,
                    self.driver,
                    self.spec.id,
                    self.record.console_start,
                    self._interfaces(self.record),
                    *self._ways_in(self.record.options),
                )
            finally:
                self.driver.disconnect()

    def _ways_in(self, options: dict[str, Any]) -> tuple[list[str], list[tuple[str, int]]]:
        """The addresses that the host gives the guest, and the addresses and ports of the host that lead to its ssh server."""
        if not options.get("network"):
            return [], []
        return self.resources.ways_in(options, self.record.resources if self.record is not None else {})

    def _interfaces(self, record: SandboxRecord) -> list[str]:
        """The host's interfaces that lead to the guest: bridges, and taps that are in no bridge."""
        from ..host.network import tap_name

        taps = [device for device in record.devices if device["type"] == "net" and device.get("kind") == "tap"]
        return sorted(
            {
                device.get("bridge") or device.get("tap_name") or tap_name(self.layout.host_name, device["id"])
                for device in taps
            }
        )

    @property
    def saved_path(self) -> str:
        """The directory for the VM's saved state."""
        return os.path.join(self.layout.state_dir, "saved")

    def is_unsettled(self) -> bool:
        """Whether the record is out of date: the VM changed by itself, or a task was killed before it saved the record."""
        record, plan = self.record, self.plan
        if record is None or not plan.desired:
            return False
        return record.phase != SETTLED or record.desired != plan.desired or self.has_stale_save()

    def may_be_changing(self) -> bool:
        """Whether another task may be changing the sandbox at this moment."""
        doubtful = state_of(self.record, self.observed) in ("crashed", "failed", "unresponsive", "incomplete")
        return doubtful or (self.record is not None and self.record.phase != SETTLED)

    def has_stale_save(self) -> bool:
        """Whether there is a saved state although the guest has run since."""
        return self.record is not None and bool(self.record.saved_state) and self.observed.power == "running"

    # --- drivers ---------------------------------------------------------------------------------------------------

    def _new_driver(self, hypervisor: str) -> Hypervisor:
        context = Context(self.spec.id, self.layout.run_dir, self.layout.state_dir)
        driver = self.factory(hypervisor, context)
        context.checkpoint = lambda: self._checkpoint(driver)
        return driver

    def _loaded_driver(self, record: SandboxRecord) -> Hypervisor:
        if record.hypervisor not in HYPERVISORS:
            raise unusable_record(
                f"names a hypervisor that this version does not have, {brief(record.hypervisor)}",
                record.id,
                self.layout.record_path,
            )
        driver = self._new_driver(record.hypervisor)
        try:
            for name in RESOURCE_OPTIONS:
                if name in record.options:
                    checked_resource(name, record.options[name])
            config = self.configuration(record.effective())
            config.check_values()
            driver.load(record.driver, config)
        except (ConfigError, AnswerError, TypeError, ValueError, KeyError, AttributeError) as problem:
            raise unusable_record(
                f"cannot be used by the driver {record.hypervisor} ({problem})", record.id, self.layout.record_path
            ) from problem
        return driver

    def configuration(self, options: dict[str, Any]) -> HypervisorConfig:
        """The VM's configuration, from options by name, with the paths of its image and of its root disk."""
        config = make_config(options)
        if self.has_resources(options):
            recorded = self.record.resources if self.record is not None else {}
            self.resources.configure(config, recorded, self.plan.has("start", "recreate"))
        return config

    @property
    def resources(self) -> SandboxResources:
        """What the host gives the sandbox."""
        if self._resources is None:
            from .resources import SandboxResources

            recorded = self.record.hypervisor if self.record is not None else DEFAULT_HYPERVISOR
            self._resources = SandboxResources(self.layout, self.spec.hypervisor or recorded)
        return self._resources

    def _options(self) -> dict[str, Any]:
        """The options that tasks have set, this one included."""
        return {**(self.record.options if self.record is not None else {}), **self.spec.options}

    def has_resources(self, options: dict[str, Any]) -> bool:
        """Whether the sandbox has, or had, anything that `resources` handles."""
        record = self.record
        return (
            bool(ASSET_NAME.fullmatch(str(options.get("image_path") or "")))
            or any(name in options for name in PROVIDED)
            or (record is not None and bool(record.resources))
        )

    def _checkpoint(self, driver: Hypervisor) -> None:
        """Save a driver's state in the record. While the driver only observes, nothing is saved."""
        if self.record is not None and driver is self.driver:
            self.record.driver = driver.save()
            self.save_record(self.record)

    def save_record(self, record: SandboxRecord) -> None:
        """Save the record. If the disk is full while a VM is being stopped, stopping goes on, and the task fails with this error at its end.

        :raises StoreError: it cannot be saved
        """
        try:
            self.store.save(record)
            self.unsaved = None
        except StoreFull as problem:
            if not self.plan.only_ends():
                raise
            self.unsaved = problem

    def prepare(self) -> Hypervisor:
        """A driver that is ready to start: with the plan's options validated and its devices added.

        :raises ConfigError: an option or a device is invalid
        """
        config = self._configuration_to_start()
        config.check_consistent()
        driver = self._new_driver(self.plan.hypervisor)
        if self.record is not None and self.record.hypervisor == self.plan.hypervisor:
            driver.load(self.record.driver, config)
        elif self.observed.pid:
            driver.context.ending = (self.observed.pid,)
        driver.create_sandbox(config)
        self._check_digests(driver.hypervisor_config())
        add_devices(driver, [device for device in self.plan.devices if not _is_to_come(device)])
        if self.plan.has("start"):
            driver.check_start()
        return driver

    def _check_digests(self, config: HypervisorConfig) -> None:
        """Refuse to start from files whose digests are not those that the options name."""
        if any(getattr(config, option) for option in DIGESTS):
            from ..hypervisors.common.boot_files import check_digests

            self.digests.update(check_digests(config, self.digests_path))

    @property
    def digests_path(self) -> str:
        """The file with the digests that were computed since the last boot."""
        return os.path.join(self.layout.run_root, "asset-digests.json")

    def keep_digests(self) -> None:
        """Cache the digests that were computed."""
        if self.digests:
            from ..host.boot_cache import cache_put

            cache_put(self.digests_path, self.digests)
            self.digests = {}

    def _configuration_to_start(self) -> HypervisorConfig:
        """The configuration of a VM that is about to start. A clone has the template's value for each option that no task has set."""
        name = self.plan.options.get("template")
        if not name:
            return self.configuration({**self.plan.defaults, **self.plan.options})
        from .template import Template

        self.template = Template.open(name, self.spec)
        self.plan.defaults = self.template.options()
        return self.template.configuration_of_clone(self.plan.hypervisor, self.plan.options)

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """The block in which the VM starts. A clone's template cannot be removed or replaced meanwhile."""
        if self.template is None:
            yield
            return
        with self.template.reading(self.spec.lock_timeout):
            if self.template.has_changed():
                self.prepared = None
            yield

    def abandon(self) -> None:
        """Remove what a failed task must not leave behind. Nothing for a sandbox, since the next task repairs it."""

    def explain(self, problem: HypervisorError) -> None:
        """Add the sandbox's id to an error and, if the VMM failed, why it ended and where its log is."""
        if problem.explained:
            return
        problem.explained = True
        problem.sandbox = problem.sandbox or self.spec.id
        driver = self.driver or self.prepared
        if isinstance(problem, VmmError) and driver is not None:
            driver.explain(problem)
            problem.log = problem.log or driver.vmm_log()
        if problem.log and not os.path.exists(problem.log):
            problem.log = ""

    def live_driver(self) -> Hypervisor:
        """The driver of a sandbox that has one.

        :raises VmmError: it has none
        """
        if self.driver is None:
            raise VmmError("the sandbox has no driver")
        return self.driver

    def known_record(self) -> SandboxRecord:
        """The record of a sandbox that has one.

        :raises VmmError: it has none
        """
        if self.record is None:
            raise VmmError("the sandbox has no record")
        return self.record

    def forget(self) -> None:
        """Remove the record and everything that is stored with it."""
        self.record = None
        self.store.remove()

    # --- planning --------------------------------------------------------------------------------------------------

    def make_plan(self) -> None:
        """Plan the task's request, and refuse a request that cannot be fulfilled.

        :raises HypervisorError: it cannot be fulfilled; nothing was changed
        """
        self._adopt_template()
        capabilities = self.driver.capabilities if self.driver is not None else Capabilities
        derived = self.resources.devices if self.has_resources(self._options()) else no_devices
        self.plan = make_plan(self.spec, self.record, self.observed, capabilities, None, derived)
        cold = self._cold_devices()
        if cold:
            self.plan = make_plan(self.spec, self.record, self.observed, capabilities, cold, derived)
        if derived is not no_devices:
            from .resource_planning import ResourcePlanner

            ResourcePlanner(self.resources).plan(self.plan, self.record, self.observed)
        self._check_supervision()
        self._refuse_own_files()
        if self.plan.has("create", "recreate", "start") or any(
            "everything" in step.arguments for step in self.plan.steps
        ):
            # Validated while the old VM still runs: it must not be stopped for a new one that cannot start.
            self.prepared = self.prepare()
        self._check_capabilities(self.prepared or self.driver)
        self._check_distinct()
        self._check_steps()
        self._check_wait(self.prepared or self.driver)
        if self.prepared and self.plan.has("stop", "cleanup", "remove"):
            self.prepared = None  # It was prepared while another VM existed.

    def _cold_devices(self) -> dict[str, str]:
        """The devices to plug that the running VM cannot get: the reason by id. Determined only if the task allows a restart."""
        cold: dict[str, str] = {}
        if self.driver is None or self.plan.has("start") or self.spec.disruption == "none":
            return cold
        from ..options.device_options import make_device

        for step in self.plan.steps:
            if step.name == "plug" and not _is_to_come(step.arguments["device"]):
                try:
                    self.driver.check_device(make_device(step.arguments["device"]))
                except NeedsRestart as problem:
                    cold[step.arguments["device"]["id"]] = problem.message
        return cold

    def _adopt_template(self) -> None:
        """Use the template's hypervisor for a new clone if the task names none."""
        name = self.spec.options.get("template")
        if name and self.record is None and self.spec.hypervisor is None and self.spec.state != "absent":
            from .template import Template

            self.spec = dataclasses.replace(self.spec, hypervisor=Template.open(name, self.spec).record.hypervisor)

    def _check_capabilities(self, driver: Hypervisor | None) -> None:
        """Refuse a plan with steps that the VM does not support, before anything is changed.

        :raises Unsupported: names the operation
        """
        for step in self.plan.steps:
            if step.needs and driver is not None and not getattr(driver.capabilities(), step.needs):
                driver.unsupported(step.name, driver.why_not(step.needs))

    def _check_distinct(self) -> None:
        """Refuse to attach a file twice to the VM, also by different names, if the guest can write to it."""
        if not self.plan.has("create", "recreate", "update", "start", "restore", "plug", "modify"):
            return
        taps = [device["tap_name"] for device in self.plan.devices if device.get("tap_name")]
        for name in taps:
            if taps.count(name) > 1:
                raise ConfigError(
                    "each interface must have a tap_name of its own",
                    option="devices",
                    wanted=name,
                    fix="Choose a different tap_name for each interface.",
                )
        if not any("file" in device for device in self.plan.devices):
            return
        from ..host.block_devices import check_distinct
        from ..hypervisors.common.vmm_process import file_uses
        from ..options.device_options import make_device

        config = self.configuration({**self.plan.defaults, **self.plan.options})
        check_distinct(file_uses(config, [make_device(device) for device in self.plan.devices]))

    def _refuse_own_files(self) -> None:
        """Refuse the disks of volumes and of sandboxes as devices of a task."""
        own = [device for device in self.plan.devices if "file" in device and "source" not in device]
        if own and self.plan.has("create", "recreate", "update", "start", "plug", "modify"):
            from ..resources.volumes import refuse_own_files

            refuse_own_files(self.layout, own)

    def _check_steps(self) -> None:
        """Refuse devices that the running VM cannot get, before anything is changed."""
        if self.driver is None or self.plan.has("start"):
            return
        for step in self.plan.steps:
            if step.name == "plug" and not _is_to_come(step.arguments["device"]):
                from ..options.device_options import make_device

                self.driver.check_device(make_device(step.arguments["device"]))
            elif step.name == "resize_disk" and not self.plan.has("restore"):
                self.driver.check_resize_disk(step.arguments["disk"], step.arguments["size"])
            elif step.name == "modify":
                from ..options.device_options import make_device

                self.driver.check_update(make_device(step.arguments["device"]))
            elif step.name == "resize_memory":
                self.driver.check_resize_memory(step.arguments["size"])
            elif step.name == "restore" and self.record is not None:
                # Checked with another driver, since the devices are added to the one that restores.
                driver = self._loaded_driver(self.record)
                driver.check_restore(self.record.saved_state)
                self._check_digests(self.configuration({**self.plan.defaults, **self.plan.options}))
                add_devices(driver, self.record.devices)
            elif step.name == "save" and not self.plan.has("restore", "unplug"):
                self.driver.check_save()

    def _check_wait(self, driver: Hypervisor | None) -> None:
        """Refuse a `wait_for` that this VM cannot report, before anything is changed."""
        if self.spec.wait_for and self.plan.desired in ("started", "saved", "paused") and driver is not None:
            from .waiting import check_possible

            check_possible(
                self.spec.wait_for, driver.name, driver.capabilities(), self.spec.id, *self._ways_in(self.plan.options)
            )

    def _check_supervision(self) -> None:
        """Refuse options that this host's supervisor does not support, before anything is changed."""
        options = {**self.plan.defaults, **self.plan.options}
        if self.plan.has("start", "restore") and (
            options.get("supervisor") == "systemd" or options.get("unit_properties")
        ):
            from ..host.systemd import resolve
            from ..hypervisors.common.scope import check_properties

            check_properties(self.configuration(options))
            if options.get("supervisor") == "systemd":
                resolve("systemd")
        if self.plan.has("autostart") and options.get("autostart"):
            from .autostart import check_possible

            check_possible(self.spec.id)

    def tidy(self) -> None:
        """Remove files that a killed task left incomplete, and saved state that the record does not name: it is incomplete or was restored."""
        self.store.drop_draft()
        if self.has_resources(self._options()):
            self.resources.tidy()
        saved = self.saved_path
        if os.path.isdir(saved) and (self.record is None or not self.record.saved_state):
            import shutil

            shutil.rmtree(saved, ignore_errors=True)

    def place(self) -> dict[str, Any]:
        """The facts that are known of any sandbox, existing or not."""
        return {"id": self.spec.id, "run_dir": self.layout.run_dir, "state_dir": self.layout.state_dir}

    def facts(self) -> dict[str, Any]:
        """The facts of the sandbox."""
        record, driver, observed = self.record, self.driver, self.observed
        facts = {**self.place(), "state": state_of(record, observed)}
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
                capabilities=dict(vars(driver.capabilities())),
                thread_ids=_thread_ids(driver, observed),
                **driver.details(),
            )
        if record is not None:
            plugged = set(observed.devices)
            facts.update(
                hypervisor=record.hypervisor,
                desired=record.desired,
                labels=record.effective().get("labels") or {},
                options=shown_options(record.effective()),
                devices=[{**shown_device(device), "plugged": device["id"] in plugged} for device in record.devices],
                saved_state=record.saved_state,
                created_at=record.created,
                changed_at=record.changed,
                collection_version=record.collection_version,
            )
            if self.has_resources(record.options):
                facts.update(self.resources.facts(record.effective(), record.resources))
        # Some of them contain text of the VMM or the guest.
        return {name: printable(fact) if isinstance(fact, str) else fact for name, fact in facts.items()}

    def guest_facts(self) -> dict[str, Any]:
        """What the guest itself reports, under a key of its own; nothing if no agent answers."""
        guest = self.driver.guest_facts() if self.driver is not None else {}
        return {"guest": guest} if guest else {}

    def result(self, facts: dict[str, Any]) -> dict[str, Any]:
        """The module's result."""
        return {
            "changed": bool(self.plan.steps),
            "actions": self.plan.actions,
            "sandbox": facts,
            "diff": {"before": self.plan.before, "after": self.plan.after},
            **({"resized": self.resized} if self.resized else {}),
            **({"warnings": self._resources.warnings} if self._resources and self._resources.warnings else {}),
        }


def _is_to_come(device: dict[str, Any]) -> bool:
    """Whether a device follows from an option and its file, or its bridge, is created later in the plan; `ResourcePlanner` has checked it.

    The bridge of a network is missing after a reboot of a host without systemd.
    """
    if "source" not in device:
        return False
    bridge = device.get("bridge")
    return not os.path.exists(device.get("file", f"/sys/class/net/{bridge}" if bridge else "/"))


def _thread_ids(driver: Hypervisor, observed: Observed) -> dict[str, int]:
    """The host's thread ids by vCPU, if the VMM answers."""
    if observed.power not in ("running", "paused"):
        return {}
    threads = driver.get_thread_ids() if observed.thread_ids is None else observed.thread_ids
    return {str(vcpu): thread for vcpu, thread in threads.items()}


def add_devices(driver: Hypervisor, devices: list[dict[str, Any]]) -> None:
    """Add devices to a VM that does not run yet."""
    if devices:
        from ..options.device_options import make_device

        for device in devices:
            driver.add_device(make_device(device))
