# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The QEMU driver: the operations of `Hypervisor`, each short.

What a look at a VM takes is imported at once (`vmm.py`); what only an action takes is imported by that action, since a task's payload
is compiled anew on the host every time.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Sequence

from ...errors import StateError, VmmError
from ...options.config import HypervisorConfig
from ..base import Capabilities, Context, DiskResize, MemoryResize, VcpuResize
from ..common.vmm_process import ProcessHypervisor
from .machines import Machine, machine_named
from .names import CONSOLE_LOG, CONSOLE_SOCKET
from .state import QemuState
from .vmm import Vmm, vcpu_threads

if TYPE_CHECKING:
    from ...guest.ways import GuestWays
    from ...options.device_kinds.base import Device
    from .devices.base import AnyQemuDevice


class QemuHypervisor(ProcessHypervisor):
    """A VM run by QEMU, controlled over QMP."""

    name = "qemu"
    title = "QEMU"
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
        from .facts import qemus

        return qemus(paths)

    # --- lifecycle -------------------------------------------------------------------------------------------------

    def create_sandbox(self, config: HypervisorConfig) -> None:
        from . import preparation, start

        self.config, version = preparation.prepare(config, self.context, self.pid())
        self.vmm.state.qemu_version = list(version)
        start.command_line(self.vmm, self.config)
        if self.config.boot_to_be_template or self.config.boot_from_template:
            from . import cloning

            cloning.check_template(self.config)
            if self.config.boot_from_template:
                cloning.check_source(self.vmm, self.config)

    def check_start(self) -> None:
        from ...host import block_devices
        from ..common.vmm_process import file_uses

        for use in file_uses(self.config, self._cold):
            block_devices.check_free(use, self._own_pids())

    def start_sandbox(self, timeout: float) -> None:
        from . import start

        if self.config.boot_from_template:
            self._clone(timeout)
            return
        if self.config.boot_to_be_template:
            from . import cloning

            cloning.make_memory_file(self.config)
        start.start(self.vmm, self.config, self._cold, timeout)
        self.vmm.set_running(True)

    def _clone(self, timeout: float) -> None:
        """Begin where a template was saved; what this VM has beyond it is plugged in once it runs."""
        from . import cloning, reseeding

        try:
            cloning.clone(self.vmm, self.config, timeout)
            reseeding.reseed_guest(self.vmm, self._machine().architecture.name)
            if self.config.num_vcpus > self.vmm.state.boot_vcpus:
                self.resize_vcpus(self.config.num_vcpus)
            if self.config.memory_size > self.vmm.state.boot_memory_mb:
                self.resize_memory(self.config.memory_size)
            for device in self._cold:
                self.hotplug_add_device(device)
        except BaseException:
            self.vmm.kill()
            self.context.checkpoint()
            raise

    def restore_sandbox(self, source: str, timeout: float) -> None:
        from ...host.processes import tail
        from . import migration, preparation, start
        from .qmp import QmpConnectionError

        description = migration.read_description(source)
        # The binary may have been replaced since: what it is now counts, not what the record says.
        version = list(preparation.known_version(self.config.hypervisor_path, self.context))
        migration.check_version(description, version, self.config.hypervisor_path)
        migration.check_files(description)
        saved = QemuState.from_dict(description["state"])
        self.vmm.state = dataclasses.replace(saved, qemu_version=version, process=None, launching=False, daemons={})
        try:
            start.start(self.vmm, self.config, self._cold, timeout, description)
            migration.read_state(self.vmm.qmp(), source, timeout)
        except QmpConnectionError as error:
            self.vmm.kill()
            words = tail(self.vmm.log, 5) or str(error)
            raise VmmError("QEMU does not take the saved state", answer=words, log=self.vmm.log) from error
        except BaseException:
            self.vmm.kill()
            raise

    def check_restore(self, source: str) -> None:
        from . import migration, preparation

        description = migration.read_description(source)
        migration.check_version(
            description,
            list(preparation.known_version(self.config.hypervisor_path, self.context)),
            self.config.hypervisor_path,
        )
        QemuState.from_dict(description["state"])
        migration.check_files(description)

    def pause_sandbox(self) -> None:
        self.vmm.set_running(False)

    def resume_sandbox(self) -> None:
        self.vmm.set_running(True)

    def check_save(self) -> None:
        from . import migration

        with self.vmm.observer() as qmp:
            migration.check_savable(qmp)

    def save_sandbox(self, destination: str, timeout: float) -> None:
        from . import migration, resize

        qmp = self.vmm.qmp()
        migration.check_savable(qmp)
        if migration.end_earlier_save(qmp, timeout):
            self.vmm.set_running(True)
        self.vmm.set_running(False)
        description: dict[str, Any] = {
            "qemu_version": self.vmm.state.qemu_version,
            "state": self.vmm.state.as_dict(),
        }
        machine = self._machine()
        description["hotplugged_vcpus"] = resize.hotplugged_vcpus(qmp) if machine.vcpu_hotplug else []
        description["dimms"] = resize.described_dimms(qmp) if "pc-dimm" in machine.memory else []
        description["files"] = resize.described_files(qmp)
        if self.config.boot_to_be_template:
            from . import cloning, start

            description[cloning.MACHINE] = start.machine_digest(self.vmm, self.config)
            cloning.ignore_shared(qmp, True)
        migration.write_state(qmp, destination, description, timeout)
        if self.config.boot_to_be_template:
            cloning.keep_memory_file(self.config)

    def disconnect(self) -> None:
        self.vmm.disconnect()

    # --- devices -----------------------------------------------------------------------------------------------------

    def add_device(self, device: Device) -> None:
        if self.config.boot_from_template:
            # A clone is what its template was; its own devices are plugged in once it runs.
            self._require("device_hotplug", "devices", device.identity)
        if self.config.boot_to_be_template:
            self.unsupported("add_device", "a template has no devices in QEMU", "Plug them into its clones.")
        self.vmm.state.new_identity()
        found = self._completed(device)
        self._check_device(found)
        self._add_boot_device(found.record)

    def _completed(self, device: Device) -> AnyQemuDevice:
        from .devices.kinds import device_for

        found = device_for(device, self.config)
        found.complete(self.context, self.vmm.state.uuid)
        return found

    def _check_device(self, device: AnyQemuDevice) -> None:
        device.check(self.vmm.own_socket(device.identity), self._own_pids())
        device.check_machine(self._machine())

    def hotplug_add_device(self, device: Device) -> None:
        from .devices import hotplug

        self._require("device_hotplug", "devices", type(device).__name__)
        hotplug.attach(self.vmm, self.config, device)

    def hotplug_remove_device(self, device: Device) -> None:
        from .devices import hotplug

        self._require("device_hotplug", "devices", type(device).__name__)
        hotplug.detach(self.vmm, self.config, device)

    def update_device(self, device: Device) -> None:
        from .devices.kinds import KINDS

        kind = KINDS.get(type(device))
        if kind is None or not kind.can_update:
            self.unsupported(f"update_device {type(device).__name__}", fix="Restart it (disruption: restart).")
        kind(device, self.config).update(self.vmm.qmp())

    def check_device(self, device: Device) -> None:
        found = self._completed(device)
        found.check_hot(self.vmm.state.shared_memory)
        self._check_device(found)
        found.check_named(self.vmm.state.uid)

    # --- sizes -----------------------------------------------------------------------------------------------------

    def resize_vcpus(self, vcpus: int) -> VcpuResize:
        from . import resize

        self._require("vcpu_hotplug", "vcpus", vcpus)
        return resize.resize_vcpus(self.vmm, vcpus, self.config.default_max_vcpus)

    def resize_memory(self, memory_mb: int, block_mb: int = 0, probe: bool = False) -> MemoryResize:
        from . import resize

        state = self.vmm.state
        if block_mb and state.boot_memory_mb < memory_mb <= state.max_memory_mb:
            from ...options.devices import align_memory

            memory_mb = state.boot_memory_mb + align_memory(memory_mb - state.boot_memory_mb, block_mb)
        self._check_memory(memory_mb)
        if state.memory_hotplug == "balloon":
            return resize.resize_balloon(self.vmm.qmp(), memory_mb)
        if state.memory_hotplug == "pc-dimm":
            return resize.resize_dimms(self.vmm.qmp(), state, memory_mb)
        return resize.resize_virtio_mem(self.vmm.qmp(), state, memory_mb)

    def check_resize_memory(self, memory_mb: int) -> None:
        from . import resize

        self._check_memory(memory_mb)
        if self.vmm.state.memory_hotplug == "pc-dimm" and self.vmm.process() is not None:
            with self.vmm.observer() as qmp:
                resize.surplus_dimms(qmp, self.vmm.state, memory_mb)

    def resize_disk(self, identity: str, size_mb: int) -> DiskResize:
        from . import disk_resize

        return disk_resize.resize(self.vmm.qmp(), identity, size_mb)

    def check_resize_disk(self, identity: str, size_mb: int) -> None:
        from . import disk_resize

        with self.vmm.observer() as qmp:
            disk_resize.check(qmp, identity, size_mb)

    def _check_memory(self, memory_mb: int) -> None:
        from . import resize

        if self.vmm.state.memory_hotplug == "none":
            self._refuse("memory_mb", memory_mb, "with memory_hotplug none")
        resize.check_memory(self.vmm.state, memory_mb, self._machine().memory_block_mb)

    def _require(self, fact: str, option: str, wanted: Any) -> None:
        machine = self._machine()
        if not getattr(machine, fact):
            self._refuse(option, wanted, f"on machine type {machine.name}")

    def _refuse(self, option: str, wanted: Any, where: str) -> None:
        fix = "Restart it (disruption: restart)."
        self.unsupported(f"a change of {option} {where} while the VM runs", f"{wanted} is wanted", fix)

    def _machine(self) -> Machine:
        return machine_named(self.config.hypervisor_machine_type)

    # --- facts -----------------------------------------------------------------------------------------------------

    def get_sandbox_console(self) -> str:
        return self.context.run_path(CONSOLE_SOCKET)

    def console_log(self) -> str:
        return self.context.run_path(CONSOLE_LOG)

    def guest_ways(self) -> GuestWays:
        return self.vmm.guest_ways()

    def guest_facts(self) -> dict[str, Any]:
        if self.observe().power != "running" or not self.vmm.agent_connected:
            return {}
        from ...guest.agent import facts_through

        return facts_through(self.vmm.agent_way())

    def details(self) -> dict[str, Any]:
        state = self.vmm.state
        return {
            "accelerator": state.accelerator,
            "accelerator_reason": state.accelerator_reason,
            **self._user(),
            **self._exit_reason(),
            "uuid": state.uuid,
            "vmm_version": ".".join(map(str, state.qemu_version)),
        }

    def _user(self) -> dict[str, int]:
        """Whom QEMU runs as, asked of the kernel: records of earlier versions do not tell."""
        from ...host.processes import uid_of

        uid = (
            uid_of(self.vmm.state.process.pid)
            if self.vmm.state.process is not None and self.vmm.state.process.is_alive()
            else -1
        )
        return {"vmm_uid": uid} if uid >= 0 else {}

    def _exit_reason(self) -> dict[str, str]:
        """QEMU's word for why the VM ended, where it ended by itself."""
        cause = self.vmm.ending().cause if self.vmm.state.process is not None and self.vmm.process() is None else ""
        return {"exit_reason": cause} if cause else {}

    def vmm_log(self) -> str:
        return self.vmm.log

    def capabilities(self) -> Capabilities:
        machine = self._machine()
        hotplug = machine.device_hotplug
        resizable = self.config.memory_hotplug != "none" and bool(self.config.memory_hotplug or machine.memory)
        return Capabilities(
            block_device=True,
            block_device_hotplug=hotplug,
            block_device_unplug=hotplug,
            multi_queue=True,
            fs_sharing=True,
            pause=True,
            save=True,
            vcpu_hotplug=machine.vcpu_hotplug,
            vcpu_unplug=machine.vcpu_hotplug
            and ((machine.vcpu_unplug and self.vmm.unplugs_vcpus()) or self.vmm.agent_connected),
            memory_grow=resizable,
            memory_shrink=resizable,
            network_hotplug=hotplug,
            fs_hotplug=hotplug and machine.vhost_user and self.config.shared_fs != "virtio-9p",
            # Before 6.2 QEMU puts nothing between a guest and a disk that is plugged already; the disk is plugged anew then.
            disk_limit_update=tuple(self.vmm.state.qemu_version or (6, 2)) >= (6, 2),
            port_forward_update=True,
            disk_resize=True,
            guest_agent=True,
            serial_hotplug=hotplug,
            vsock_hotplug=hotplug,
            vfio_hotplug=hotplug and machine.has_bridges,
            pmem_hotplug=hotplug and "virtio-pmem" in machine.image_drivers,
            vhost_user_hotplug=hotplug and machine.vhost_user,
        )

    def get_thread_ids(self) -> dict[int, int]:
        if self.vmm.process() is None:
            return {}
        with self.vmm.observer() as qmp:
            threads = vcpu_threads(qmp)
        # No thread has the number 0.
        return {vcpu: thread for vcpu, thread in threads.items() if thread}

    # --- state -----------------------------------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        return self.vmm.state.as_dict()

    def load(self, state: dict[str, Any], config: HypervisorConfig) -> None:
        self.vmm.state = QemuState.from_dict(state)
        self.config = config

    def to_grpc(self) -> bytes:
        import json

        self.disconnect()
        return json.dumps({"id": self.context.sandbox_id, "state": self.save()}).encode()

    def from_grpc(self, config: HypervisorConfig, payload: bytes) -> None:
        import json

        try:
            value = json.loads(payload)
            self.load(value["state"], config)
        except (ValueError, KeyError, TypeError) as error:
            raise StateError("this is not a VM handed over by the QEMU driver", answer=str(error)) from error
