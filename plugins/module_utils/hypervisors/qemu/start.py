# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start: a complete configuration, its devices and, for a restore, a saved VM's description become a running QEMU."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import socket
from typing import TYPE_CHECKING, Any

from ...errors import StateError
from ...guest.disks import dax_offset, is_partitioned, size_of
from ...host import block_devices
from ...host.proc import read_cpu_khz
from ...host.processes import ProcessIdentity
from ...host.run_directory import allow_traversal, create_owned_file, make_run_dir, rotate_log
from ...host.sockets import listening_socket
from ...host.units import MIB
from ...host.users import User, Wanted, check_access, may_use, own_uid, own_user, user_named
from ...options.config import HypervisorConfig
from ..common.scope import scope_command
from ..common.vmm_process import file_uses
from . import bridges, channels, endings, names, preparation, spawn
from . import command_line as cmdline
from .arguments import dialect_for
from .machines import Machine, machine_named
from .vmm import EVENTS, Vmm

KVM = "/dev/kvm"
#: From this QEMU on -runas is deprecated.
RUN_WITH = (9, 1)
#: From here on QEMU takes readonly=on,rom=off for memory of a file: reading only, and copies for the guest.
READS_PRIVATELY = (8, 2)

if TYPE_CHECKING:
    from ...options.device_kinds.base import Device
    from .devices.host_resources import HostResources
    from .devices.objects import QemuObject


def start(
    vmm: Vmm,
    config: HypervisorConfig,
    devices: list[Device],
    timeout: float,
    description: dict[str, Any] | None = None,
) -> None:
    """Start QEMU, paused; on failure nothing of the attempt is left.

    :param devices: those that are there from the start
    :param timeout: seconds for QEMU to answer
    :param description: of a saved VM, whose state is then awaited
    :raises StateError: one runs already
    """
    if vmm.process() is not None:
        raise StateError("its QEMU runs already")
    state, run_path = vmm.state, vmm.context.run_path
    _choose_accelerator(vmm, config)
    user = user_of(vmm, config)
    if user is not None and not user.is_own and state.accelerator == "kvm":
        check_access(user, [Wanted("vmm_user", KVM, "rw")])
    preparation.keep_version(config.hypervisor_path, state.qemu_version, vmm.context)
    state.new_identity()
    if description is None:
        machine = machine_named(config.hypervisor_machine_type)
        state.bridges = planned_bridges(config, machine, state.bridges)
        state.keeps_vcpus = not machine.vcpu_unplug
        state.boot_vcpus = config.num_vcpus
        state.boot_memory_mb = cmdline.boot_memory_mb(config)
        state.max_memory_mb = config.max_memory_mb
        state.memory_hotplug = config.memory_hotplug
        state.offline_vcpus = 0
        state.shared_memory = config.shared_fs == "virtio-fs" or _served_by_others(config, devices)
        state.generation_id = config.boot_to_be_template
        state.channels = names.CHANNELS
    state.launching = True
    state.uid = user.uid if user else os.geteuid()
    state.program = os.path.realpath(config.hypervisor_path)
    vmm.context.checkpoint()
    make_run_dir(vmm.context.run_dir, group=user.gid if user else None)
    for log in (names.CONSOLE_LOG, names.VMM_LOG):
        rotate_log(run_path(log))
    owner = (user.uid, user.gid) if user is not None else (-1, -1)
    endings.prepare(vmm.context.run_dir, *owner)
    channels.prepare(vmm.context.run_dir, state.channels, *owner)
    if user is not None:
        allow_traversal(os.path.dirname(vmm.context.run_dir))
        for name in (names.CONSOLE_LOG, names.PIDFILE):
            create_owned_file(run_path(name), *owner)

    def started(process: ProcessIdentity | None) -> None:
        state.process = process
        vmm.context.checkpoint()

    listeners: list[socket.socket] = []
    resources: list[HostResources] = []
    images, flash = Images(), (-1, -1)
    claims = contextlib.ExitStack()
    try:
        # No other VM gets the files until QEMU has them open and locked, or has ended.
        claims.enter_context(block_devices.claimed(file_uses(config, devices), vmm.context.ending))
        for name in names.SOCKETS:
            listeners.append(listening_socket(run_path(name)))
        objects = _objects(vmm, config, devices, resources)
        for one in objects:
            one.properties.update((description or {}).get("files", {}).get(one.id, {}))
        fds = tuple(listener.fileno() for listener in listeners)
        images = open_images(config)
        drops = late_user(vmm, config, user, objects)
        if config.firmware_vars_path:
            from .firmware import open_firmware

            flash = open_firmware(config, vmm.context)
        argv = command_line(vmm, config, fds, objects, description, images, drops, flash)
        inherited = (
            *(descriptor for opened in resources for descriptor in opened.descriptors()),
            *images.descriptors(),
            *(descriptor for descriptor in flash if descriptor >= 0),
        )
        first = None if drops else user
        if config.realtime and config.mlock and user is not None and user.is_own:
            from .devices import vfio

            vfio.let_lock(0, -1)
        vmm.control = spawn.launch(
            argv,
            run_path(names.VMM_LOG),
            run_path(names.CONTROL_SOCKET),
            listeners,
            inherited,
            started,
            timeout,
            scope_command(vmm.context, config, user=first),
            first,
        )
        if description is None and config.memory_hotplug == "balloon":
            # Its guest takes no more than this as soon as it has the driver.
            vmm.control.execute("balloon", {"value": config.memory_size * MIB})
    except BaseException:
        for listener in listeners:
            listener.close()
        vmm.kill()
        vmm.context.checkpoint()
        raise
    finally:
        for opened in resources:
            opened.close()
        images.close()
        for descriptor in flash:
            if descriptor >= 0:
                os.close(descriptor)
        claims.close()


