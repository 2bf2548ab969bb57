# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's side of a device: what is checked, opened and started before QEMU can have it, and given back after."""

from __future__ import annotations

import dataclasses
import os
from typing import Callable, Collection

from ....errors import AssetError, ConfigError, HostError, NeedsRestart, StateError
from ....guest.disks import size_of
from ....host import block_devices, network, qcow2
from ....host.processes import ProcessIdentity
from ....host.programs import version_text
from ....host.sockets import check_served, check_socket_place, connected_socket, listening_socket, remove_socket
from ....host.users import FIRST_UID, Wanted, check_access, denied, is_own_uid, may_use, own_user, user_named
from ....options.config import HypervisorConfig
from ....options.device_kinds.base import Device
from ....options.device_kinds.block import BlockDrive
from ....options.device_kinds.fs import Volume
from ....options.device_kinds.net import NetworkDevice
from ....options.device_kinds.pmem import PmemDrive
from ....options.device_kinds.serial import SerialPort
from ....options.device_kinds.vfio import VfioDevice
from ....options.device_kinds.vhost_user import VhostUserDevice
from ....options.device_kinds.vsock import Vsock
from ....records.layout import socket_path
from ...base import Context
from ...common.scope import scope_command
from ..machines import Machine
from . import vfio, virtiofsd
from .objects import MEMORY_BLOCK, Descriptors, QemuObject, Slot, is_memory, objects_for

#: The caches of disks by block_device_cache_direct and block_device_cache_noflush.
CACHES = {(False, False): "writeback", (True, False): "none", (False, True): "unsafe", (True, True): "none-unsafe"}
VHOST_VSOCK_DEVICE = "/dev/vhost-vsock"
VHOST_VSOCK_SET_GUEST_CID = 0x4008AF60


@dataclasses.dataclass
class HostResources:
    """What was opened for a device: descriptors by the name QEMU shall know each by."""

    tap: list[int] = dataclasses.field(default_factory=list)
    vhost: list[int] = dataclasses.field(default_factory=list)
    listener: list[int] = dataclasses.field(default_factory=list)
    socket: list[int] = dataclasses.field(default_factory=list)
    disk: list[int] = dataclasses.field(default_factory=list)
    disk_is_block: bool = False
    size: int = 0

    def descriptors(self) -> list[int]:
        """All of them."""
        return [*self.tap, *self.vhost, *self.listener, *self.socket, *self.disk]

    def by_number(self) -> Descriptors:
        """Their names on a command line: QEMU inherits the numbers."""
        return Descriptors(
            [str(fd) for fd in self.tap],
            [str(fd) for fd in self.vhost],
            "".join(map(str, self.listener)),
            "".join(map(str, self.socket)),
            "".join(f"/dev/fdset/{fd}" for fd in self.disk),
            self.disk_is_block,
            self.size,
        )

    def inherited_files(self, name: str) -> list[QemuObject]:
        """The open files that QEMU shall know by a path, as options of a command line.

        :param name: what QEMU tells of each
        """
        return [QemuObject("fdset", name, "", {"fd": fd, "set": fd, "opaque": name}) for fd in self.disk]

    def by_name(self, device: str) -> tuple[Descriptors, dict[str, int]]:
        """Their names over QMP, and which descriptor each name stands for."""
        taps = {f"{device}-tap{number}": fd for number, fd in enumerate(self.tap)}
        vhosts = {f"{device}-vhost{number}": fd for number, fd in enumerate(self.vhost)}
        listeners = {f"{device}-port": fd for fd in self.listener}
        sockets = {f"{device}-socket": fd for fd in self.socket}
        names = Descriptors(
            list(taps), list(vhosts), "".join(listeners), "".join(sockets), "", self.disk_is_block, self.size
        )
        return names, {**taps, **vhosts, **listeners, **sockets}

    def close(self) -> None:
        """Close our copies; QEMU has its own."""
        network.close_all(self.descriptors())


def complete(device: Device, config: HypervisorConfig, context: Context, seed: str) -> Device:
    """The device with what nobody said filled in, always the same for the same sandbox and device.

    :param seed: what makes addresses unique (the VM's UUID)
    """
    if isinstance(device, BlockDrive) and not device.cache and config.block_device_cache_set:
        device = dataclasses.replace(
            device, cache=CACHES[config.block_device_cache_direct, config.block_device_cache_noflush]
        )
    if isinstance(device, NetworkDevice):
        if not device.mac and device.kind != "macvtap":
            device = dataclasses.replace(device, mac=network.generated_mac(f"{seed}/{device.id}"))
        if device.kind == "tap" and not device.tap_name:
            device = dataclasses.replace(device, tap_name=network.tap_name(context.host_name, device.id))
        if device.kind == "macvtap" and not device.mac:
            device = dataclasses.replace(device, mac=_address_of(device.tap_name))
    if isinstance(device, Volume) and os.path.isdir(device.host_path):
        # A virtiofsd in C takes no link for a directory.
        device = dataclasses.replace(device, host_path=os.path.realpath(device.host_path))
    if isinstance(device, SerialPort) and not device.host_path:
        device = dataclasses.replace(device, host_path=os.path.join(context.run_dir, f"port-{device.device_id}.sock"))
    return device


