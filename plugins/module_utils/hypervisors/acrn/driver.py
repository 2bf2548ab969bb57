# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ACRN driver: the operations of `Hypervisor`, each short. What ACRN lacks is refused by name."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NoReturn

from ..base import Capabilities, Context
from ..common.vmm_process import ProcessHypervisor
from .vmm import CONSOLE_LOG, AcrnState, Vm

if TYPE_CHECKING:
    from ...options.config import HypervisorConfig
    from ...options.devices import BlockDrive, Device
    from ..base import MemoryResize, VcpuResize


def capabilities() -> Capabilities:
    """What every version of ACRN can do: disks that take a placeholder's place, and no more."""
    return Capabilities(block_device=True, block_device_hotplug=True)


class AcrnHypervisor(ProcessHypervisor):
    """A VM run by acrn-dm on a host that is ACRN's Service VM."""

    name = "acrn"
    vm: Vm

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.vm = Vm(context)

    # --- lifecycle -------------------------------------------------------------------------------------------------

    def create_sandbox(self, config: HypervisorConfig) -> None:
        from . import start

        with self.vm.named_errors():
            self.config, version = start.prepare(config, self.vm)
            if self.vm.process() is None:
                self.vm.state.version = list(version)

    def start_sandbox(self, timeout: float) -> None:
        from . import start

        with self.vm.named_errors():
            start.start(self.vm, self.config, self._cold, timeout)

    def pause_sandbox(self) -> None:
        self._lacks("pause_sandbox")

    def resume_sandbox(self) -> None:
        self._lacks("resume_sandbox")

    def save_sandbox(self, destination: str, timeout: float) -> None:
        self._lacks("save_sandbox")

    def restore_sandbox(self, source: str, timeout: float) -> None:
        self._lacks("restore_sandbox")

    def _lacks(self, operation: str, fix: str = "") -> NoReturn:
        self.unsupported(operation, self.why_not(operation), fix)

    # --- devices and sizes -----------------------------------------------------------------------------------------

    def add_device(self, device: Device) -> None:
        from . import start

        with self.vm.named_errors():
            device = start.checked_device(self.vm, self.config, device)
            self._take_cold(device)

    def check_device(self, device: Device) -> None:
        from . import start

        with self.vm.named_errors():
            start.checked_device(self.vm, self.config, self._hot_disk(device))

    def hotplug_add_device(self, device: Device) -> None:
        from . import start

        with self.vm.named_errors():
            start.plug_disk(self.vm, self.config, self._hot_disk(device))

    def _hot_disk(self, device: Device) -> BlockDrive:
        """The device, where it is one that can take a placeholder's place."""
        from ...options.devices import BlockDrive, device_id

        if not isinstance(device, BlockDrive) or device.read_only:
            self._lacks(
                f"hotplug_add_device {type(device).__name__} {device_id(device)}", "Restart it (disruption: restart)."
            )
        return device

    def hotplug_remove_device(self, device: Device) -> None:
        from ...options.devices import device_id

        if device_id(device) in self.observe().devices:
            self._lacks(
                f"hotplug_remove_device {type(device).__name__} {device_id(device)}",
                "Restart it (disruption: restart).",
            )

    def update_device(self, device: Device) -> None:
        self._lacks(f"update_device {type(device).__name__}", "Restart it (disruption: restart).")

    def resize_memory(self, memory_mb: int, block_mb: int = 0, probe: bool = False) -> MemoryResize:
        self._lacks("resize_memory", "Give memory_mb together with disruption=restart.")

    def resize_vcpus(self, vcpus: int) -> VcpuResize:
        self._lacks("resize_vcpus", "Give vcpus together with disruption=restart.")

    # --- facts -----------------------------------------------------------------------------------------------------

    def get_sandbox_console(self) -> str:
        return self.vm.console

    def console_log(self) -> str:
        return self.context.run_path(CONSOLE_LOG)

    def capabilities(self) -> Capabilities:
        return capabilities()

    def why_not(self, capability: str) -> str:
        version = ".".join(map(str, self.vm.state.version))
        return f"ACRN {version or 'of no version'} has nothing for it"

    # --- state -----------------------------------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        return dataclasses.asdict(self.vm.state)

    def load(self, state: dict[str, Any], config: HypervisorConfig) -> None:
        self.vm.state = AcrnState.from_dict(state)
        self.config = config