def user_of(vmm: Vmm, config: HypervisorConfig) -> User | None:
    """Whom QEMU runs as: the one whom the task names, else a user of this sandbox alone. None for the task's own.

    :raises ConfigError: there is no such user
    :raises HostError: only root can become somebody else
    """
    state = vmm.state
    if config.vmm_user or os.geteuid() != 0:
        return user_named(config.vmm_user)
    context = vmm.context
    jails = os.path.join(os.path.dirname(os.path.dirname(context.state_dir)), "jails")
    state.own_uid = own_uid(context.run_dir, jails, state.own_uid)
    return own_user(context.sandbox_id, state.own_uid, (KVM,) if state.accelerator == "kvm" else ())


def late_user(vmm: Vmm, config: HypervisorConfig, user: User | None, objects: list[QemuObject]) -> User | None:
    """The user that QEMU becomes by itself, after it has opened what it takes by name only; None where it starts as that user.

    Only a sandbox's own user needs that, and only where it may not open by itself what the task's user may: a kernel, memory in a file, a device
    node. Nothing of the guest has run by then.
    """
    if user is None or not user.is_own:
        return None
    copied = "r" if tuple(vmm.state.qemu_version) >= READS_PRIVATELY else "rw"
    files = [
        (config.hypervisor_path, "x"),
        (config.kernel_path, "r"),
        (config.initrd_path or config.initramfs_path, "r"),
        ("" if config.firmware_vars_path else config.firmware_path, "r"),
        (config.entropy_source, "r"),
        (KVM if vmm.state.accelerator == "kvm" else "", "rw"),
        (config.file_backed_mem_root_dir, "rwx"),
        ("/dev/hugepages" if config.huge_pages else "", "rwx"),
        (config.memory_path if config.boot_to_be_template else "", "rw"),
        (config.memory_path if config.boot_from_template else "", copied),
        (
            config.image_path if cmdline.image_driver(config) in cmdline.IMAGE_AS_MEMORY else "",
            "r" if cmdline.image_driver(config) == "nvdimm" else copied,
        ),
        (vmm.context.run_dir, "x"),
        *(
            (one.properties["mem-path"], "r" if one.properties.get("readonly") else "rw")
            for one in objects
            if one.type == "memory-backend-file"
        ),
        *(("/dev/vfio", "none") for one in objects if one.type == "vfio-pci"),
    ]
    return user if any(path and (modes == "none" or not may_use(user, path, modes)) for path, modes in files) else None


