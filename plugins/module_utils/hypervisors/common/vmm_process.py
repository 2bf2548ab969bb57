# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The base of the drivers whose VM is a process on the host."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Collection, Sequence

from ...errors import StateError
from ...host.run_directory import remove_run_dir
from ..base import Context, Hypervisor, Observed

if TYPE_CHECKING:
    from ...host.block_devices import Use
    from ...host.processes import ProcessIdentity
    from ...options.config import HypervisorConfig
    from ...options.device_kinds.base import Device


#: Seconds to wait for the end of a VMM that has closed its sockets.
ENDING_SECONDS = 1.0


def file_uses(config: HypervisorConfig, devices: Sequence[Device]) -> list[Use]:
    """The files that a VM has open while it runs. Its image is never written to, but its root disk is."""
    from ...host.block_devices import Use

    image, disk = config.image_path, config.root_disk_path
    uses = [Use(disk, True, "the root disk")] if disk else []
    if image and not (disk and config.root_disk_format == "raw"):
        uses.append(Use(image, False, "image_path"))
    for device in devices:
        if device.host_file:
            uses.append(Use(*device.host_file, f"device {device.identity}"))
    return uses


def check_file(device: Device, config: HypervisorConfig, own: Collection[int] = ()) -> None:
    """Refuse a disk whose file another program has open, where one of the two could write to it.

    :param own: pids of the VM, if it runs
    :raises StateError: names the file and who has it
    """
    from ...host import block_devices

    if device.host_file and os.path.exists(device.host_file[0]):
        block_devices.check_free(file_uses(config, [device])[-1], own)


def check_taps(devices: Sequence[Device], own: Collection[int] = ()) -> None:
    """Refuse taps that another program has open, and interfaces that are not taps.

    :param own: pids of the VM, if it runs
    :raises HostError: there is an interface of that name, and it is no tap
    :raises StateError: names who has it
    """
    from ...host.network import check_tap

    for device in devices:
        if device.host_tap:
            check_tap(device.host_tap, own)


class VmmProcess:
    """The VMM of one sandbox: its process, its files and its state.

    :param context: the sandbox's directories
    """

    def __init__(self, context: Context) -> None:
        self.context = context

    @property
    def log(self) -> str:
        """The VMM's own log."""
        raise NotImplementedError

    def process(self) -> ProcessIdentity | None:
        """The VMM, if it runs."""
        raise NotImplementedError

    def observe(self) -> Observed:
        """What is true now."""
        raise NotImplementedError

    def stop(self, timeout: float, force: bool) -> None:
        """End the VM, asking the guest first, and then remove its leftovers."""
        raise NotImplementedError

    def kill(self) -> None:
        """Kill the VMM and remove everything that was created for it."""
        raise NotImplementedError

    def adopt(self) -> None:
        """See `Hypervisor.adopt`."""
        raise NotImplementedError


class ProcessHypervisor(Hypervisor):
    """A driver of such a VM; `vmm` is set by its own constructor."""

    vmm: VmmProcess

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        #: The devices that the VM gets at its start.
        self._cold: list[Device] = []

    def _add_boot_device(self, device: Device) -> None:
        """Add a device for the start. It replaces a device with the same id."""
        self._cold = [one for one in self._cold if one.identity != device.identity] + [device]

    def stop_sandbox(self, timeout: float, force: bool = False) -> None:
        self.vmm.stop(timeout, force)
        self.context.checkpoint()

    def cleanup(self) -> None:
        self.vmm.kill()
        remove_run_dir(self.context.run_dir)

    def adopt(self) -> None:
        self.vmm.adopt()

    def check(self) -> None:
        observed = self.observe()
        if observed.power in ("off", "failed", "unresponsive") or observed.reason:
            raise StateError(f"the VM is {observed.power}", answer=observed.reason, log=self.vmm.log)

    def _own_pids(self) -> tuple[int, ...]:
        """Processes of this sandbox: what they have open, it may have."""
        process = self.vmm.process()
        return (*((process.pid,) if process else ()), *self.context.ending)

    def observe(self) -> Observed:
        observed = self.vmm.observe()
        if observed.power == "unresponsive" and self._ends():
            observed = self.vmm.observe()
        return observed

    def _ends(self) -> bool:
        """Whether a VMM that has not answered is just ending: it closes its sockets a moment before its process ends."""
        from ...host.processes import wait_gone

        process = self.vmm.process()
        return process is None or wait_gone(process, ENDING_SECONDS)

    def pid(self) -> int:
        process = self.vmm.process()
        return process.pid if process else 0
