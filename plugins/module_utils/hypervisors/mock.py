# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mock driver: a VM that is a JSON file in the run directory, and that can be set to misbehave.

Another driver object, also in another process, finds the VM in that file, as a real one is found by its process and its sockets.
The process that starts the VM plays the VMM: its id is the VM's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from typing import Any, Iterable

from ..errors import ConfigError, DeadlineExceeded, LaunchError, StateError, VmmError
from ..host.atomic_files import put_in_place
from ..host.units import MIB
from ..options.config import HypervisorConfig
from ..options.device_kinds.base import Device, device_id
from ..options.devices import CpuDevice, MemoryDevice
from ..untrusted.answers import Flag, MapOf, Record, Text, checked
from .base import ROOT_DISK, Capabilities, Context, DiskResize, Hypervisor, MemoryResize, Observed, VcpuResize

VM_FILE = "mock-vm.json"
SAVED_FILE = "mock-vm-saved.json"

#: Every way in which a mock can misbehave, and what it then does.
FAULTS = {
    "create_fails": "create_sandbox refuses the configuration",
    "fails_on_start": "start_sandbox ends with an exit code and leaves nothing behind",
    "fails_on_start_leaving_files": "start_sandbox ends with an exit code and leaves its files behind",
    "hangs_on_start": "start_sandbox runs into its limit of time and leaves nothing behind",
    "dies_after_start": "the VM is gone right after it has started, its files stay",
    "guest_fails": "the guest panics right after it has started",
    "hangs_after_start": "the VM does not answer after it has started, until it is ended",
    "stop_fails": "stop_sandbox runs into its limit of time and the VM goes on",
    "pause_fails": "pause_sandbox is refused",
    "resume_fails": "resume_sandbox is refused",
    "save_fails": "save_sandbox is refused",
    "restore_fails": "restore_sandbox ends with an exit code",
    "refuses_hotplug": "hotplug_add_device is refused",
    "refuses_unplug": "hotplug_remove_device is refused by the guest",
    "hangs_on_unplug": "the guest never releases a device",
    "refuses_resize": "resize_vcpus, resize_memory and resize_disk are refused",
    "gives_half_the_memory": "the guest takes only half of the memory that resize_memory wants to add or remove",
    "cleanup_fails": "cleanup cannot remove the files",
}

REASONS = {"failed": "the guest panicked", "unresponsive": "the mock does not answer"}

#: The shape of the driver's state.
STATE = Record({}, {"started": Flag(), "cold_devices": MapOf(Text())})

#: `hypervisor_params` of this key name a fault.
FAULT_PARAM = "fault"


@dataclasses.dataclass
class FakeVm:
    """The content of the file.

    :param power: running, paused, failed, unresponsive, or dead for a VM that ended without being stopped
    """

    power: str
    vcpus: int
    memory_mb: int
    devices: dict[str, str] = dataclasses.field(default_factory=dict)
    pid: int = 0
    disk_sizes: dict[str, int] = dataclasses.field(default_factory=dict)
    files: dict[str, str] = dataclasses.field(default_factory=dict)