@dataclasses.dataclass
class Images:
    """The image and the root disk, opened for QEMU; -1 for what it does not have, or opens by its path."""

    image: int = -1
    root_disk: int = -1

    def descriptors(self) -> list[int]:
        """Those that are open."""
        return [descriptor for descriptor in (self.image, self.root_disk) if descriptor >= 0]

    def close(self) -> None:
        """Close our copies."""
        for descriptor in self.descriptors():
            os.close(descriptor)
        self.image = self.root_disk = -1


def open_images(config: HypervisorConfig) -> Images:
    """The image and the root disk, opened where QEMU takes a descriptor of them.

    :raises AssetError: one cannot be opened, or names other files
    """
    opened = Images()
    if not config.image_path or config.initrd_path or cmdline.image_driver(config) in cmdline.IMAGE_AS_MEMORY:
        return opened
    try:
        if config.root_disk_path:
            opened.root_disk = _open_image(config.root_disk_path, config.root_disk_format, False, "root_disk_mb")
        if config.root_disk_format != "raw":
            opened.image = _open_image(config.image_path, config.image_format, True, "image_path")
    except BaseException:
        opened.close()
        raise
    return opened


def _open_image(path: str, image_format: str, read_only: bool, option: str) -> int:
    from ...host import qcow2

    descriptor = qcow2.open_disk(path, read_only, option, "image" if read_only else "disk")
    try:
        qcow2.check_open_image(descriptor, path, image_format, option)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def command_line(
    vmm: Vmm,
    config: HypervisorConfig,
    fds: tuple[int, ...] = (-1, -1, -1, -1),
    objects: list[QemuObject] | None = None,
    description: dict[str, Any] | None = None,
    images: Images | None = None,
    drops: User | None = None,
    flash: tuple[int, int] = (-1, -1),
) -> list[str]:
    """The whole command line, program first; with a saved VM's description, one that waits for its state.

    :param images: the image and the root disk, opened
    :param drops: whom QEMU becomes after it has opened its files
    :param flash: descriptors of the firmware's code and variables
    :raises ConfigError: it cannot be built
    """
    images = images or Images()
    plan = dataclasses.replace(
        _vm_plan(vmm, config, fds, objects, description),
        image_fd=images.image,
        root_disk_fd=images.root_disk,
        firmware_fds=flash,
        becomes=f"{drops.uid}:{drops.gid}" if drops else "",
    )
    plan.run_with = tuple(vmm.state.qemu_version) >= RUN_WITH
    return [config.hypervisor_path, *cmdline.command_line(plan, dialect_for(tuple(vmm.state.qemu_version)))]


def machine_digest(vmm: Vmm, config: HypervisorConfig, description: dict[str, Any] | None = None) -> str:
    """A digest of the command line without what tells one VM from another: a template's and its clones' are the same."""
    files = {
        name: f"/{name}" for name in ("kernel_path", "initrd_path", "image_path", "initramfs_path", "firmware_path")
    }
    given = {name: path for name, path in files.items() if getattr(config, name)}
    alike = dataclasses.replace(config, **given, boot_to_be_template=False, boot_from_template=False, memory_path="")  # type: ignore[arg-type]
    plan = _vm_plan(vmm, alike, (-1, -1, -1, -1), None, description)
    plan = dataclasses.replace(
        plan,
        sandbox_id="",
        uuid="",
        pidfile="",
        console_log="",
        events="",
        channels=tuple(os.path.basename(path) for path in plan.channels),
        host_khz=0,
        incoming=False,
    )
    words = cmdline.command_line(plan, dialect_for(tuple(vmm.state.qemu_version)))
    return hashlib.sha256("\0".join(words).encode()).hexdigest()


