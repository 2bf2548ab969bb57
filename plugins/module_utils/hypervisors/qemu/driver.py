# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The QEMU driver: the operations of L(Hypervisor), each short; the work is in the rooms beside this one."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import time
from typing import TYPE_CHECKING, Any, Iterator

from ansible_collections.kata.hypervisor.plugins.module_utils import host
from ansible_collections.kata.hypervisor.plugins.module_utils.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.devices import BlockDrive, Device
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import (
    AssetError,
    ConfigError,
    DeadlineExceeded,
    HostError,
    HypervisorError,
    StateError,
    VmmError,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import (
    Capabilities,
    Hypervisor,
    MemoryResize,
    Observed,
    VcpuResize,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import launch
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.arch import Machine, host_architecture, machine_named
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.qmp import QmpClient, QmpConnectionError, QmpError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.state import QemuState
from ansible_collections.kata.hypervisor.plugins.module_utils.layout import socket_path
from ansible_collections.kata.hypervisor.plugins.module_utils.process import (
    ProcessIdentity,
    command_lines,
    identify,
    lock_owner,
    tail,
    terminate,
    wait_gone,
)

if TYPE_CHECKING:
    from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.host_side import HostSide
    from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.parts import Part, Place

#: Seconds for one question to a VMM that is well.
QMP_SECONDS = 5.0
#: Seconds that quit, SIGTERM and SIGKILL get, each.
STEP_SECONDS = 5.0
#: Seconds the guest gets to release a device.
RELEASE_SECONDS = 15.0
#: MiB of head-room a VM gets when the task does not say how far it may grow: this much, or as much again as it has.
DEFAULT_HEADROOM_MB = 1024
#: QEMU's words for the state of a VM (QMP, RunState) and ours.
POWER = {
    "running": "running",
    "paused": "paused",
    "prelaunch": "paused",
    "inmigrate": "paused",
    "suspended": "paused",
    "postmigrate": "paused",
    "finish-migrate": "paused",
    "save-vm": "paused",
    "restore-vm": "paused",
    "colo": "paused",
    # The disk is full: the guest goes on from here once there is space and it is resumed.
    "io-error": "paused",
}


class QemuHypervisor(Hypervisor):
    """A VM run by QEMU, controlled over QMP."""

    name = "qemu"

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.state = QemuState()
        self._cold: list[Device] = []
        self._control: QmpClient | None = None

    # --- lifecycle -------------------------------------------------------------------------------------------------

    def create_sandbox(self, config: HypervisorConfig) -> None:
        with self._named_errors():
            config = dataclasses.replace(config, kernel_params=list(config.kernel_params))
            config.check_consistent()
            architecture = host_architecture()
            machine = machine_named(architecture, config.hypervisor_machine_type)
            config.hypervisor_machine_type = machine.name
            config.default_max_vcpus = config.default_max_vcpus or max(config.num_vcpus, 1, os.cpu_count() or 1)
            config.valid(architecture.max_vcpus)
            config.mem_slots = config.mem_slots or 10
            config.accelerator = config.accelerator or "auto"
            self._plan_memory(config, machine.hotplug)
            config.check_consistent()
            self._check_words(config)
            self._check_files(config)
            for name in launch.SOCKETS:
                socket_path(self.context.run_dir, name)
            from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.binary import find_binary, version_of

            config.hypervisor_path = find_binary(config.hypervisor_asset_path(), architecture)
            self.state.qemu_version = list(version_of(config.hypervisor_path))
            self.config = config
            self._command_line()

    def start_sandbox(self, timeout: float) -> None:
        with self._named_errors():
            self._launch(timeout)
            self._set_running(True)

    def restore_sandbox(self, source: str, timeout: float) -> None:
        from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import migration

        with self._named_errors():
            description = migration.read_description(source)
            if description.get("qemu_version") != self.state.qemu_version:
                raise StateError(
                    f"the state was saved by QEMU {description.get('qemu_version')}, and this is {self.state.qemu_version}",
                    option="hypervisor_path",
                    fix="Name the old binary, or stop the sandbox to give its saved state up.",
                )
            saved = QemuState.from_dict(description["state"])
            self.state = dataclasses.replace(saved, process=None, launching=False)
            try:
                self._launch(timeout, description)
                migration.read_state(self._qmp(), source, timeout)
            except QmpConnectionError as error:
                self._kill()
                raise VmmError(
                    "QEMU does not take the saved state", answer=tail(self.vmm_log(), 5) or str(error), log=self.vmm_log()
                ) from error
            except BaseException:
                self._kill()
                raise

    def stop_sandbox(self, timeout: float, force: bool = False) -> None:
        with self._named_errors():
            process = self._process()
            if process is not None:
                if not (not force and timeout > 0 and self._powerdown(process, timeout)):
                    self._quit(process)
            self._kill()
            self.context.checkpoint()

    def pause_sandbox(self) -> None:
        with self._named_errors():
            self._set_running(False)

    def resume_sandbox(self) -> None:
        with self._named_errors():
            self._set_running(True)

    def save_sandbox(self, destination: str, timeout: float) -> None:
        from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import migration, resize

        with self._named_errors():
            qmp = self._qmp()
            if migration.end_earlier_save(qmp, timeout):
                self._set_running(True)
            self._set_running(False)
            description = {"qemu_version": self.state.qemu_version, "state": self.state.as_dict()}
            if self._machine().hotplug:
                description["hotplugged_vcpus"] = resize.hotplugged_vcpus(qmp)
                description["dimms"] = resize.described_dimms(qmp)
            migration.write_state(qmp, destination, description, timeout)

    def disconnect(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None

    def cleanup(self) -> None:
        with self._named_errors():
            self.disconnect()
            self._kill()
            shutil.rmtree(self.context.run_dir, ignore_errors=True)

    def check(self) -> None:
        with self._named_errors():
            observed = self.observe()
            if observed.power in ("off", "failed") or observed.reason:
                raise StateError(f"the VM is {observed.power}", answer=observed.reason, log=self.vmm_log())

    # --- devices -----------------------------------------------------------------------------------------------------

    def add_device(self, device: Device) -> None:
        from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import host_side, parts

        with self._named_errors():
            self.state.new_identity()
            device = host_side.complete(device, self.context.sandbox_id, self.state.uuid, self.context.run_dir)
            host_side.check(device, self.config)
            # Made once without the host's side, so that what QEMU lacks is refused before anything is touched.
            parts.parts_of(device, parts.Place(self._machine().transport), self.config.block_device_driver)
            self._cold = [one for one in self._cold if parts.device_id(one) != parts.device_id(device)] + [device]

    def hotplug_add_device(self, device: Device) -> None:
        from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import host_side, hotplug, parts

        with self._named_errors():
            identifier = parts.device_id(device)
            self._require_hotplug("devices", identifier)
            qmp = self._qmp()
            if identifier in hotplug.plugged_devices(qmp):
                return
            device = host_side.complete(device, self.context.sandbox_id, self.state.uuid, self.context.run_dir)
            host_side.check_hot(device, self.config, self.state.shared_memory)
            host_side.check(device, self.config)
            side = None
            try:
                place = self._place(device)
                self.context.checkpoint()
                side = self._open_host_side(device)
                descriptors, named = side.by_name(identifier)
                for name, descriptor in named.items():
                    qmp.execute("getfd", {"fdname": name}, fds=[descriptor])
                hotplug.plug(qmp, parts.parts_of(device, place, self.config.block_device_driver, descriptors))
            except BaseException:
                self._give_back(identifier)
                raise
            finally:
                if side is not None:
                    side.close()

    def hotplug_remove_device(self, device: Device) -> None:
        from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import hotplug, parts

        with self._named_errors():
            identifier = parts.device_id(device)
            self._require_hotplug("devices", identifier)
            descriptors = parts.Descriptors(["0"], socket_path="/") if identifier in self.state.daemons else parts.Descriptors(["0"])
            pieces = parts.parts_of(device, parts.Place(self._machine().transport), self.config.block_device_driver, descriptors)
            hotplug.unplug(self._qmp(), pieces, RELEASE_SECONDS)
            self._give_back(identifier)

    def _place(self, device: Device) -> Place:
        """Where a device goes: the slot it has, or the lowest free one."""
        from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import bridges, parts

        machine = self._machine()
        driver = (device.driver if isinstance(device, BlockDrive) else "") or self.config.block_device_driver
        if not machine.bridge_type or not parts.needs_slot(device, driver):
            return parts.Place(machine.transport)
        identifier = parts.device_id(device)
        slot = bridges.find(self.state.bridges, identifier) or bridges.allocate(self.state.bridges, identifier)
        return parts.Place(machine.transport, slot.bridge.id, slot.addr)

    def _open_host_side(self, device: Device) -> HostSide:
        from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import host_side, parts

        def started(process: ProcessIdentity | None) -> None:
            if process is not None:
                self.state.daemons[parts.device_id(device)] = process
            self.context.checkpoint()

        return host_side.open_host_side(device, self.config, self.context.run_dir, started)

    def _give_back(self, identifier: str) -> None:
        """Free what a device that is not there any more has taken: its slot and its daemon."""
        from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import bridges

        if bridges.find(self.state.bridges, identifier):
            bridges.release(self.state.bridges, identifier)
        daemon = self.state.daemons.pop(identifier, None)
        if daemon is not None:
            terminate(daemon, STEP_SECONDS)
        self.context.checkpoint()

    # --- sizes -----------------------------------------------------------------------------------------------------

    def resize_vcpus(self, vcpus: int) -> VcpuResize:
        from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import resize

        with self._named_errors():
            self._require_hotplug("vcpus", vcpus)
            return resize.grow_or_shrink_vcpus(self._qmp(), self.state, vcpus, self.config.default_max_vcpus)

    def resize_memory(self, memory_mb: int, block_mb: int = 0, probe: bool = False) -> MemoryResize:
        from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import resize

        with self._named_errors():
            self._require_hotplug("memory_mb", memory_mb)
            if memory_mb > self.state.max_memory_mb:
                raise ConfigError(
                    f"this VM can grow to {self.state.max_memory_mb} MiB",
                    option="memory_mb",
                    wanted=memory_mb,
                    fix="Recreate it with more max_memory_mb, or restart it (disruption: restart).",
                )
            if self.state.memory_hotplug == "pc-dimm":
                return resize.resize_dimms(self._qmp(), memory_mb)
            return resize.resize_virtio_mem(self._qmp(), self.state, memory_mb)

    # --- facts -----------------------------------------------------------------------------------------------------

    def observe(self) -> Observed:
        process = self._process()
        if process is None:
            return Observed(leftovers=self._leftovers(), reason=self._why_off())
        try:
            with self._observer() as qmp:
                return self._observe_running(qmp, process)
        except VmmError as error:
            return Observed(power="failed", pid=process.pid, reason=f"QEMU does not answer: {error}")

    def _observe_running(self, qmp: QmpClient, process: ProcessIdentity) -> Observed:
        from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import hotplug, resize

        status = str(qmp.execute("query-status").get("status", ""))
        power = POWER.get(status, "failed")
        reason = "" if power != "failed" and status != "io-error" else f"QEMU reports {status}"
        return Observed(
            power=power,
            vmm_status=status,
            pid=process.pid,
            vcpus=resize.plugged_vcpus(qmp) - self.state.offline_vcpus,
            memory_mb=resize.plugged_memory_mb(qmp),
            devices=hotplug.plugged_devices(qmp),
            reason=reason or self._lost_daemons(),
        )

    def _lost_daemons(self) -> str:
        lost = [name for name, daemon in self.state.daemons.items() if not daemon.is_alive()]
        return f"the daemon of device {', '.join(lost)} is gone" if lost else ""

    def get_sandbox_console(self) -> str:
        return self.context.run_path("console.sock")

    def console_log(self) -> str:
        return self.context.run_path(launch.CONSOLE_LOG)

    def vmm_log(self) -> str:
        return self.context.run_path(launch.VMM_LOG)

    def capabilities(self) -> Capabilities:
        machine = self._machine()
        growing = machine.hotplug and self.config.memory_hotplug != "none"
        return Capabilities(
            block_device=True,
            block_device_hotplug=machine.hotplug,
            multi_queue=True,
            fs_sharing=True,
            pause=True,
            save=True,
            vcpu_hotplug=machine.hotplug,
            vcpu_unplug=machine.hotplug and self.state.accelerator == "kvm",
            memory_grow=growing,
            memory_shrink=growing,
            network_hotplug=machine.hotplug,
            fs_hotplug=machine.hotplug and self.config.shared_fs != "virtio-9p",
            serial_hotplug=machine.hotplug,
            vsock_hotplug=machine.hotplug,
            vfio_hotplug=machine.hotplug,
            vhost_user_hotplug=machine.hotplug,
        )

    def get_thread_ids(self) -> dict[int, int]:
        if self._process() is None:
            return {}
        with self._named_errors(), self._observer() as qmp:
            return {int(cpu["cpu-index"]): int(cpu["thread-id"]) for cpu in qmp.execute("query-cpus-fast")}

    def pid(self) -> int:
        process = self._process()
        return process.pid if process else 0

    # --- state -----------------------------------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        return self.state.as_dict()

    def load(self, state: dict[str, Any], config: HypervisorConfig) -> None:
        self.state = QemuState.from_dict(state)
        self.config = config

    def to_grpc(self) -> bytes:
        self.disconnect()
        return json.dumps({"id": self.context.sandbox_id, "state": self.save()}).encode()

    def from_grpc(self, config: HypervisorConfig, payload: bytes) -> None:
        try:
            value = json.loads(payload)
            self.load(value["state"], config)
        except (ValueError, KeyError, TypeError) as error:
            raise StateError("this is not a VM handed over by the QEMU driver", answer=str(error)) from error

    # --- create: what can be known to be wrong before anything is touched --------------------------------------------

    def _plan_memory(self, config: HypervisorConfig, hotplug: bool) -> None:
        host_mb = host.read_host_memory_mb(self.context.meminfo)
        if config.memory_size > host_mb:
            raise HostError(
                f"the host has {host_mb} MiB of memory", option="memory_mb", wanted=config.memory_size, fix="Ask for less."
            )
        if not hotplug:
            if config.memory_hotplug not in ("", "none"):
                raise ConfigError(
                    f"machine type {config.hypervisor_machine_type} cannot change its memory while it runs",
                    option="memory_hotplug",
                    wanted=config.memory_hotplug,
                    fix="Choose machine type q35 or pc.",
                )
            config.memory_hotplug = "none"
        config.memory_hotplug = config.memory_hotplug or "virtio-mem"
        if config.memory_hotplug == "none":
            config.max_memory_mb = config.max_memory_mb or config.memory_size
        elif not config.max_memory_mb:
            config.max_memory_mb = min(config.memory_size + max(config.memory_size, DEFAULT_HEADROOM_MB), max(host_mb, config.memory_size))

    def _check_words(self, config: HypervisorConfig) -> None:
        """Refuse what would be read as more than one word of an option that QEMU takes as text."""
        import re

        word = r"[A-Za-z0-9_-]+(=[A-Za-z0-9_.-]+)?"
        for option, value, pattern in (
            ("cpu_model", config.cpu_model, r"[A-Za-z0-9_.-]+(,[+-]?[A-Za-z0-9_.-]+(=[A-Za-z0-9_.-]+)?)*"),
            ("machine_accelerators", config.machine_accelerators, rf"{word}(,{word})*"),
        ):
            if value and not re.fullmatch(pattern, value):
                raise ConfigError("this is not a list of names QEMU could know", option=option, wanted=value)

    def _check_files(self, config: HypervisorConfig) -> None:
        for option, path in (
            ("kernel_path", config.kernel_asset_path()),
            ("initrd_path", config.initrd_asset_path()),
            ("image_path", config.image_asset_path()),
            ("initramfs_path", config.initramfs_path),
            ("firmware_path", config.firmware_asset_path()),
        ):
            if not path:
                continue
            if option == "image_path" and os.path.exists(path) and not os.path.isdir(path) and not os.path.isfile(path):
                continue
            if not os.path.exists(path):
                raise AssetError(
                    "there is no such file",
                    option=option,
                    wanted=path,
                    fix="Bring it to the host first (roles kata_kernel, kata_image and kata_firmware).",
                )
            if not os.path.isfile(path):
                raise AssetError("this is not a file", option=option, wanted=path)
            try:
                with open(path, "rb") as stream:
                    empty = not stream.read(1)
            except OSError as error:
                raise AssetError("this file cannot be read", option=option, wanted=path, answer=str(error)) from error
            if empty:
                raise AssetError("this file is empty", option=option, wanted=path)

    # --- launch ----------------------------------------------------------------------------------------------------

    def _command_line(
        self,
        fds: tuple[int, ...] = (-1, -1, -1, -1),
        description: dict[str, Any] | None = None,
        device_parts: list[Part] | None = None,
    ) -> list[str]:
        """The whole command line, program first; with a saved VM's description, one that waits for its state."""
        from ansible_collections.kata.hypervisor.plugins.module_utils.accelerator import host_khz
        from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import argv, bridges, cmdline

        machine = self._machine()
        if not self.state.bridges and machine.bridge_type:
            self.state.bridges = bridges.make_bridges(self.config.default_bridges, machine.bridge_type)
        config = self.config
        if description:
            config = dataclasses.replace(
                config,
                num_vcpus=self.state.boot_vcpus,
                memory_size=self.state.boot_memory_mb,
                max_memory_mb=self.state.max_memory_mb,
            )
        plan = cmdline.VmPlan(
            sandbox_id=self.context.sandbox_id,
            uuid=self.state.uuid,
            config=config,
            machine=machine,
            accelerator=self.state.accelerator or "tcg",
            pidfile=self.context.run_path(launch.PIDFILE),
            console_log=self.console_log(),
            bridges=self.state.bridges,
            monitor_fds=(fds[0], fds[1]),
            console_fd=fds[2],
            agent_fd=fds[3],
            host_khz=host_khz(self.context.cpuinfo),
            image_partitioned=is_partitioned(config.image_asset_path()),
            incoming=description is not None,
            hotplugged_vcpus=(description or {}).get("hotplugged_vcpus") or [],
            dimms=(description or {}).get("dimms") or [],
            parts=device_parts or [],
            shared_memory=self.state.shared_memory,
        )
        return [self.config.hypervisor_path, *cmdline.command_line(plan, argv.dialect_for(tuple(self.state.qemu_version)))]

    def _launch(self, timeout: float, description: dict[str, Any] | None = None) -> None:
        """Start QEMU, paused; what is there of an earlier one is an error, not something to run over."""
        if self._process() is not None:
            raise StateError("its QEMU runs already")
        self._choose_accelerator()
        self.state.new_identity()
        if description is None:
            self.state.boot_vcpus = self.config.num_vcpus
            self.state.boot_memory_mb = self.config.memory_size
            self.state.max_memory_mb = self.config.max_memory_mb
            self.state.memory_hotplug = self.config.memory_hotplug
            self.state.offline_vcpus = 0
            self.state.shared_memory = self._wants_shared_memory()
        self.state.launching = True
        self.context.checkpoint()
        launch.make_run_dir(self.context.run_dir)
        for log in (self.console_log(), self.vmm_log()):
            launch.keep_previous(log)
        listeners: list[Any] = []
        sides: list[HostSide] = []
        try:
            for name in launch.SOCKETS:
                listeners.append(launch.listening_socket(self.context.run_path(name)))
            fds = tuple(listener.fileno() for listener in listeners)
            argv = self._command_line(fds, description, self._cold_parts(sides))
            inherited = tuple(descriptor for side in sides for descriptor in side.descriptors())
            self._control = launch.launch(argv, self.context.run_dir, listeners, inherited, self._started, timeout)
        except BaseException:
            for listener in listeners:
                listener.close()
            self.state.process = None
            self.state.launching = False
            self._end_daemons()
            self._remove_leftovers()
            self.context.checkpoint()
            raise
        finally:
            for side in sides:
                side.close()

    def _wants_shared_memory(self) -> bool:
        if self.config.shared_fs == "virtio-fs":
            return True
        from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import host_side

        return any(host_side.needs_shared_memory(device, self.config) for device in self._cold)

    def _cold_parts(self, sides: list[HostSide]) -> list[Part]:
        """The parts of the devices that are there from the start; what is opened for them is added to C(sides)."""
        if not self._cold:
            return []
        from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import bridges, parts

        wanted = {parts.device_id(device) for device in self._cold}
        for bridge in self.state.bridges:
            bridge.slots = {slot: name for slot, name in bridge.slots.items() if name in wanted}
        machine = self._machine()
        if not self.state.bridges and machine.bridge_type:
            self.state.bridges = bridges.make_bridges(self.config.default_bridges, machine.bridge_type)
        pieces: list[Part] = []
        for device in self._cold:
            place = self._place(device)
            side = self._open_host_side(device)
            sides.append(side)
            pieces += parts.parts_of(device, place, self.config.block_device_driver, side.by_number())
        return pieces

    def _started(self, process: ProcessIdentity | None) -> None:
        self.state.process = process
        self.context.checkpoint()

    def _choose_accelerator(self) -> None:
        if self.config.accelerator in ("kvm", "tcg"):
            self.state.accelerator, self.state.accelerator_reason = self.config.accelerator, "the task says so"
            return
        from ansible_collections.kata.hypervisor.plugins.module_utils.accelerator import choose

        verdict = choose(self.config.hypervisor_path, os.path.dirname(self.context.run_dir), self.config.kernel_asset_path())
        self.state.accelerator, self.state.accelerator_reason = verdict.accelerator, verdict.reason

    # --- the process -------------------------------------------------------------------------------------------------

    def _process(self) -> ProcessIdentity | None:
        """The QEMU of this sandbox, if one runs: the one remembered, or one that was started and not yet written down."""
        if self.state.process is not None and self.state.process.is_alive():
            return self.state.process
        pidfile = self.context.run_path(launch.PIDFILE)
        found = identify(lock_owner(pidfile)) if os.path.exists(pidfile) else None
        if found is None and self.state.launching:
            # Between its start and its pid file only the command line tells it.
            for pid, words in command_lines():
                if pidfile in words and self.state.uuid in words:
                    found = identify(pid)
        if found is not None:
            self.state.process = found
        return found

    def _why_off(self) -> str:
        if self.state.process is None:
            return ""
        words = tail(self.vmm_log(), 3).strip()
        return f"QEMU (pid {self.state.process.pid}) is gone" + (f"; its last words: {words}" if words else "")

    def _leftovers(self) -> list[str]:
        try:
            names = sorted(os.listdir(self.context.run_dir))
        except OSError:
            return []
        return [self.context.run_path(name) for name in names if name.endswith((".sock", ".sock.pid")) or name == launch.PIDFILE]

    def _remove_leftovers(self) -> None:
        for path in self._leftovers():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _end_daemons(self) -> None:
        """End the processes that serve devices; those that were started and not written down are known by their socket."""
        prefix = os.path.join(self.context.run_dir, "fs-")
        for pid, words in command_lines() if self.state.launching else ():
            found = identify(pid)
            if found is not None and any(word.startswith((prefix, f"--socket-path={prefix}")) for word in words):
                self.state.daemons[f"pid-{pid}"] = found
        for daemon in self.state.daemons.values():
            terminate(daemon, STEP_SECONDS)
        self.state.daemons = {}

    def _kill(self) -> None:
        self.disconnect()
        process = self._process()
        if process is not None and terminate(process, STEP_SECONDS) == "stuck":
            raise VmmError(f"QEMU (pid {process.pid}) does not end, not even by SIGKILL", log=self.vmm_log())
        self._end_daemons()
        self.state.process = None
        self.state.launching = False
        self._remove_leftovers()

    def _powerdown(self, process: ProcessIdentity, timeout: float) -> bool:
        """Ask the guest to power off; True when the process has ended in time. A paused guest is resumed, or it could not obey."""
        deadline = time.monotonic() + timeout
        with contextlib.suppress(VmmError):
            qmp = self._qmp()
            status = qmp.execute("query-status").get("status")
            if POWER.get(str(status)) == "paused" and status != "prelaunch":
                qmp.execute("cont")
            elif status != "running":
                return False
            qmp.execute("system_powerdown")
            return wait_gone(process, max(0.0, deadline - time.monotonic()))
        return not process.is_alive()

    def _quit(self, process: ProcessIdentity) -> None:
        with contextlib.suppress(VmmError):
            self._qmp().execute("quit")
            if wait_gone(process, STEP_SECONDS):
                return
        self._kill()

    # --- QMP -------------------------------------------------------------------------------------------------------

    def _qmp(self) -> QmpClient:
        """The control connection, opened when first used and kept until L(disconnect)."""
        if self._control is None:
            if self._process() is None:
                raise StateError("the VM does not run", answer=self._why_off(), log=self.vmm_log())
            self._control = QmpClient(self.context.run_path("qmp.sock"), QMP_SECONDS)
        return self._control

    @contextlib.contextmanager
    def _observer(self) -> Iterator[QmpClient]:
        """A connection to look: the open one, else one of the observers' monitor, which a busy controller leaves free."""
        if self._control is not None:
            yield self._control
            return
        with QmpClient(self.context.run_path("monitor.sock"), QMP_SECONDS) as qmp:
            yield qmp

    def _set_running(self, running: bool) -> None:
        """cont or stop, and read back."""
        qmp = self._qmp()
        command, wanted = ("cont", "running") if running else ("stop", "paused")
        qmp.execute(command)
        status = ""
        deadline = time.monotonic() + QMP_SECONDS
        while time.monotonic() < deadline:
            status = str(qmp.execute("query-status").get("status"))
            if POWER.get(status) == wanted:
                return
            time.sleep(0.01)
        raise StateError(f"the VM is {status} after {command}, not {wanted}", answer=status, log=self.vmm_log())

    def _machine(self) -> Machine:
        return machine_named(host_architecture(), self.config.hypervisor_machine_type)

    def _require_hotplug(self, option: str, wanted: Any) -> None:
        machine = self._machine()
        if not machine.hotplug or (option == "memory_mb" and self.state.memory_hotplug == "none"):
            what = f"on machine type {machine.name}" if not machine.hotplug else "with memory_hotplug none"
            self.unsupported(f"a change of {option} {what} while the VM runs", f"{wanted} is wanted", "Restart it (disruption: restart).")

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Every error that leaves the driver names the sandbox and, where the VMM spoke, its log."""
        try:
            yield
        except HypervisorError as error:
            error.sandbox = error.sandbox or self.context.sandbox_id
            if isinstance(error, (QmpError, QmpConnectionError, DeadlineExceeded)) and not error.log:
                error.log = self.vmm_log()
            raise


def is_partitioned(image: str) -> bool:
    """Does an image start with a partition table (a boot sector's signature and a first partition)?"""
    try:
        with open(image, "rb") as stream:
            sector = stream.read(512)
    except OSError:
        return False
    return len(sector) == 512 and sector[510:] == b"\x55\xaa" and sector[450] != 0
