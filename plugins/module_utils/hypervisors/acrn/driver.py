# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ACRN driver: the operations of `Hypervisor`, each short. What ACRN lacks is refused by name."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NoReturn, Sequence

from ..base import Capabilities, Context
from ..common.vmm_process import ProcessHypervisor
from .capabilities import capabilities
from .vmm import CONSOLE_LOG, AcrnState, Vmm

if TYPE_CHECKING:
    from ...options.config import HypervisorConfig
    from ...options.device_kinds.base import Device
    from ..base import MemoryResize, VcpuResize


class AcrnHypervisor(ProcessHypervisor):
    """A VM run by acrn-dm on a host that is ACRN's Service VM."""

    name = "acrn"
    title = "ACRN"
    vmm: Vmm

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.vmm = Vmm(context)

    @staticmethod
    def capability_columns() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
        from .facts import CAPABILITY_COLUMNS

        return CAPABILITY_COLUMNS

    @staticmethod
    def host_facts(paths: Sequence[str] = ()) -> list[dict[str, Any]]:
        from .facts import acrns

        return acrns(paths)

    # --- lifecycle -------------------------------------------------------------------------------------------------

    def create_sandbox(self, config: HypervisorConfig) -> None:
        from . import start

        self.config, version = start.prepare(config, self.vmm)
        if self.vmm.process() is None:
            self.vmm.state.version = list(version)

    def start_sandbox(self, timeout: float) -> None:
        from . import start

        start.start(self.vmm, self.config, self._cold, timeout)

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

        self._add_boot_device(start.checked_device(self.vmm, self.config, device).record)

    def check_device(self, device: Device) -> None:
        from . import start

        start.checked_device(self.vmm, self.config, self._hot_disk(device))

    def hotplug_add_device(self, device: Device) -> None:
        from . import start

        start.plug_disk(self.vmm, self.config, self._hot_disk(device))

    def _hot_disk(self, device: Device) -> Device:
        """The device, where it is one that can take a placeholder's place."""
        from .devices.kinds import device_for

        if not device_for(device).placeholder_path:
            self._lacks(
                f"hotplug_add_device {type(device).__name__} {device.identity}", "Restart it (disruption: restart)."
            )
        return device

    def hotplug_remove_device(self, device: Device) -> None:
        if device.identity in self.observe().devices:
            self._lacks(
                f"hotplug_remove_device {type(device).__name__} {device.identity}",
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
        return self.vmm.console

    def console_log(self) -> str:
        return self.context.run_path(CONSOLE_LOG)

    def capabilities(self) -> Capabilities:
        return capabilities()

    def why_not(self, capability: str) -> str:
        version = ".".join(map(str, self.vmm.state.version))
        return f"ACRN {version or 'of no version'} has nothing for it"

    # --- state -----------------------------------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        return dataclasses.asdict(self.vmm.state)

    def load(self, state: dict[str, Any], config: HypervisorConfig) -> None:
        self.vmm.state = AcrnState.from_dict(state)
        self.config = config