def _vm_plan(
    vmm: Vmm,
    config: HypervisorConfig,
    fds: tuple[int, ...],
    objects: list[QemuObject] | None,
    description: dict[str, Any] | None,
) -> cmdline.VmPlan:
    state = vmm.state
    machine = machine_named(config.hypervisor_machine_type)
    if description is None:
        state.bridges = planned_bridges(config, machine, state.bridges)
    else:
        config = dataclasses.replace(
            config, num_vcpus=state.boot_vcpus, memory_size=state.boot_memory_mb, max_memory_mb=state.max_memory_mb
        )
    return cmdline.VmPlan(
        sandbox_id=vmm.context.sandbox_id,
        uuid=state.uuid,
        config=config,
        machine=machine,
        accelerator=state.accelerator or "tcg",
        pidfile=vmm.context.run_path(names.PIDFILE),
        console_log=vmm.context.run_path(names.CONSOLE_LOG),
        bridges=state.bridges,
        monitor_fds=(fds[0], fds[1]),
        console_fd=fds[2],
        agent_fd=fds[3],
        events=vmm.context.run_path(EVENTS),
        channels=tuple(vmm.context.run_path(names.channel_pipes(number)) for number in range(state.channels)),
        host_khz=read_cpu_khz(vmm.context.cpuinfo),
        image_partitioned=is_partitioned(
            config.root_disk_path if config.root_disk_format == "raw" else config.image_path
        ),
        image_size=size_of(config.image_path),
        firmware_vars=os.path.join(vmm.context.state_dir, names.FIRMWARE_VARS),
        image_mapped=bool(dax_offset(config.image_path)) and not config.root_disk_path,
        incoming=description is not None,
        hotplugged_vcpus=(description or {}).get("hotplugged_vcpus") or [],
        dimms=(description or {}).get("dimms") or [],
        objects=objects or [],
        shared_memory=state.shared_memory,
        generation_id=state.generation_id,
        reads_privately=tuple(state.qemu_version) >= READS_PRIVATELY,
    )


def _served_by_others(config: HypervisorConfig, devices: list[Device]) -> bool:
    """Does another process on the host have to see the guest's memory?"""
    if not devices:
        return False
    from .devices.kinds import device_for

    return any(device_for(device, config).shares_memory for device in devices)


def _choose_accelerator(vmm: Vmm, config: HypervisorConfig) -> None:
    state = vmm.state
    if config.accelerator in ("kvm", "tcg"):
        state.accelerator, state.accelerator_reason = config.accelerator, "the task says so"
        return
    architecture = machine_named(config.hypervisor_machine_type).architecture
    if not architecture.is_native:
        state.accelerator, state.accelerator_reason = "tcg", f"the guest is {architecture.name}, which this host is not"
        return
    from .accelerator import choose

    verdict = choose(config.hypervisor_path, os.path.dirname(vmm.context.run_dir), config.kernel_path)
    state.accelerator, state.accelerator_reason = verdict.accelerator, verdict.reason


def planned_bridges(config: HypervisorConfig, machine: Machine, recorded: list[bridges.Bridge]) -> list[bridges.Bridge]:
    """The bridges and root ports that the configuration asks for, with what the recorded ones hold."""
    if not machine.has_bridges:
        return []
    wanted = bridges.make_bridges(config.default_bridges, machine.bridge_type)
    return bridges.rearranged(bridges.with_root_ports(wanted, config.root_ports), recorded)


def _objects(
    vmm: Vmm, config: HypervisorConfig, devices: list[Device], resources: list[HostResources]
) -> list[QemuObject]:
    """The objects of the devices that are there from the start; what is opened for them is added to `resources`."""
    wanted = {device.identity for device in devices}
    for bridge in vmm.state.bridges:
        bridge.slots = {slot: name for slot, name in bridge.slots.items() if name in wanted}
    if not devices:  # A VM without any is spared the import of all their kinds.
        return []
    from .devices import hotplug
    from .devices.kinds import device_for

    objects: list[QemuObject] = []
    for record in devices:
        device = device_for(record, config)
        slot = hotplug.slot_of(vmm, device, hot=False)
        opened = hotplug.open_resources(vmm, device)
        resources.append(opened)
        objects += opened.inherited_files(device.file_name)
        objects += device.objects(slot, opened.by_number())
    return objects
