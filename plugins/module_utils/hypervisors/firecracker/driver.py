# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Firecracker driver: the operations of `Hypervisor`, each short.

What a look at a VM takes is imported at once (`vmm.py`); what only an action takes is imported by that action, since a task's payload
is compiled anew on the host every time.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Sequence

from ...errors import VmmError
from ..base import Capabilities, Context
from ..common.vmm_process import ProcessHypervisor
from .state import FirecrackerState, Jail
from .vmm import Vmm

if TYPE_CHECKING:
    from ...guest.ways import GuestWays
    from ...options.config import HypervisorConfig
    from ...options.device_kinds.base import Device
    from ..base import DiskResize, MemoryResize, VcpuResize
    from .devices.base import AnyFirecrackerDevice


class FirecrackerHypervisor(ProcessHypervisor):
    """A VM run by Firecracker, controlled over its API; in a jail where the configuration names a jailer."""

    name = "firecracker"
    title = "Firecracker"
    vmm: Vmm

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.vmm = Vmm(context)
        self._jail: Jail | None = None

    @staticmethod
    def capability_columns() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
        from .facts import CAPABILITY_COLUMNS

        return CAPABILITY_COLUMNS

    @staticmethod
    def host_facts(paths: Sequence[str] = ()) -> list[dict[str, Any]]:
        from .facts import firecrackers

        return firecrackers(paths)

    # --- lifecycle -------------------------------------------------------------------------------------------------

    def create_sandbox(self, config: HypervisorConfig) -> None:
        from . import preparation

        self.config, version, self._jail = preparation.prepare(config, self.context, self.pid())
        if self.vmm.process() is None:
            self.vmm.state.version = list(version)
        if self.config.boot_to_be_template or self.config.boot_from_template:
            from . import cloning

            cloning.check(self.config, version, self._jail)

    def check_start(self) -> None:
        from ...host import block_devices
        from ..common.vmm_process import check_taps, file_uses

        own = self._own_pids()
        for use in file_uses(self.config, self._cold):
            block_devices.check_free(use, own)
        if not self.config.network_namespace:
            check_taps(self._cold, own)

    def start_sandbox(self, timeout: float) -> None:
        from . import start

        if self.config.boot_from_template:
            from . import cloning

            cloning.start(self.vmm, self.config, self._cold, self._jail, timeout)
        else:
            start.start(self.vmm, self.config, self._cold, self._jail, timeout)

    def check_restore(self, source: str) -> None:
        from . import snapshots

        snapshots.check_files(snapshots.read(source), self.config, [])

    def restore_sandbox(self, source: str, timeout: float) -> None:
        from . import preparation, snapshots

        if not self.config.jailer_path and snapshots.read(source).state.jail is None:
            self.config.jailer = "none"  # It was saved before a jailer was installed, or with jailer: none.
        self.config, version, self._jail = preparation.prepare(self.config, self.context, self.pid())
        self.vmm.state.version = list(version)
        snapshots.restore(self.vmm, self.config, self._cold, self._jail, source, timeout)

    def pause_sandbox(self) -> None:
        self.vmm.set_state("paused")

    def resume_sandbox(self) -> None:
        self.vmm.set_state("running")

    def save_sandbox(self, destination: str, timeout: float) -> None:
        from . import snapshots

        self.vmm.set_state("paused")
        snapshots.save(self.vmm, self.config, destination, timeout)

    # --- devices -----------------------------------------------------------------------------------------------------

    def add_device(self, device: Device) -> None:

        device = self._checked(device, self._cold).record
        if self.config.boot_to_be_template or self.config.boot_from_template:
            from . import cloning

            device = cloning.checked_device(self.vmm, self.config, self._jail, device)
        self._add_boot_device(device)

    def check_device(self, device: Device) -> None:
        from ..common.vmm_process import check_taps
        from . import hotplug

        checked = self._checked(device, self._plugged())
        checked.check_hot(self.vmm)
        hotplug.check_free(self.vmm, checked)
        if not self.config.network_namespace:
            check_taps([checked.record], self._own_pids())

    def hotplug_add_device(self, device: Device) -> None:
        from . import hotplug

        hotplug.attach(self.vmm, self.config, self._checked(device, self._plugged()).record)

    def hotplug_remove_device(self, device: Device) -> None:
        from . import hotplug
        from .devices.kinds import device_for

        found = device_for(device)
        found.complete(self.context.host_name, self.vmm.state)
        hotplug.detach(self.vmm, self.config, found.record)

    def check_update(self, device: Device) -> None:
        from . import hotplug

        hotplug.check_free(self.vmm, self._checked(device, self._plugged()))

    def update_device(self, device: Device) -> None:
        from . import hotplug

        hotplug.update(self.vmm, self.config, self._checked(device, self._plugged()).record)

    def _plugged(self) -> list[Device]:
        """The disks that a running VM has; what there is one of is only checked at a start."""
        from .state import from_record

        made = [from_record(record) for record in self.vmm.state.devices.values() if record]
        return [device for device in made if device.host_file]

    def _checked(self, device: Device, others: list[Device]) -> AnyFirecrackerDevice:
        """The device, complete, once this Firecracker and this host are known to be able to have it."""
        from . import preparation
        from .devices.kinds import check_device, device_for

        self.vmm.state.new_identity()
        found = device_for(device)
        found.complete(preparation.tap_owner(self.config, self.context), self.vmm.state)
        others = [one for one in others if one.identity != device.identity]
        jail = self.vmm.state.jail if self.vmm.process() else self._jail
        check_device(found, self.config, self.vmm.version, jail, others, self.vmm.state.sockets)
        return found

    # --- sizes -----------------------------------------------------------------------------------------------------

    def resize_vcpus(self, vcpus: int) -> VcpuResize:
        self.unsupported(
            "resize_vcpus",
            "Firecracker fixes the number of vCPUs when a VM starts, in every version",
            "Give vcpus together with disruption=restart.",
        )

    def resize_memory(self, memory_mb: int, block_mb: int = 0, probe: bool = False) -> MemoryResize:
        from . import memory

        return memory.resize(self.vmm, memory_mb)

    def resize_disk(self, identity: str, size_mb: int) -> DiskResize:
        from . import disk_resize

        return disk_resize.resize(self.vmm, self.config, identity, size_mb)

    def check_resize_disk(self, identity: str, size_mb: int) -> None:
        from . import disk_resize

        disk_resize.find(self.vmm, self.config, identity, size_mb)

    # --- facts -----------------------------------------------------------------------------------------------------

    def console_log(self) -> str:
        return self.vmm.console_log

    def details(self) -> dict[str, Any]:
        from . import details

        return details.driver_details(self.vmm)

    def guest_ways(self) -> GuestWays:
        from .devices.vsock import ways_through

        return ways_through(self.vmm.state.vsock)

    def guest_facts(self) -> dict[str, Any]:
        from ...guest.agent import facts_through

        return facts_through(self.guest_ways().agent) if self.observe().power == "running" else {}

    def vmm_log(self) -> str:
        return self.vmm.log

    def explain(self, error: VmmError) -> None:
        self.vmm.explain(error)

    def capabilities(self) -> Capabilities:
        from .api.dialect import capabilities

        running = self.vmm.state.process is not None
        found = capabilities(
            self.vmm.version,
            pci=self.vmm.state.pci if running else self.config.enable_pci,
            memory_region=self.vmm.state.region_mb > 0
            if running
            else self.config.max_memory_mb > self.config.memory_size,
            placeholder_drives=len(self.vmm.state.placeholders) if running else self.config.placeholder_drives,
        )
        return dataclasses.replace(found, guest_agent=bool(self.vmm.state.vsock) if running else self._gets_vsock())

    def _gets_vsock(self) -> bool:
        """Whether the VM has a vsock once it runs."""
        from ...options.device_kinds.vsock import Vsock
        from .api.dialect import NEWEST
        from .devices import vsock

        if self.config.boot_from_template:
            from . import snapshots

            return bool(snapshots.read(self.config.devices_state_path).state.vsock)
        listed = any(isinstance(device, Vsock) for device in self._cold)
        return listed or vsock.has_own(self.config, [], self.vmm.version or NEWEST, self._jail is not None)

    def why_not(self, capability: str) -> str:
        from .api.dialect import shown

        since = "; 0.23 and later have it" if capability in ("pause", "save") else ""
        return f"Firecracker {shown(self.vmm.version)} has nothing for it{since}"

    def get_thread_ids(self) -> dict[int, int]:
        from .threads import vcpu_threads

        return vcpu_threads(self.pid())

    # --- state -----------------------------------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        return self.vmm.state.as_dict()

    def load(self, state: dict[str, Any], config: HypervisorConfig) -> None:
        self.vmm.state = FirecrackerState.from_dict(state)
        self.config = config