def _address_of(interface: str) -> str:
    try:
        with open(f"/sys/class/net/{interface}/address", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def check(device: Device, config: HypervisorConfig, own_socket: str = "", own: Collection[int] = ()) -> None:
    """Refuse what the host does not have or must not give away. Changes nothing.

    :param own_socket: path of the socket that this sandbox has made for the device before
    :param own: pids of this sandbox's VM, if it runs
    :raises AssetError: a file, directory or daemon is missing
    :raises HostError: a kernel feature or device is missing
    :raises StateError: the host itself uses it
    """
    _check_kind(device, config, own_socket, own)
    if config.vmm_user:
        _check_user(device, config)
    elif isinstance(device, Volume) and config.shared_fs == "virtio-9p" and os.geteuid() == 0:
        _check_shared(device)


def _check_kind(device: Device, config: HypervisorConfig, own_socket: str, own: Collection[int]) -> None:
    if isinstance(device, (BlockDrive, PmemDrive)):
        in_memory = is_memory(device, config.block_device_driver)
        _check_disk(device, own, "raw" if in_memory or isinstance(device, PmemDrive) else device.format)
        if in_memory:
            _check_length(device.file)
    elif isinstance(device, NetworkDevice):
        if device.vhost and config.disable_vhost_net:
            raise ConfigError(
                "disable_vhost_net is set, and this interface has vhost", option="devices", wanted=device.id
            )
        _check_interface(device, own)
    elif isinstance(device, SerialPort):
        socket_path(device.host_path)
        check_socket_place(device.host_path, device.host_path == own_socket)
    elif isinstance(device, Volume):
        if not os.path.isdir(device.host_path):
            raise AssetError("the directory does not exist to share", option="devices", wanted=device.host_path)
        if config.shared_fs != "virtio-9p":
            # The daemon of QEMU's own cannot do everything; which one it is, it says itself.
            _daemon_arguments(device, config, device.id)
    elif isinstance(device, Vsock):
        if not os.path.exists(VHOST_VSOCK_DEVICE):
            raise HostError(
                f"the host has no {VHOST_VSOCK_DEVICE}",
                option="devices",
                wanted=device.id,
                fix="Load the module vhost_vsock.",
            )
    elif isinstance(device, VfioDevice):
        vfio.check(device)
    elif isinstance(device, VhostUserDevice):
        check_served(device.socket_path)


def _check_user(device: Device, config: HypervisorConfig) -> None:
    """Refuse what the user that QEMU runs as may not open; everything else is opened by us and handed over."""
    wanted = []
    if isinstance(device, (BlockDrive, PmemDrive)):
        wanted.append(Wanted("devices", device.file, "r" if device.read_only else "rw"))
    elif isinstance(device, Volume) and config.shared_fs == "virtio-9p":
        wanted.append(Wanted("devices", device.host_path, "rx" if device.read_only else "rwx"))
    elif isinstance(device, VhostUserDevice):
        wanted.append(Wanted("devices", device.socket_path, "rw"))
    elif isinstance(device, VfioDevice):
        wanted.append(Wanted("devices", vfio.node_of(device), "rw"))
    if wanted:
        check_access(user_named(config.vmm_user), wanted)


def _check_shared(volume: Volume) -> None:
    """Refuse a 9p share of which a sandbox's own user could use nothing: QEMU opens its files by name, all the time."""
    modes = "rx" if volume.read_only else "rwx"
    if not may_use(own_user("", FIRST_UID), volume.host_path, modes):
        raise AssetError(
            f"QEMU serves a 9p share as the sandbox's own user, who may not {denied(modes)} this",
            option="devices",
            wanted=volume.host_path,
            fix="Share it with shared_fs virtio-fs, let others use it (chmod), or run QEMU as root (vmm_user: root).",
        )


def use_of(drive: BlockDrive | PmemDrive) -> block_devices.Use:
    """What the VM does with a disk's file."""
    return block_devices.Use(drive.file, not drive.read_only, f"device {drive.id}")


def _check_length(path: str) -> None:
    size = size_of(path)
    if not size or size % MEMORY_BLOCK:
        raise ConfigError(
            f"a file in the guest's memory must be a multiple of 2 MiB long, and this has {size} bytes",
            option="devices",
            wanted=path,
            fix="Lengthen it with truncate.",
        )


def _check_disk(drive: BlockDrive | PmemDrive, own: Collection[int], image_format: str) -> None:
    """Refuse a disk that cannot be opened, that names other files, or that the host itself uses."""
    user = block_devices.in_use_by(drive.file)
    if user:
        raise StateError(
            "the host itself uses this disk",
            option="devices",
            wanted=drive.file,
            answer=user,
            fix="Release it on the host first.",
        )
    # A block device that was open for writing is looked at anew by udev, so whether it can be written to is only asked.
    block = qcow2.is_block_device(drive.file)
    if block and not drive.read_only and not os.access(drive.file, os.W_OK):
        raise AssetError(
            "this disk cannot be opened",
            option="devices",
            wanted=drive.file,
            answer="it cannot be written to",
            fix="Set read_only.",
        )
    descriptor = qcow2.open_disk(drive.file, drive.read_only or block, "devices")
    try:
        qcow2.check_open_image(descriptor, drive.file, image_format, "devices")
        block_devices.check_free(use_of(drive), own)
    finally:
        os.close(descriptor)


def _check_interface(interface: NetworkDevice, own: Collection[int]) -> None:
    if interface.kind in ("tap", "macvtap"):
        network.check_name(interface.tap_name)
    if interface.kind == "tap" and not os.path.exists(network.TUN_DEVICE):
        raise HostError(f"the host has no {network.TUN_DEVICE}", option="devices", fix="Load the module tun.")
    if interface.kind == "tap":
        network.check_tap(interface.tap_name, own)
    if interface.kind == "macvtap" and not network.exists(interface.tap_name):
        raise HostError(
            "there is no such macvtap interface", option="devices", wanted=interface.tap_name, fix=network.MAKE_MACVTAP
        )
    if interface.bridge:
        network.check_bridge(interface.bridge)
    if interface.vhost and not os.path.exists(network.VHOST_NET_DEVICE):
        raise HostError(
            f"the host has no {network.VHOST_NET_DEVICE}",
            option="devices",
            fix="Load the module vhost_net, or say vhost: false.",
        )


def open_host_side(
    device: Device,
    config: HypervisorConfig,
    context: Context,
    started: Callable[[ProcessIdentity | None], None],
    ours: bool = True,
) -> HostResources:
    """Open or start what the device needs on the host. On failure nothing stays open.

    :param started: told of the daemon that serves the device, if one is started
    :param ours: a socket that is where the device's will be is an earlier one of this sandbox
    """
    side = HostResources()
    try:
        if isinstance(device, NetworkDevice) and device.kind in ("tap", "macvtap"):
            opener = network.open_tap if device.kind == "tap" else network.open_macvtap
            side.tap = opener(device.tap_name, device.queues)
            network.bring_up(device.tap_name, device.mtu, device.bridge)
            if device.vhost:
                side.vhost = network.open_vhost_net(device.queues)
        elif isinstance(device, BlockDrive) and not is_memory(device, config.block_device_driver):
            side.disk = [qcow2.open_disk(device.file, device.read_only, "devices")]
            qcow2.check_open_image(side.disk[0], device.file, device.format, "devices")
            side.disk_is_block = qcow2.is_block(side.disk[0])
        elif isinstance(device, (BlockDrive, PmemDrive)):
            side.size = size_of(device.file)
        elif isinstance(device, SerialPort):
            side.listener = [listening_socket(device.host_path, ours, "devices").detach()]
        elif isinstance(device, Vsock):
            side.vhost = [_reserve_cid(device.context_id)]
        elif isinstance(device, Volume) and config.shared_fs != "virtio-9p":
            path = socket_path(context.run_dir, f"fs-{device.id}.sock")
            wrapper = scope_command(context, config, f"fs-{device.id}")
            _start_virtiofsd(device, config, path, started, wrapper)
            side.socket = [connected_socket(path)]
        elif isinstance(device, VhostUserDevice):
            side.socket = [connected_socket(device.socket_path)]
    except BaseException:
        side.close()
        raise
    return side


def _start_virtiofsd(
    volume: Volume,
    config: HypervisorConfig,
    path: str,
    started: Callable[[ProcessIdentity | None], None],
    wrapper: list[str],
) -> None:
    argv = _daemon_arguments(volume, config, path)
    remove_socket(path)
    log = os.path.join(os.path.dirname(path), f"virtiofsd-{volume.id}.log")
    virtiofsd.start(argv, path, log, started, wrapper=wrapper)


def _daemon_arguments(volume: Volume, config: HypervisorConfig, path: str) -> list[str]:
    """The command line of the daemon that serves a share at a socket.

    :raises AssetError: there is no daemon
    :raises Unsupported: it cannot share like that
    """
    daemon = virtiofsd.find_daemon(config.virtio_fs_daemon)
    return virtiofsd.arguments(
        daemon, version_text(daemon), path, volume.host_path, config.virtio_fs_cache, volume.read_only
    )


def _reserve_cid(cid: int) -> int:
    """An open vhost-vsock that holds a guest CID.

    :raises HostError: the device is missing, or another guest has the CID
    """
    import fcntl
    import struct

    try:
        descriptor = os.open(VHOST_VSOCK_DEVICE, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(descriptor, VHOST_VSOCK_SET_GUEST_CID, struct.pack("Q", cid))
        except OSError:
            os.close(descriptor)
            raise
        return descriptor
    except OSError as error:
        raise HostError(
            "the vsock CID cannot be had", option="devices", wanted=cid, answer=str(error), fix="Choose another cid."
        ) from error


def check_parts(device: Device, machine: Machine, config: HypervisorConfig) -> None:
    """Make a device once without the host's side, so that what QEMU lacks is refused before anything is touched.

    :raises Unsupported: QEMU, or the machine type, has no such device
    """
    descriptors = Descriptors(socket="0") if needs_shared_memory(device, config) else Descriptors()
    objects_for(device, Slot.for_machine(machine), config.block_device_driver, descriptors)


def needs_shared_memory(device: Device, config: HypervisorConfig) -> bool:
    """Does another process on the host have to see the guest's memory for it?"""
    return isinstance(device, VhostUserDevice) or (isinstance(device, Volume) and config.shared_fs != "virtio-9p")


def open_named(drive: Device, config: HypervisorConfig, uid: int) -> int:
    """A file for the guest's memory, opened for a QEMU that runs and may not open it by its name; -1 where it may, and for all other devices.

    :param uid: that QEMU runs as
    :raises AssetError: it cannot be opened for that user
    """
    if (
        not isinstance(drive, (BlockDrive, PmemDrive))
        or not is_memory(drive, config.block_device_driver)
        or not is_own_uid(uid)
    ):
        return -1
    modes = "r" if drive.read_only else "rw"
    if may_use(own_user("", uid), drive.file, modes):
        return -1
    from ....host import id_mapped_mounts

    try:
        return id_mapped_mounts.open_for(drive.file, uid, drive.read_only)
    except OSError as error:
        raise AssetError(
            f"QEMU opens a file for the guest's memory by itself, and the sandbox's own user ({uid}) may not {denied(modes)} this",
            option="devices",
            wanted=drive.file,
            answer=f"no ID-mapped mount of it: {error}",
            fix="Restart it with the device in its list (disruption: restart), let that user use the file and the directories above it,"
            " or run QEMU as root (vmm_user: root).",
        ) from error


def check_named(drive: Device, config: HypervisorConfig, uid: int) -> None:
    """Refuse what `open_named` would refuse. Changes nothing."""
    descriptor = open_named(drive, config, uid)
    if descriptor >= 0:
        os.close(descriptor)


def check_hot(device: Device, config: HypervisorConfig, memory_is_shared: bool) -> None:
    """Refuse what QEMU cannot add to this VM while it runs.

    :raises NeedsRestart: it would have had to be there, or prepared for, from the start
    """
    restart = "Restart it with the device in its list (disruption: restart)."
    if (
        isinstance(device, (BlockDrive, PmemDrive))
        and is_memory(device, config.block_device_driver)
        and not config.mem_offset
    ):
        fix = "Give memory_offset_mb, as much as such files will need and 1024 for each, and restart it (disruption: restart)."
        raise NeedsRestart(
            "this VM has no room for files in its memory", option="memory_offset_mb", wanted=device.file, fix=fix
        )
    if isinstance(device, Volume) and config.shared_fs == "virtio-9p":
        raise NeedsRestart(
            "a 9p share can only be added while the VM is off", option="devices", wanted=device.id, fix=restart
        )
    if needs_shared_memory(device, config) and not memory_is_shared:
        raise NeedsRestart(
            "this VM's memory is not shared, so no other process can serve a device of it",
            option="devices",
            fix=restart,
        )
