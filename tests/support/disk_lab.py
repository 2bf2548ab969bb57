# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM with a root disk and volumes, through its driver: what the engine does with both, step by step."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import shutil
import signal
import tempfile
from typing import Any, Iterator

from ansible_collections.kata.hypervisor.plugins.module_utils.host.processes import tail
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors import new_hypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context, Hypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_options import make_device, with_indexes
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import make_config
from ansible_collections.kata.hypervisor.plugins.module_utils.records.layout import SandboxLayout
from ansible_collections.kata.hypervisor.plugins.module_utils.resources import root_disk, volumes
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.root_disk import RootDisk
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.volumes import VolumeRequest
from tests.support.guest_shell import GuestShell
from tests.support.waiting import wait_until

#: The format that each VMM's root disks have.
FORMATS = {"qemu": "qcow2", "firecracker": "raw"}


class DiskLab:
    """A host's state and run directories, and VMs in them.

    :param hypervisor: of all VMs
    :param options: of all VMs
    """

    def __init__(self, hypervisor: str, **options: Any) -> None:
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="kd-"))
        self.state_root, self.run_root = str(self.root / "state"), str(self.root / "run")
        self.hypervisor, self.options = hypervisor, options
        self.vms: dict[str, DiskVm] = {}

    def vm(self, name: str = "web", **options: Any) -> DiskVm:
        """A VM that is not started yet."""
        self.vms[name] = DiskVm(self, name, {**self.options, **options})
        return self.vms[name]

    def volume(self, name: str, size_mb: int, **request: Any) -> volumes.Volume:
        """A volume."""
        return volumes.create_volume(self.state_root, VolumeRequest(name, size_mb, **request))

    def close(self) -> None:
        """End all VMs, and remove the directory."""
        for vm in self.vms.values():
            vm.end()
        shutil.rmtree(self.root, ignore_errors=True)


class DiskVm:
    """One VM, by its driver."""

    def __init__(self, lab: DiskLab, name: str, options: dict[str, Any]) -> None:
        self.lab = lab
        self.layout = SandboxLayout(name, lab.state_root, lab.run_root)
        os.makedirs(self.layout.state_dir, 0o700, exist_ok=True)
        self.options = options
        self.disk: RootDisk | None = None
        self.devices: list[dict[str, Any]] = []
        self.driver: Hypervisor = self._new_driver()
        self.shells: list[GuestShell] = []

    def _new_driver(self) -> Hypervisor:
        context = Context(self.layout.id, self.layout.run_dir, self.layout.state_dir)
        return new_hypervisor(self.lab.hypervisor, context)

    def config(self) -> HypervisorConfig:
        """The VM's configuration, with its root disk."""
        config = make_config(self.options)
        if self.disk is None:
            return config
        return dataclasses.replace(config, root_disk_path=self.disk.path, root_disk_format=self.disk.format)

    def make_disk(self, image: str, size_mb: int = 0, base_format: str = "raw", disk_format: str = "") -> RootDisk:
        """Give the VM a root disk."""
        disk_format = disk_format or FORMATS[self.lab.hypervisor]
        root_disk.plan_root_disk(self.layout, image, base_format, disk_format, size_mb)
        self.disk = root_disk.create_root_disk(self.layout, image, base_format, disk_format, size_mb)
        return self.disk

    def attach(self, volume: volumes.Volume, read_only: bool = False) -> dict[str, Any]:
        """Give the VM a volume, at its next start."""
        volumes.claim_volume(self.layout, volume.name, read_only)
        device = volumes.device_of(volume, read_only, self.lab.hypervisor)
        self.devices = with_indexes([*self.devices, device], self.devices)
        return self.devices[-1]

    def prepare(self) -> None:
        """Everything up to the start; a new driver, since the last one may know of a VM that has ended."""
        state = self.driver.save()
        self.driver.disconnect()
        self.driver = self._new_driver()
        self.driver.load(state, self.config())
        if self.disk is not None:
            root_disk.check_base(self.disk)
        self.driver.create_sandbox(self.config())
        for device in self.devices:
            self.driver.add_device(make_device(device))
        self.driver.check_start()

    def start(self, ready: str = "kata-guest: ready", timeout: float = 60) -> DiskVm:
        """Start the VM, and wait until its guest has printed a text."""
        self.prepare()
        self.driver.start_sandbox(timeout)
        if ready:
            log = self.driver.console_log()
            wait_until(lambda: ready in tail(log, 200), f"the guest has not printed {ready}", 120)
        return self

    def stop(self) -> None:
        """End the VM without asking its guest."""
        for shell in self.shells:
            shell.close()
        self.shells = []
        self.driver.stop_sandbox(0, force=True)
        # Its guest prints what it printed before.
        with contextlib.suppress(FileNotFoundError):
            os.truncate(self.driver.console_log(), 0)

    def shell(self) -> GuestShell:
        """A shell in the guest."""
        self.shells.append(GuestShell(self.driver.get_sandbox_console()))
        return self.shells[-1]

    def kill(self) -> None:
        """End the VMM as a crash would."""
        os.kill(self.driver.pid(), signal.SIGKILL)

    def end(self) -> None:
        """Remove the VM."""
        for shell in self.shells:
            shell.close()
        self.driver.cleanup()
        self.driver.disconnect()


@contextlib.contextmanager
def closed_afterwards(lab: DiskLab) -> Iterator[DiskLab]:
    """A laboratory that leaves nothing."""
    try:
        yield lab
    finally:
        lab.close()
