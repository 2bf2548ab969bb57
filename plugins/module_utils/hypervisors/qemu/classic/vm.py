# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running VM in the classic dialect: what the original says to QEMU before 5.2 over QMP, without its leaks.

The differences that are meant: a slot taken for a device that QEMU then refuses is given back, a failed migration is noticed at once,
waiting for the guest has a limit, and memory that cannot shrink says so. Processes are the caller's business.
"""

from __future__ import annotations

import os
import shlex
import shutil
import time
from typing import Any, Callable

from ....errors import ConfigError, DeadlineExceeded, HostError, StateError, Unsupported, VmmError
from ....guest.disks import scsi_id_lun
from ....options.devices import (
    BlockDrive,
    CpuDevice,
    Device,
    MemoryDevice,
    NetworkDevice,
    VfioDevice,
    VfioType,
    align_memory,
)
from ....untrusted.answers import Flag, ListOf, MapOf, Maybe, Number, Record, Text
from ...base import MemoryResize, VcpuResize
from .. import bridges
from ..qmp import QmpClient, QmpConnectionError, QmpError
from .machine import ClassicMachine
from .state import ClassicState

MIB = 1024 * 1024
COMMAND_SECONDS = 10.0
#: Seconds the guest gets to release a device.
RELEASE_SECONDS = 10.0
CONNECT_INTERVAL = 0.05
MIGRATION_INTERVAL = 0.1
#: Run states (QMP, RunState) of a guest that is lost.
LOST = ("internal-error", "guest-panicked")
#: vCPUs that stand in one place only, the core.
CORE_ONLY_MACHINES = ("pseries", "s390-ccw-virtio")


#: What the classic QEMU may answer, where that is not what today's does. As in the original, what is missing or null is empty.
INTEGER = Maybe(Number(-(2**63), 2**63 - 1))
WORDS = Maybe(Text())
STATUS = Maybe(Record({}, {"status": WORDS, "running": Maybe(Flag()), "singlestep": Maybe(Flag())}))
VCPUS = Maybe(
    ListOf(
        Record(
            {},
            {
                "CPU": INTEGER,
                "thread_id": INTEGER,
                "pc": INTEGER,
                "current": Maybe(Flag()),
                "halted": Maybe(Flag()),
                "qom_path": WORDS,
                "arch": WORDS,
                "props": Maybe(MapOf(INTEGER, most=32)),
            },
        )
    )
)
SOCKETS = Maybe(
    ListOf(
        Record({}, {"type": WORDS, "vcpus-count": INTEGER, "props": Maybe(MapOf(INTEGER, most=32)), "qom-path": WORDS})
    )
)
MEMORY_DEVICES = Maybe(
    ListOf(
        Record(
            {},
            {
                "type": WORDS,
                "data": Maybe(
                    Record(
                        {},
                        {
                            "slot": INTEGER,
                            "addr": Maybe(Number()),
                            "size": Maybe(Number()),
                            "id": WORDS,
                            "memdev": WORDS,
                        },
                    )
                ),
            },
        )
    )
)
MIGRATION = Maybe(Record({}, {"status": WORDS}))


class ClassicVm:
    """One VM and its monitor.

    :param run_dir: directory of its sockets
    :param version: of QEMU
    :param block_device_size: bytes of a block device; raises HostError for anything else
    """

    def __init__(
        self,
        machine: ClassicMachine,
        run_dir: str,
        version: tuple[int, int],
        block_device_size: Callable[[str], int],
    ) -> None:
        self.machine = machine
        self.config = machine.config
        self.run_dir = run_dir
        self.version = version
        self.block_device_size = block_device_size
        self.state = ClassicState(
            machine.bridges, uuid=machine.host.uuid, hotplug_vfio_on_root_bus=machine.config.hotplug_vfio_on_root_bus
        )
        self.nvdimms = machine.nvdimms
        self.stopped = False
        self.qmp: QmpClient | None = None

    # --- lifecycle ---------------------------------------------------------------------------------------------------

    def start(self, timeout: int, launch: Callable[[list[str]], None]) -> None:
        """Launch QEMU, wait for its monitor, and take the state over when the VM comes from a template.

        :param timeout: whole seconds
        :param launch: starts QEMU with the words after the program
        """
        os.makedirs(self.run_dir, mode=0o750, exist_ok=True)
        try:
            launch(self.machine.command_line())
            self._wait_for_monitor(timeout)
            if self.config.boot_from_template:
                self._take_over_state()
                self.disconnect()
        except BaseException:
            self.disconnect()
            shutil.rmtree(self.run_dir, ignore_errors=True)
            raise

    def stop(self) -> None:
        """Let QEMU quit, once."""
        if self.stopped:
            return
        self.stopped = True
        try:
            self._connected().execute("quit")
        finally:
            shutil.rmtree(self.run_dir, ignore_errors=True)

    def pause(self) -> None:
        """Freeze the vCPUs."""
        self._connected().execute("stop")

    def resume(self) -> None:
        """Let the vCPUs run."""
        self._connected().execute("cont")

    def save(self) -> None:
        """Write the devices' state to where the configuration says; the memory too, unless the VM becomes a template."""
        qmp = self._connected()
        if self.config.boot_to_be_template:
            self._leave_shared_memory_out(qmp)
        qmp.execute("migrate", {"uri": "exec:cat>" + _shell_word(self.config.devices_state_path)})
        self._wait_for_migration(qmp)

    def check(self) -> None:
        """Return when the guest is not lost.

        :raises VmmError: it is, or QEMU does not say
        """
        status = (self._connected().execute("query-status", shape=STATUS) or {}).get("status")
        if status in LOST:
            raise VmmError("the guest is lost", answer=status)

    def thread_ids(self) -> dict[int, int]:
        """Host threads of the vCPUs."""
        vcpus = self._connected().execute("query-cpus", shape=VCPUS) or []
        return {vcpu.get("CPU") or 0: vcpu["thread_id"] for vcpu in vcpus if (vcpu.get("thread_id") or 0) > 0}

    def disconnect(self) -> None:
        """Close the connection to the monitor. Idempotent."""
        if self.qmp is not None:
            self.qmp.close()
            self.qmp = None

    # --- devices -----------------------------------------------------------------------------------------------------

    def hotplug_add(self, device: Device) -> int | None:
        """Plug a device in; the number of vCPUs or MiB that were added, None for any other.

        :raises Unsupported: devices of its kind cannot be plugged in
        """
        if isinstance(device, CpuDevice):
            return self._add_vcpus(device.count) if device.count else 0
        if isinstance(device, MemoryDevice):
            return self._add_memory(device)
        if isinstance(device, BlockDrive):
            self._add_block(self._connected(), device)
        elif isinstance(device, VfioDevice):
            self._add_vfio(self._connected(), device)
        elif isinstance(device, NetworkDevice):
            self._add_network(self._connected(), device)
        else:
            raise Unsupported(f"a {type(device).__name__} cannot be plugged into a running VM")
        return None

    def hotplug_remove(self, device: Device) -> int | None:
        """Take a device out; the number of vCPUs that were removed, None for any other.

        :raises Unsupported: devices of its kind cannot be taken out
        """
        if isinstance(device, CpuDevice):
            return self._remove_vcpus(device.count) if device.count else 0
        if isinstance(device, BlockDrive):
            qmp = self._connected()
            if self.config.block_device_driver == "virtio-blk":
                bridges.release(self.state.bridges, device.id)
            self._remove(qmp, f"virtio-{device.id}")
            self._remove_node(qmp, device.id)
        elif isinstance(device, VfioDevice):
            qmp = self._connected()
            if not self.state.hotplug_vfio_on_root_bus:
                bridges.release(self.state.bridges, device.id)
            self._remove(qmp, device.id)
        elif isinstance(device, NetworkDevice):
            qmp = self._connected()
            bridges.release(self.state.bridges, device.tap_id)
            self._remove(qmp, f"virtio-{device.tap_id}")
            qmp.execute("netdev_del", {"id": device.tap_name})
        else:
            raise Unsupported(f"a {type(device).__name__} cannot be taken out of a running VM")
        return None

    def resize_vcpus(self, vcpus: int) -> VcpuResize:
        """Bring the VM to `vcpus` vCPUs, or as near as its maximum lets it.

        :raises ConfigError: below what it was launched with
        """
        old = self.config.num_vcpus + len(self.state.hotplugged_vcpus)
        if vcpus > old:
            return VcpuResize(old, old + self._add_vcpus(vcpus - old), how="hotplug")
        if vcpus < old:
            return VcpuResize(old, old - self._remove_vcpus(old - vcpus), how="unplug")
        return VcpuResize(old, old)

    def resize_memory(self, memory_mb: int, block_mb: int = 0, probe: bool = False) -> MemoryResize:
        """Bring the VM to `memory_mb` MiB, in whole blocks.

        :raises Unsupported: that is less than it has
        """
        self._connected()
        old = self.config.memory_size + self.state.hotplugged_memory
        if memory_mb < old:
            raise Unsupported("memory that was plugged in cannot be taken out", option="memory_mb", wanted=memory_mb)
        device = MemoryDevice(align_memory(memory_mb - old, block_mb), probe=probe and memory_mb > old)
        added = self._add_memory(device)
        return MemoryResize(old, old + added, "pc-dimm" if added else "none", device)

    # --- blocks ------------------------------------------------------------------------------------------------------

    def _add_block(self, qmp: QmpClient, drive: BlockDrive) -> None:
        if self.config.block_device_driver == "nvdimm":
            self._add_nvdimm(qmp, drive)
            return
        self._add_node(qmp, drive)
        frontend: dict[str, Any] = {"id": f"virtio-{drive.id}", "drive": drive.id}
        if self.version >= (2, 10):
            frontend["share-rw"] = "on"
        try:
            if self.config.block_device_driver == "virtio-blk":
                self._plug_behind_bridge(
                    qmp,
                    drive.id,
                    {**frontend, "driver": "virtio-blk-pci", "romfile": ""},
                    lambda slot: _set_place(drive, slot),
                )
            else:
                scsi_id, lun = scsi_id_lun(drive.index)
                place = {"bus": "scsi0.0", "scsi-id": scsi_id, "lun": lun}
                qmp.execute("device_add", {**frontend, "driver": "scsi-hd", **place})
        except BaseException:
            self._remove_node(qmp, drive.id)
            raise

    def _add_node(self, qmp: QmpClient, drive: BlockDrive) -> None:
        """The block node behind a disk; its format is always raw, whatever the record says."""
        node: dict[str, Any] = {"driver": "raw", "file": {"driver": "file", "filename": drive.file}}
        if self.config.block_device_cache_set:
            if self.version < (2, 9):
                raise Unsupported("QEMU before 2.9 cannot be told how to cache a disk", option="block_device_cache_set")
            direct, no_flush = self.config.block_device_cache_direct, self.config.block_device_cache_noflush
            node["cache"] = {"direct": direct, "no-flush": no_flush}
        if self.version >= (2, 8):
            qmp.execute("blockdev-add", {**node, "node-name": drive.id})
        else:
            qmp.execute("blockdev-add", {"options": {**node, "id": drive.id}})

    def _remove_node(self, qmp: QmpClient, identifier: str) -> None:
        command = "blockdev-del" if self.version >= (2, 9) else "x-blockdev-del"
        qmp.execute(command, {"node-name" if self.version >= (2, 8) else "id": identifier})

    def _add_nvdimm(self, qmp: QmpClient, drive: BlockDrive) -> None:
        backend = f"nvdimmbackmem{drive.id}"
        properties = {"mem-path": drive.file, "size": self.block_device_size(drive.file), "share": True}
        self._add_object(qmp, "memory-backend-file", backend, properties)
        try:
            qmp.execute("device_add", {"driver": "nvdimm", "id": f"nvdimm{drive.id}", "memdev": backend})
        except BaseException:
            qmp.execute("object-del", {"id": backend})
            raise
        drive.nvdimm_id = str(self.nvdimms)
        self.nvdimms += 1

    # --- VFIO and network --------------------------------------------------------------------------------------------

    def _add_vfio(self, qmp: QmpClient, device: VfioDevice) -> None:
        if device.type == VfioType.NORMAL:
            source = {"host": device.bdf}
        elif device.type == VfioType.MEDIATED:
            source = {"sysfsdev": device.sysfs_dev}
        else:
            raise ConfigError("there is no such type of VFIO device", wanted=device.type)
        arguments = {"id": device.id, "driver": "vfio-pci", **source, "romfile": ""}
        if self.state.hotplug_vfio_on_root_bus:
            qmp.execute("device_add", arguments)
        else:
            self._plug_behind_bridge(qmp, device.id, arguments)

    def _add_network(self, qmp: QmpClient, nic: NetworkDevice) -> None:
        if nic.kind not in ("veth", "tap"):
            raise Unsupported(f"a network interface of kind {nic.kind} cannot be plugged into a running VM")
        backend: dict[str, Any] = {"type": "tap", "id": nic.tap_name, "fds": self._hand_over(qmp, "fd", nic.vm_fds)}
        if nic.vhost_fds:
            backend.update({"vhost": "on", "vhostfds": self._hand_over(qmp, "vhostfd", nic.vhost_fds)})
            for descriptor in nic.vhost_fds:
                os.close(descriptor)
            nic.vhost_fds = []
        qmp.execute("netdev_add", backend)
        frontend: dict[str, Any] = {"id": f"virtio-{nic.tap_id}", "netdev": nic.tap_name, "mac": nic.mac, "mq": "on"}
        try:
            if self.machine.architecture.ccw:
                slot = bridges.allocate(self.state.bridges, nic.tap_id)
                qmp.execute("device_add", {**frontend, "driver": "virtio-net-ccw", "devno": slot.bridge.id})
            else:
                frontend.update({"driver": "virtio-net-pci", "romfile": "", "vectors": 2 * self.config.num_vcpus + 2})
                self._plug_behind_bridge(qmp, nic.tap_id, frontend, lambda slot: _set_place(nic, slot))
        except BaseException:
            qmp.execute("netdev_del", {"id": nic.tap_name})
            raise

    def _hand_over(self, qmp: QmpClient, prefix: str, descriptors: list[int]) -> str:
        """Give QEMU descriptors under names; returns the names."""
        names = []
        for number, descriptor in enumerate(descriptors):
            names.append(f"{prefix}{number}")
            qmp.execute("getfd", {"fdname": names[-1]}, fds=[descriptor])
        return ":".join(names)

    def _plug_behind_bridge(
        self,
        qmp: QmpClient,
        identifier: str,
        arguments: dict[str, Any],
        placed: Callable[[bridges.Slot], None] = lambda slot: None,
    ) -> None:
        """Plug a PCI device into the next free slot; the slot is free again when QEMU refuses."""
        slot = bridges.allocate(self.state.bridges, identifier)
        placed(slot)
        try:
            qmp.execute("device_add", {**arguments, "bus": slot.bridge.id, "addr": slot.addr})
        except BaseException:
            bridges.release(self.state.bridges, identifier)
            raise

    # --- vCPUs -------------------------------------------------------------------------------------------------------

    def _add_vcpus(self, count: int) -> int:
        qmp = self._connected()
        plugged = self.state.hotplugged_vcpus
        count = min(count, self.config.default_max_vcpus - self.config.num_vcpus - len(plugged))
        if count <= 0:
            return 0
        wanted = len(plugged) + count
        before = len(plugged)
        for socket in qmp.execute("query-hotpluggable-cpus", shape=SOCKETS) or []:
            if socket.get("qom-path"):
                continue
            try:
                qmp.execute("device_add", self._vcpu(socket, f"cpu-{len(plugged)}"))
            except QmpError:
                continue
            plugged.append(f"cpu-{len(plugged)}")
            if len(plugged) == wanted:
                return count
        raise VmmError(f"only {len(plugged) - before} of {count} vCPUs could be added", option="vcpus", wanted=wanted)

    def _vcpu(self, socket: dict[str, Any], identifier: str) -> dict[str, Any]:
        """A vCPU for a free socket; classic QEMU gets the numbers as texts."""
        names = ["core-id"]
        if self.machine.machine_type not in CORE_ONLY_MACHINES:
            names += ["socket-id", "thread-id"]
            if self.version >= (4, 1) and socket.get("type") == "host-x86_64-cpu":
                names.append("die-id")
        place = {name: str((socket.get("props") or {}).get(name) or 0) for name in names}
        return {"driver": socket.get("type") or "", "id": identifier, **place}

    def _remove_vcpus(self, count: int) -> int:
        qmp = self._connected()
        plugged = self.state.hotplugged_vcpus
        if count > len(plugged):
            raise ConfigError(
                f"only the {len(plugged)} vCPUs that were plugged in can be taken out", option="vcpus", wanted=count
            )
        for _removal in range(count):
            self._remove(qmp, plugged[-1])
            plugged.pop()
        return count

    # --- memory ------------------------------------------------------------------------------------------------------

    def _add_memory(self, device: MemoryDevice) -> int:
        if not self.machine.architecture.memory_hotplug:
            raise Unsupported(f"memory cannot be plugged in on {self.machine.architecture.name}", option="memory_mb")
        if device.size_mb < 0:
            raise ConfigError("memory cannot be negative", option="memory_mb", wanted=device.size_mb)
        if device.size_mb == 0:
            return 0
        qmp = self._connected()
        total = self.config.memory_size + self.state.hotplugged_memory + device.size_mb
        if total > self.machine.host.memory_mb:
            raise HostError(f"the host has {self.machine.host.memory_mb} MiB", option="memory_mb", wanted=total)
        present = _memory_devices(qmp)
        if present:
            device.slot = max(entry.get("slot") or 0 for entry in present) + 1
        backend = f"mem{device.slot}"
        kind, properties = self._memory_backend()
        self._add_object(qmp, kind, backend, {"size": device.size_mb * MIB, **properties})
        try:
            qmp.execute("device_add", {"driver": "pc-dimm", "id": f"dimm{backend}", "memdev": backend})
        except BaseException:
            qmp.execute("object-del", {"id": backend})
            raise
        if device.probe:
            present = _memory_devices(qmp)
            if not present:
                raise VmmError("QEMU does not list the memory that was plugged in")
            device.addr = present[-1].get("addr") or 0
        self.state.hotplugged_memory += device.size_mb
        return device.size_mb

    def _memory_backend(self) -> tuple[str, dict[str, Any]]:
        """What is plugged in comes from where the boot memory comes from."""
        boot = self.machine.memory_backend.properties
        if self.config.huge_pages:
            return "memory-backend-file", {"mem-path": "/dev/hugepages", "share": True}
        shared: dict[str, Any] = {"share": True} if boot.get("share") else {}
        if self.config.shared_fs == "virtio-fs" or self.config.file_backed_mem_root_dir:
            path = {"mem-path": boot["mem-path"]} if "mem-path" in boot else {}
            return "memory-backend-file", {**path, **shared}
        return "memory-backend-ram", shared

    # --- QMP ---------------------------------------------------------------------------------------------------------

    def _connected(self) -> QmpClient:
        """The connection to the monitor, opened when it is first used."""
        if self.qmp is None:
            self.qmp = QmpClient(os.path.join(self.run_dir, "qmp.sock"), COMMAND_SECONDS)
        return self.qmp

    def _wait_for_monitor(self, timeout: int) -> None:
        if timeout < 0:
            raise ConfigError("a time limit cannot be negative", option="timeout", wanted=timeout)
        started = time.monotonic()
        self.disconnect()
        while True:
            try:
                self.version = self._connected().version[:2]
                self.disconnect()
                return
            except QmpConnectionError as error:
                if int(time.monotonic() - started) > timeout:
                    raise DeadlineExceeded(
                        f"QEMU did not answer within {timeout} seconds", answer=str(error)
                    ) from error
            time.sleep(CONNECT_INTERVAL)

    def _remove(self, qmp: QmpClient, identifier: str) -> None:
        """Take a device out and wait until the guest has released it."""
        qmp.execute("device_del", {"id": identifier})
        if qmp.wait_event("DEVICE_DELETED", RELEASE_SECONDS, lambda data: data.get("device") == identifier) is None:
            raise DeadlineExceeded(f"the guest does not release {identifier}", wanted=identifier)

    def _add_object(self, qmp: QmpClient, kind: str, identifier: str, properties: dict[str, Any]) -> None:
        """Classic QEMU takes an object's properties in a dictionary of their own."""
        qmp.execute("object-add", {"qom-type": kind, "id": identifier, "props": properties})

    def _leave_shared_memory_out(self, qmp: QmpClient) -> None:
        if self.machine.architecture.name != "arm64":
            capability = {"capability": "x-ignore-shared", "state": True}
            qmp.execute("migrate-set-capabilities", {"capabilities": [capability]})

    def _take_over_state(self) -> None:
        qmp = self._connected()
        self._leave_shared_memory_out(qmp)
        qmp.execute("migrate-incoming", {"uri": "exec:cat " + _shell_word(self.config.devices_state_path)})
        self._wait_for_migration(qmp)

    def _wait_for_migration(self, qmp: QmpClient) -> None:
        deadline = time.monotonic() + self.machine.architecture.migration_seconds
        while True:
            status = (qmp.execute("query-migrate", shape=MIGRATION) or {}).get("status") or ""
            if status == "completed":
                return
            if status in ("failed", "cancelled"):
                raise StateError("the state could not be moved", answer=status)
            if time.monotonic() > deadline:
                raise DeadlineExceeded("the state was not moved in time", answer=status)
            time.sleep(MIGRATION_INTERVAL)


def _memory_devices(qmp: QmpClient) -> list[dict[str, Any]]:
    """The data of each memory device that the guest has."""
    return [device.get("data") or {} for device in qmp.execute("query-memory-devices", shape=MEMORY_DEVICES) or []]


def _shell_word(path: str) -> str:
    """A path as one word for the shell that QEMU runs; no path is no word, and QEMU says what it thinks of that."""
    return shlex.quote(path) if path else ""


def _set_place(device: BlockDrive | NetworkDevice, slot: bridges.Slot) -> None:
    device.pci_addr = slot.path
