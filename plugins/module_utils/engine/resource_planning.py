# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan what the host gives one sandbox: the steps that create, change and remove its resources. Reads the host, and changes nothing."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Mapping

from ..errors import AssetError, ConfigError, HypervisorError, StateError
from ..hypervisors.base import Observed
from ..options.resource_options import check_together, managed_network
from ..records.record import SandboxRecord
from .resources import SandboxResources, wants_seed
from .states import as_saved, situation
from .steps import Plan, Step

#: Steps after which the VM is off.
ENDED = ("recreate", "stop", "cleanup", "discard")


class ResourcePlanner:
    """Plans the resources of one sandbox."""

    def __init__(self, resources: SandboxResources) -> None:
        self.resources = resources

    def plan(self, plan: Plan, record: SandboxRecord | None, observed: Observed) -> None:
        """Add the steps that create, change and remove resources, and the resources to the diff. Changes nothing on the host.

        :raises HypervisorError: a resource cannot be provided
        """
        if not plan.desired:
            self._plan_removal(plan, record)
            return
        options = {**plan.defaults, **plan.options}
        check_together(options)
        try:
            first, later = self._plan_provision(plan, options, record, observed)
        except HypervisorError as problem:
            if plan.desired != "stopped" or not plan.only_ends():
                raise
            # A VM can be ended although what it had is lost, and stay off. Starting it again is refused.
            self.resources.warnings.append(str(problem))
        else:
            insert_steps(plan, first, later)
        plan.steps += self._plan_release(options, record)

    def _plan_provision(
        self, plan: Plan, options: Mapping[str, Any], record: SandboxRecord | None, observed: Observed
    ) -> tuple[list[Step], list[Step]]:
        """The steps that provide resources before anything is stopped, and those when the VM is off and before it starts."""
        recorded = record.resources if record is not None else {}
        self._refuse_used_ports(plan, options, record, observed)
        first, growth = self._plan_volumes(plan, options, record, observed)
        later = [
            *growth,
            *self._plan_disk(plan, options, recorded),
            *self._plan_lease(plan, options, recorded),
            *self._plan_seed(options),
        ]
        return first, later

    @staticmethod
    def _refuse_used_ports(
        plan: Plan, options: Mapping[str, Any], record: SandboxRecord | None, observed: Observed
    ) -> None:
        """Refuse ports of a network of the VMM that another program of the host listens on."""
        if options.get("network") != "user" or not options.get("ports"):
            return
        from ..options.network_options import parse_ports
        from ..resources.networks.leases import listening_ports

        known = (record.options.get("ports") or []) if record is not None else []
        if observed.power == "off" and plan.has("start", "restore"):
            known = []  # The VM does not listen on them, so another program does.
        wanted = parse_ports([port for port in options["ports"] if port not in known])
        taken = listening_ports() if wanted else []
        for port in wanted:
            if any(port.of_vmm.collides_with(other) for other in taken):
                raise ConfigError(
                    f"port {port.host_port}/{port.protocol} of the host must be free, and a program listens on it",
                    option="ports",
                    wanted=port.text,
                    fix="Choose another port of the host, or stop that program.",
                )

    def _plan_volumes(
        self, plan: Plan, options: Mapping[str, Any], record: SandboxRecord | None, observed: Observed
    ) -> tuple[list[Step], list[Step]]:
        """The steps that create and claim volumes, and those that grow them. One that a running VM has is grown by its driver."""
        requests = self.resources.volumes(options)
        if not requests:
            return [], []
        from ..resources import volumes

        root = self.resources.layout.state_root
        vm = as_saved(record, observed) if record is not None and situation(record, observed) == "saved" else observed
        claims = volumes.claims_of(self.resources.layout)
        recorded = {volume["name"]: volume.get("size_mb") for volume in self._recorded_volumes(record)}
        created: list[Step] = []
        grown: list[Step] = []
        for request in requests:
            self.resources.warnings += volumes.plan_volume(root, request)
            there = volumes.find_volume(root, request.name)
            old, new = there.size_mb if there else 0, request.size_mb
            if there is not None:
                volumes.check_claim(self.resources.layout, request.name, request.read_only)
            shown = f"volume {request.name}"
            if new > old:
                plan.before[shown], plan.after[shown] = {"size_mb": old} if old else None, {"size_mb": new}
            device = volumes.DEVICE_PREFIX + request.name
            attached = device in vm.devices and not plan.has("stop", "cleanup", "discard")
            step = Step("provide", "", {"resource": "volume", "request": request})
            if there is None and attached:
                raise AssetError(
                    f"volume {request.name} must be where it was created",
                    option="volumes",
                    wanted=self.resources.volume(request).path,
                    answer="it is missing, and the VM has it open or was saved with it",
                    fix="Copy its content in the guest, or stop the sandbox (state: stopped). Then a new volume can be created.",
                )
            if there is None:
                text = f"create {shown}, {new} MiB, {request.filesystem or 'ext4'}"
                created.append(dataclasses.replace(step, text=text))
                continue
            if claims.get(request.name) != {"read_only": request.read_only, "keep": request.keep}:
                reserved = dataclasses.replace(request, size_mb=0)
                created.append(Step("provide", f"reserve {shown}", {"resource": "volume", "request": reserved}))
            runs = attached and (vm is observed or plan.has("restore"))
            # A task that was killed may have grown the file before the VM noticed.
            if runs and new and (new > old or recorded.get(request.name) not in (None, new)):
                arguments = {"disk": device, "size": new}
                plan.steps.append(Step("resize_disk", f"grow {shown} {old} -> {new} MiB", arguments))
            elif new > old:
                if not plan.has("stop", "cleanup", "discard"):
                    users = (self.resources.layout.id,) if plan.has("restore") else ()
                    volumes.check_growable(root, there, users)
                grown.append(dataclasses.replace(step, text=f"grow {shown} {old} -> {new} MiB"))
        return created, grown

    @staticmethod
    def _recorded_volumes(record: SandboxRecord | None) -> list[dict[str, Any]]:
        return list(record.options.get("volumes") or []) if record is not None else []

    def _plan_disk(self, plan: Plan, options: Mapping[str, Any], recorded: Mapping[str, Any]) -> list[Step]:
        size = options.get("root_disk_mb") or 0
        disk = self.resources.recorded_disk(recorded)
        if disk is not None and (plan.has("recreate") or not size):
            plan.before["root_disk"], plan.after["root_disk"] = disk.size_mb, None
            disk = None
        if not size:
            return []
        from ..resources import root_disk

        if disk is None:
            if plan.has("create") and root_disk.find_root_disk(self.resources.layout) is not None:
                raise StateError(
                    "the root disk of a sandbox of this name is there, and its record is lost",
                    option="root_disk_mb",
                    wanted=self.resources.layout.state_dir,
                    fix="Nothing was changed. Restore the record from a backup, copy the disk, or remove it with state: absent.",
                )
            # A disk that is there, but not in the record, was left by a killed task and never used.
            base, base_format = self.resources.base(options)
            disk_format = self.resources.disk_format
            self.resources.warnings += root_disk.plan_root_disk(
                self.resources.layout, base, base_format, disk_format, size, True
            )
            plan.before.setdefault("root_disk", None)
            plan.after["root_disk"] = size
            arguments = {"resource": "root_disk", "base": base, "base_format": base_format, "format": disk_format}
            text = f"create the root disk, {size} MiB, from {options['image_path']}"
            return [Step("provide", text, {**arguments, "size": size})]
        if root_disk.find_root_disk(self.resources.layout) is None:
            raise AssetError(
                "the root disk must be where it was created",
                option="root_disk_mb",
                wanted=disk.path,
                answer="it is missing",
                fix="Restore it from a backup, or remove the sandbox and create it again.",
            )
        if plan.has("start", "restore"):
            root_disk.check_base(disk)
        if disk.size_mb < size and not plan.has("resize_disk"):
            text = f"grow the root disk {disk.size_mb} -> {size} MiB"
            return [Step("provide", text, {"resource": "root_disk", "size": size})]
        return []

    def _plan_lease(self, plan: Plan, options: Mapping[str, Any], recorded: Mapping[str, Any]) -> list[Step]:
        name = managed_network(options)
        if not name:
            return []
        from ..resources.networks.leases import is_current, plan_leases

        network = self.resources.network(name)
        (lease,) = plan_leases(network, [self.resources.lease_request(options)])
        self.resources.lease = lease
        before, after = recorded.get("network") or {}, lease.facts()
        if before == after and is_current(lease, self.resources.layout.state_root):
            return []
        self.resources.shown = plan.after
        for shown in ("address", "address6"):
            if before.get(shown, "") != after[shown]:
                plan.before[shown], plan.after[shown] = before.get(shown), after[shown]
        return [Step("provide", _lease_text(before, after), {"resource": "lease"})]

    def _plan_seed(self, options: Mapping[str, Any]) -> list[Step]:
        if not wants_seed(options):
            return []
        from ..resources import seed

        if not seed.plan_seed(self.resources.layout, self.resources.seed(options)):
            return []
        there = os.path.exists(seed.seed_path(self.resources.layout))
        return [Step("provide", "update the seed" if there else "create the seed", {"resource": "seed"})]

    def _plan_release(self, options: Mapping[str, Any], record: SandboxRecord | None) -> list[Step]:
        """The steps that remove what the sandbox no longer has."""
        if record is None:
            return []
        steps = []
        old = record.resources.get("network", {}).get("network")
        if old and old != options.get("network"):
            steps.append(
                Step("release", f"release the address in network {old}", {"resource": "lease", "network": old})
            )
        if record.resources.get("root_disk") and not options.get("root_disk_mb"):
            steps.append(Step("release", "remove the root disk", {"resource": "root_disk"}))
        if record.resources.get("seed") and not wants_seed(options):
            steps.append(Step("release", "remove the seed", {"resource": "seed"}))
        kept = {volume["name"] for volume in options.get("volumes") or []}
        for name, keep in self.resources.own_claims().items():
            if name not in kept:
                text = f"{'release' if keep else 'remove'} volume {name}"
                steps.append(Step("release", text, {"resource": "volume", "name": name, "remove": not keep}))
        return steps

    def _plan_removal(self, plan: Plan, record: SandboxRecord | None) -> None:
        """Show in the plan what is removed together with the sandbox."""
        if record is None or not plan.has("remove"):
            return
        gone = []
        if record.resources.get("root_disk"):
            gone.append("its root disk")
            plan.before["root_disk"], plan.after["root_disk"] = record.resources["root_disk"].get("size_mb"), None
        if record.resources.get("network"):
            address = record.resources["network"].get("address")
            gone.append(f"its address {address}")
            plan.before["address"], plan.after["address"] = address, None
        for name in (name for name, keep in self.resources.own_claims().items() if not keep):
            gone.append(f"volume {name}")
            plan.before[f"volume {name}"], plan.after[f"volume {name}"] = "present", None
        if gone:
            plan.steps = [
                dataclasses.replace(step, text=f"{step.text} with {', '.join(gone)}") if step.name == "remove" else step
                for step in plan.steps
            ]


def insert_steps(plan: Plan, first: list[Step], later: list[Step]) -> None:
    """Insert steps into a plan: the first ones before anything is stopped, the later ones when the VM is off and before it starts."""
    names = [step.name for step in plan.steps]
    begin = names.index("create") + 1 if "create" in names else 0
    plan.steps[begin:begin] = first
    names = [step.name for step in plan.steps]
    ended = max((place + 1 for place, name in enumerate(names) if name in ENDED), default=begin + len(first))
    place = names.index("start") if "start" in names else ended
    plan.steps[place:place] = later


def _lease_text(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The text of the step that records a lease, given its facts."""
    addresses = " and ".join(filter(None, (after["address"], after["address6"])))
    if not before or before["network"] != after["network"]:
        return f"assign {addresses} in network {after['network']}"
    if (before["address"], before["address6"]) != (after["address"], after["address6"]):
        return f"change the address {before['address']} -> {addresses} in network {after['network']}"
    return f"update the rules of network {after['network']}"