class MockHypervisor(Hypervisor):
    """A VM without a VMM.

    :param faults: names out of FAULTS; `hypervisor_params` of the configuration with the key `fault` add to them
    :raises ConfigError: there is no such fault
    """

    name = "mock"
    title = "mock"

    def __init__(self, context: Context, faults: Iterable[str] = ()) -> None:
        super().__init__(context)
        self.faults: set[str] = set()
        self.cold_devices: dict[str, str] = {}
        self.cold_files: dict[str, str] = {}
        self.started = False
        self._add_faults(faults)

    # --- lifecycle -------------------------------------------------------------------------------------------------

    def create_sandbox(self, config: HypervisorConfig) -> None:
        config = dataclasses.replace(config)
        config.valid()
        self._add_faults(value for key, value in config.hypervisor_params if key == FAULT_PARAM)
        if "create_fails" in self.faults:
            raise ConfigError("the mock refuses this configuration", sandbox=self.context.sandbox_id)
        if config.boot_from_template and _read(os.path.join(config.devices_state_path, SAVED_FILE)) is None:
            raise StateError("the mock finds nothing saved in this template", option="template")
        self.config = config
        self.cold_devices = {}

    def start_sandbox(self, timeout: float) -> None:
        self._refuse_second_vm()
        if self.config.boot_to_be_template:
            os.makedirs(os.path.dirname(self.config.memory_path), mode=0o700, exist_ok=True)
            with open(self.config.memory_path, "wb"):
                pass
        vm = FakeVm("running", self.config.num_vcpus, self.config.memory_size, dict(self.cold_devices), os.getpid())
        vm.files = {**self.cold_files, ROOT_DISK: self.config.root_disk_path}
        self._launch(vm)
        if "hangs_on_start" in self.faults:
            self._remove_files()
            self._forget()
            raise DeadlineExceeded(
                f"the mock did not answer within {timeout:g} seconds", sandbox=self.context.sandbox_id
            )
        self._settle(vm)

    def stop_sandbox(self, timeout: float, force: bool = False) -> None:
        if self._alive() is None:
            return
        if "stop_fails" in self.faults:
            raise DeadlineExceeded(f"the mock still runs after {timeout:g} seconds", sandbox=self.context.sandbox_id)
        self._remove_files()
        self._forget()

    def pause_sandbox(self) -> None:
        self._set_power("paused", "pause_fails")

    def resume_sandbox(self) -> None:
        self._set_power("running", "resume_fails")

    def save_sandbox(self, destination: str, timeout: float) -> None:
        vm = self._running_vm("save")
        self.pause_sandbox()
        if "save_fails" in self.faults:
            raise self._refused("save")
        os.makedirs(destination, mode=0o700, exist_ok=True)
        vm.power = "paused"
        _write(os.path.join(destination, SAVED_FILE), vm, durable=True)

    def restore_sandbox(self, source: str, timeout: float) -> None:
        self._refuse_second_vm()
        vm = _read(os.path.join(source, SAVED_FILE))
        if vm is None:
            raise StateError(f"nothing was saved in {source}", sandbox=self.context.sandbox_id)
        if "restore_fails" in self.faults:
            raise LaunchError(
                "the mock cannot restore this", exit_code=1, argv=["mock"], sandbox=self.context.sandbox_id
            )
        vm.pid = os.getpid()
        self._launch(vm)
        self._settle(vm)

    def cleanup(self) -> None:
        if "cleanup_fails" in self.faults:
            raise VmmError("the mock's files cannot be removed", sandbox=self.context.sandbox_id)
        shutil.rmtree(self.context.run_dir, ignore_errors=True)
        self.started = False

    def check(self) -> None:
        observed = self.observe()
        if observed.power in REASONS:
            raise VmmError(observed.reason, sandbox=self.context.sandbox_id, answer=observed.vmm_status)
        if observed.power == "off":
            raise StateError(observed.reason or "the VM does not run", sandbox=self.context.sandbox_id)

    # --- devices and sizes -----------------------------------------------------------------------------------------

    def add_device(self, device: Device) -> None:
        self.cold_devices[device_id(device)] = type(device).__name__
        self.cold_files.update(_raw_file(device))

    def hotplug_add_device(self, device: Device) -> Any:
        """The number of vCPUs or MiB that were added; None for any other device."""
        vm = self._running_vm("hotplug_add_device")
        if "refuses_hotplug" in self.faults:
            raise self._refused("hotplug_add_device")
        if isinstance(device, CpuDevice):
            vm.vcpus += device.count
            result: int | None = device.count
        elif isinstance(device, MemoryDevice):
            vm.memory_mb += device.size_mb
            result = device.size_mb
        else:
            vm.devices[device_id(device)] = type(device).__name__
            vm.files.update(_raw_file(device))
            result = None
        self._store(vm)
        return result

    def hotplug_remove_device(self, device: Device) -> Any:
        """The number of vCPUs that were removed; 0 for memory, which the mock of Kata 1.x keeps; None for any other device."""
        vm = self._running_vm("hotplug_remove_device")
        if "refuses_unplug" in self.faults:
            raise self._refused("hotplug_remove_device")
        if "hangs_on_unplug" in self.faults:
            raise DeadlineExceeded(
                "the guest does not release the device", sandbox=self.context.sandbox_id, wanted=device_id(device)
            )
        if isinstance(device, CpuDevice):
            if device.count > vm.vcpus:
                raise ConfigError(
                    "the VM does not have that many vCPUs", sandbox=self.context.sandbox_id, wanted=device.count
                )
            vm.vcpus -= device.count
            result: int | None = device.count
        elif isinstance(device, MemoryDevice):
            result = 0
        else:
            vm.devices.pop(device_id(device), None)
            result = None
        self._store(vm)
        return result

    def update_device(self, device: Device) -> None:
        vm = self._running_vm("update_device")
        if "refuses_hotplug" in self.faults:
            raise self._refused("update_device")
        if device_id(device) not in vm.devices:
            raise StateError(
                "the VM does not have this device", sandbox=self.context.sandbox_id, wanted=device_id(device)
            )

    def resize_vcpus(self, vcpus: int) -> VcpuResize:
        vm = self._running_vm("resize_vcpus")
        old = vm.vcpus
        if vcpus == old:
            return VcpuResize(old, old, old)
        if not 1 <= vcpus <= self.config.default_max_vcpus:
            raise ConfigError(
                f"this VM can have 1 to {self.config.default_max_vcpus} vCPUs",
                sandbox=self.context.sandbox_id,
                option="vcpus",
                wanted=vcpus,
            )
        if "refuses_resize" in self.faults:
            raise self._refused("resize_vcpus")
        vm.vcpus = vcpus
        self._store(vm)
        return VcpuResize(old, vcpus, vcpus, "hotplug" if vcpus > old else "unplug")

    def resize_memory(self, memory_mb: int, block_mb: int = 0, probe: bool = False) -> MemoryResize:
        vm = self._running_vm("resize_memory")
        old = vm.memory_mb
        if memory_mb == old:
            return MemoryResize(old, old)
        if "refuses_resize" in self.faults:
            raise self._refused("resize_memory")
        half = "gives_half_the_memory" in self.faults
        vm.memory_mb = old + (memory_mb - old) // 2 if half else memory_mb
        self._store(vm)
        return MemoryResize(old, vm.memory_mb, "virtio-mem")

    def resize_disk(self, identity: str, size_mb: int) -> DiskResize:
        old = self._disk_mb(identity, size_mb)
        if "refuses_resize" in self.faults:
            raise self._refused("resize_disk")
        vm = self._running_vm("resize_disk")
        vm.disk_sizes[identity] = size_mb
        self._store(vm)
        if os.path.isfile(vm.files.get(identity, "")):
            os.truncate(vm.files[identity], size_mb * MIB)
        return DiskResize(old or size_mb, size_mb)

    def check_resize_disk(self, identity: str, size_mb: int) -> None:
        self._disk_mb(identity, size_mb)

    def _disk_mb(self, identity: str, size_mb: int) -> int:
        """The size to which a disk was grown; 0 if it was not."""
        vm = self._running_vm("resize_disk")
        if identity != ROOT_DISK and identity not in vm.devices:
            raise StateError("the VM does not have this disk", sandbox=self.context.sandbox_id, wanted=identity)
        old = vm.disk_sizes.get(identity, 0)
        if size_mb < old:
            raise ConfigError(
                f"the disk has {old} MiB, and a disk is never made smaller",
                sandbox=self.context.sandbox_id,
                wanted=size_mb,
                fix=f"Set at least {old}.",
            )
        return old

    # --- facts -----------------------------------------------------------------------------------------------------

    def observe(self) -> Observed:
        vm = self._load()
        if vm is None or vm.power == "dead":
            return Observed(
                leftovers=[path for path in self._files() if os.path.exists(path)],
                reason="the VM is gone, and nobody stopped it" if self.started else "",
            )
        return Observed(
            power=vm.power,
            vmm_status=vm.power,
            pid=vm.pid,
            vcpus=vm.vcpus,
            vcpus_online=vm.vcpus,
            memory_mb=vm.memory_mb,
            devices=sorted(vm.devices),
            reason=REASONS.get(vm.power, ""),
        )

    def capabilities(self) -> Capabilities:
        """Everything that its VM does; the mock of Kata 1.x names none of it."""
        return Capabilities(
            block_device_hotplug=True,
            block_device_unplug=True,
            fs_sharing=True,
            pause=True,
            save=True,
            vcpu_hotplug=True,
            vcpu_unplug=True,
            memory_grow=True,
            memory_shrink=True,
            network_hotplug=True,
            fs_hotplug=True,
            serial_hotplug=True,
            vsock_hotplug=True,
            vfio_hotplug=True,
            vhost_user_hotplug=True,
            device_update=True,
            pmem_hotplug=True,
            pmem_unplug=True,
            pmem_update=True,
            balloon_update=True,
            metadata_update=True,
            disk_limit_update=True,
            port_forward_update=True,
            disk_resize=True,
            guest_agent=True,
        )

    def get_thread_ids(self) -> dict[int, int]:
        """The mock has no threads of its own: the VM's process stands for each vCPU."""
        vm = self._alive()
        return dict.fromkeys(range(vm.vcpus), vm.pid) if vm else {}

    def pid(self) -> int:
        vm = self._alive()
        return vm.pid if vm else 0

    # --- state -----------------------------------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        return {"started": self.started, "cold_devices": dict(self.cold_devices)}

    def load(self, state: dict[str, Any], config: HypervisorConfig) -> None:
        state = checked(STATE, state, "the recorded state of the mock")
        super().load(state, config)
        self.started = bool(state.get("started", False))
        self.cold_devices = dict(state.get("cold_devices", {}))
        self._add_faults(value for key, value in config.hypervisor_params if key == FAULT_PARAM)

    # --- for tests -------------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """End the VM as a kill would: its files stay."""
        vm = self._running_vm("crash")
        vm.power = "dead"
        self._store(vm)

    # --- the file --------------------------------------------------------------------------------------------------

    def _path(self) -> str:
        return self.context.run_path(VM_FILE)

    def _load(self) -> FakeVm | None:
        return _read(self._path())

    def _store(self, vm: FakeVm) -> None:
        _write(self._path(), vm)

    def _files(self) -> list[str]:
        return [self._path(), _unfinished(self._path())]

    def _remove_files(self) -> None:
        for path in self._files():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _forget(self) -> None:
        """Record that there is no VM any more."""
        self.started = False
        self.context.checkpoint()

    def _alive(self) -> FakeVm | None:
        vm = self._load()
        return vm if vm and vm.power != "dead" else None

    def _running_vm(self, operation: str) -> FakeVm:
        vm = self._alive()
        if vm is None:
            raise StateError(f"{operation} needs a VM that runs", sandbox=self.context.sandbox_id)
        return vm

    def _refuse_second_vm(self) -> None:
        if self._alive():
            raise StateError("the VM runs already", sandbox=self.context.sandbox_id)

    def _launch(self, vm: FakeVm) -> None:
        """Announce the VM, then make it, as a driver does with a process."""
        self.started = True
        self.context.checkpoint()
        if "fails_on_start" in self.faults:
            raise self._launch_failed()
        os.makedirs(self.context.run_dir, mode=0o700, exist_ok=True)
        if "fails_on_start_leaving_files" in self.faults:
            self._store(dataclasses.replace(vm, power="dead"))
            raise self._launch_failed()
        self._store(vm)

    def _settle(self, vm: FakeVm) -> None:
        """Record that the VM exists, and apply the faults of its start."""
        self.context.checkpoint()
        for fault, power in (
            ("dies_after_start", "dead"),
            ("guest_fails", "failed"),
            ("hangs_after_start", "unresponsive"),
        ):
            if fault in self.faults:
                self._store(dataclasses.replace(vm, power=power))

    def _launch_failed(self) -> LaunchError:
        self._forget()
        return LaunchError(
            "the mock ended while it was starting",
            exit_code=1,
            argv=["mock", self.context.sandbox_id],
            sandbox=self.context.sandbox_id,
            answer="mock: set to fail",
        )

    def _set_power(self, power: str, fault: str) -> None:
        vm = self._running_vm(fault.split("_", maxsplit=1)[0])
        if vm.power == power:
            return
        if vm.power in REASONS:
            raise StateError(REASONS[vm.power], sandbox=self.context.sandbox_id)
        if fault in self.faults:
            raise self._refused(fault.split("_", maxsplit=1)[0])
        vm.power = power
        self._store(vm)

    def _refused(self, operation: str) -> VmmError:
        return VmmError("the mock refuses", sandbox=self.context.sandbox_id, wanted=operation, answer="set to refuse")

    def _add_faults(self, faults: Iterable[str]) -> None:
        for fault in faults:
            if fault not in FAULTS:
                raise ConfigError(
                    "must be a known fault",
                    option=FAULT_PARAM,
                    wanted=fault,
                    fix=f"Choose one of {', '.join(FAULTS)}.",
                )
            self.faults.add(fault)


def _read(path: str) -> FakeVm | None:
    """The VM in a file, None when there is no file or nothing that can be understood in it."""
    try:
        with open(path, encoding="utf-8") as stream:
            return FakeVm(**json.load(stream))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _unfinished(path: str) -> str:
    """Where a file is written before it appears under its own name."""
    return path + ".new"


def _write(path: str, vm: FakeVm, durable: bool = False) -> None:
    """Put a VM into a file, which appears complete or not at all.

    :param durable: whether it must survive a power loss
    """
    with open(_unfinished(path), "w", encoding="utf-8") as stream:
        json.dump(dataclasses.asdict(vm), stream)
    if durable:
        put_in_place(_unfinished(path), path)
    else:
        os.replace(_unfinished(path), path)


def _raw_file(device: Device) -> dict[str, str]:
    """The file of a disk in the format raw, by the device's id; of another device, nothing."""
    is_raw = device.host_file is not None and getattr(device, "format", "raw") == "raw"
    return {device_id(device): device.host_file[0]} if is_raw and device.host_file else {}
