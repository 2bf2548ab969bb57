# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a VM's devices take on the host (files in a jail, taps, sockets), and devices of a VM that runs."""

from __future__ import annotations

import contextlib
import dataclasses
import os

from ...errors import HypervisorError, StateError, Unsupported, VmmError
from ...host import block_devices, network
from ...options.config import HypervisorConfig
from ...options.device_kinds.balloon import Balloon
from ...options.device_kinds.base import Device, RateLimit, device_id
from ...options.device_kinds.block import BlockDrive
from ...options.device_kinds.mmds import MetadataService
from ...options.device_kinds.net import NetworkDevice
from ...options.device_kinds.pmem import PmemDrive
from ...options.device_kinds.vhost_user import VhostUserDevice
from ...options.device_kinds.vsock import Vsock
from . import jail_files, requests
from .api import dialect
from .api.client import ApiClient
from .api.endpoints import RUNNING, has
from .device_ids import PLACEHOLDER, api_id, single_kind
from .state import FirecrackerState, as_record
from .vmm import POWER, Vmm

#: What is plugged and unplugged by PCI.
HOTPLUGGABLE = (BlockDrive, NetworkDevice, PmemDrive)


class HostResources:
    """Lets a VM have what its devices need; each thing is written down before it is made."""

    def __init__(self, vmm: Vmm, config: HypervisorConfig) -> None:
        self.machine = vmm
        self.config = config

    def own_path(self, name: str) -> str:
        """A file of the VM's own, as Firecracker sees it."""
        return f"/{name}" if self.machine.state.jail else self.machine.context.run_path(name)

    def provide_file(self, source: str, name: str, read_only: bool = True, shared: bool = False) -> str:
        """Let the VM have a file of the host's; returns its path as Firecracker sees it.

        :param shared: it is the same file for many VMs
        """
        jail = self.machine.state.jail
        if jail is None:
            return source
        process = self.machine.state.process
        jail_files.bring(jail, source, name, read_only, shared, process.pid if process else 0)
        return f"/{name}"

    def provide_socket(self, name: str) -> str:
        """A place for a socket that Firecracker will make; returns its path as Firecracker sees it."""
        state = self.machine.state
        if state.jail is not None:
            state.vsock = state.jail.path(name)
            return f"/{name}"
        path = name if os.path.isabs(name) else self.machine.context.run_path(name)
        if path not in state.sockets:
            state.sockets.append(path)
            state.vsock = path
            self.machine.context.checkpoint()
        return path

    def provide(self, device: Device) -> None:
        """Make what a device needs."""
        kind = single_kind(device)
        if kind:
            self.machine.state.singles[kind] = device_id(device)
        if isinstance(device, (BlockDrive, PmemDrive)):
            self.provide_file(device.file, file_name(device), device.read_only)
        elif isinstance(device, NetworkDevice):
            self._provide_tap(device)
        elif isinstance(device, Vsock):
            self.provide_socket(device.uds_path or socket_name(device))

    def path_of(self, device: Device) -> str:
        """The path of what `provide` made, as Firecracker sees it."""
        if isinstance(device, (BlockDrive, PmemDrive)):
            return self.own_path(file_name(device)) if self.machine.state.jail else device.file
        if isinstance(device, Vsock):
            return self.provide_socket(device.uds_path or socket_name(device))
        return device.socket_path if isinstance(device, VhostUserDevice) else ""

    def withdraw(self, device: Device) -> None:
        """Remove what `provide` made."""
        state = self.machine.state
        if isinstance(device, (BlockDrive, PmemDrive)) and state.jail is not None:
            jail_files.drop(state.jail, file_name(device))
        if isinstance(device, NetworkDevice) and device.tap_name in state.taps:
            network.remove_tap(device.tap_name)
            state.taps.remove(device.tap_name)
            self.machine.context.checkpoint()

    def _provide_tap(self, net: NetworkDevice) -> None:
        """Make a tap that stays, since Firecracker opens it by its name; one that is there is the user's."""
        state = self.machine.state
        if self.config.network_namespace:
            return
        owner = (state.jail.uid, state.jail.gid) if state.jail else (os.geteuid(), os.getegid())

        def announce(name: str) -> None:
            state.taps.append(name)
            self.machine.context.checkpoint()

        network.provide_tap(net.tap_name, owner, net.mtu, net.bridge, announce)


def file_name(drive: BlockDrive | PmemDrive) -> str:
    """The name of a disk's file in a jail."""
    return f"disk_{api_id(drive.id)}"


def socket_name(vsock: Vsock) -> str:
    """The name of a vsock's socket, where the user names none."""
    return f"vsock_{api_id(vsock.id)}.sock"


def complete(device: Device, sandbox: str, state: FirecrackerState) -> Device:
    """The device with what nobody said filled in, always the same for the same sandbox and device.

    :param sandbox: what its taps are called after
    """
    if isinstance(device, NetworkDevice):
        name = device_id(device)
        return dataclasses.replace(
            device,
            # The VM's UUID makes addresses unique; one that the guest has already (a clone) stays.
            mac=device.mac
            or str(state.devices.get(name, {}).get("mac", ""))
            or network.generated_mac(f"{state.uuid}/{name}"),
            tap_name=device.tap_name or network.tap_name(sandbox, name),
        )
    return device


def attach(vmm: Vmm, config: HypervisorConfig, device: Device) -> None:
    """Plug a device into a running VM. What was made for a failed attempt is removed. A device that is there is success.

    :raises Unsupported: this VM cannot take it while it runs
    :raises ApiError: Firecracker refused
    """
    api, name = vmm.api(), device_id(device)
    if name in vmm.plugged(api):
        return
    check_hot(vmm, device)
    place = _free_placeholder(vmm, device) if isinstance(device, BlockDrive) and not _pci_hotplug(vmm) else None
    host = HostResources(vmm, config)
    try:
        if place is not None:
            vmm.state.placeholders[place] = name
            vmm.context.checkpoint()
        vmm.state.devices[name] = as_record(device)
        with _claimed(vmm, device):
            host.provide(device)
            if place is None:
                request = requests.device(device, host.path_of(device))
                api.put(request.path, request.body)
            else:
                drive = f"{PLACEHOLDER}{place}"
                body = {"drive_id": drive, "path_on_host": host.path_of(device), **_limits(device)}
                _exchange(vmm, api, drive, body)
    except BaseException:
        del vmm.state.devices[name]
        if place is not None:
            vmm.state.placeholders[place] = ""
        with contextlib.suppress(OSError):
            host.withdraw(device)
        vmm.context.checkpoint()
        raise
    vmm.context.checkpoint()


def check_free(vmm: Vmm, device: Device) -> None:
    """Refuse a disk whose file another VM has.

    :raises StateError: names the file and who has it
    """
    if isinstance(device, (BlockDrive, PmemDrive)):
        block_devices.check_free(block_devices.Use(device.file, not device.read_only, device_id(device)), _own(vmm))


def _claimed(vmm: Vmm, device: Device) -> contextlib.AbstractContextManager[None]:
    """Keep other VMs from a disk's file until Firecracker has it open."""
    if not isinstance(device, (BlockDrive, PmemDrive)):
        return contextlib.nullcontext()
    return block_devices.claimed([block_devices.Use(device.file, not device.read_only, device_id(device))], _own(vmm))


def _own(vmm: Vmm) -> tuple[int, ...]:
    process = vmm.process()
    return (process.pid,) if process else ()


def detach(vmm: Vmm, config: HypervisorConfig, device: Device) -> None:
    """Take a device out of a running VM and remove what it had on the host. A device that is not there is success.

    :raises Unsupported: this VM cannot let go of it while it runs
    """
    api, name, state = vmm.api(), device_id(device), vmm.state
    host = HostResources(vmm, config)
    if name not in vmm.plugged(api):
        # A task may have been killed after Firecracker let go of it.
        _forget(vmm, host, device)
        return
    if name in state.placeholders:
        drive = f"{PLACEHOLDER}{state.placeholders.index(name)}"
        lift = bool(getattr(device, "rate_limit", None))
        _exchange(vmm, api, drive, {"drive_id": drive, "path_on_host": host.own_path(drive), **_limits(lift=lift)})
        state.placeholders[state.placeholders.index(name)] = ""
    elif _pci_hotplug(vmm) and isinstance(device, HOTPLUGGABLE):
        api.delete(requests.device(device).path)
    else:
        raise _no_hotplug(vmm, device)
    _forget(vmm, host, device)


def _forget(vmm: Vmm, host: HostResources, device: Device) -> None:
    """Remove what a device that is not plugged any more had on the host."""
    name, state = device_id(device), vmm.state
    state.devices.pop(name, None)
    if name in state.placeholders:
        state.placeholders[state.placeholders.index(name)] = ""
    host.withdraw(device)
    vmm.context.checkpoint()


def update(vmm: Vmm, config: HypervisorConfig, device: Device) -> None:
    """Change a device that is there: a disk's file and limits, an interface's limits, a balloon's size, what the metadata service tells.

    :raises Unsupported: nothing else of a device can change while the VM runs
    :raises ApiError: Firecracker refused
    """
    _update(vmm, config, device)
    vmm.state.devices[device_id(device)] = as_record(device)
    vmm.context.checkpoint()


def _update(vmm: Vmm, config: HypervisorConfig, device: Device) -> None:
    api, name, state = vmm.api(), device_id(device), vmm.state
    if isinstance(device, NetworkDevice):
        api.patch(
            f"/network-interfaces/{api_id(name)}", {"iface_id": api_id(name), **requests.interface_limits(device)}
        )
        return
    if isinstance(device, Balloon):
        from . import memory

        memory.resize_balloon(vmm, device)
        return
    if isinstance(device, PmemDrive):
        dialect.require_endpoint(
            vmm.version, "PATCH", "/pmem/x", "change of limits of persistent memory", "devices", name
        )
        limits = requests.rate_limiter(device.rate_limit or RateLimit())
        api.patch(f"/pmem/{api_id(name)}", {"id": api_id(name), "rate_limiter": limits})
        return
    if isinstance(device, MetadataService):
        _update_metadata(api, device)
        return
    if not isinstance(device, BlockDrive):
        raise _no_hotplug(vmm, device)
    drive = f"{PLACEHOLDER}{state.placeholders.index(name)}" if name in state.placeholders else api_id(name)
    limits = _limits(device, lift=True)
    known = state.devices.get(name, {}).get("file")
    if known == device.file and dialect.can(vmm.version, "limits_alone"):
        api.patch(f"/drives/{drive}", {"drive_id": drive, **limits})
        return
    host = HostResources(vmm, config)
    # What is open stays open: the old file is only replaced by its name, and gets that back when the new one is refused.
    if not dialect.can(vmm.version, "limits_alone"):
        limits = _limits(device, lift=bool(state.devices.get(name, {}).get("rate_limit")))
    try:
        with _claimed(vmm, device):
            host.provide(device)
            _exchange(vmm, api, drive, {"drive_id": drive, "path_on_host": host.path_of(device), **limits})
    except VmmError:
        if known and state.jail is not None:
            with contextlib.suppress(HypervisorError, OSError):
                host.provide_file(known, file_name(device), device.read_only)
        raise


def _update_metadata(api: ApiClient, service: MetadataService) -> None:
    """Bring what the metadata service tells to what it shall tell, by what is different alone, and read it back."""
    patch = requests.difference(api.get("/mmds"), service.contents)
    if patch:
        api.patch("/mmds", patch)
    now = api.get("/mmds") or {}
    if now != service.contents:
        raise VmmError(
            "the metadata service tells something else", option="contents", wanted=service.contents, answer=str(now)
        )


def _exchange(vmm: Vmm, api: ApiClient, drive: str, body: dict[str, object]) -> None:
    """Put another file behind a disk, and have the guest look at it where Firecracker does not see to that itself."""
    api.patch(f"/drives/{drive}", body)
    if dialect.dialect_for(vmm.version).rescan and POWER.get(vmm.status(api)) == "running":
        api.put("/actions", {"action_type": "BlockDeviceRescan", "payload": drive})


def _limits(device: Device | None = None, lift: bool = False) -> dict[str, object]:
    """A disk's limits for a request.

    :param lift: it had some, which have to go where it has none
    """
    limit = device.rate_limit if isinstance(device, BlockDrive) else None
    return {"rate_limiter": requests.rate_limiter(limit or RateLimit())} if limit or lift else {}


def _pci_hotplug(vmm: Vmm) -> bool:
    return vmm.state.pci and has(vmm.version, "DELETE", "/drives/x", RUNNING[0])


def check_hot(vmm: Vmm, device: Device) -> None:
    """Return when a VM that runs can take a device of that kind. Changes nothing.

    :raises Unsupported: it can neither be plugged in nor take a placeholder's place
    """
    if _pci_hotplug(vmm) and isinstance(device, HOTPLUGGABLE):
        return
    if not isinstance(device, BlockDrive) or not vmm.state.placeholders:
        raise _no_hotplug(vmm, device)
    if device.read_only or device.cache or device.io_engine:
        raise Unsupported(
            "a disk that takes a placeholder's place can be written to, and has the cache and engine that the placeholder has",
            option="devices",
            wanted=device.id,
            fix="Leave read_only, cache and io_engine out, or restart the sandbox (disruption: restart).",
        )


def _free_placeholder(vmm: Vmm, device: BlockDrive) -> int:
    """The number of an empty disk that can stand for a device.

    :raises StateError: all of them are taken
    """
    if not {"", device_id(device)} & set(vmm.state.placeholders):
        raise StateError(
            f"all {len(vmm.state.placeholders)} placeholder drives are taken",
            option="placeholder_drives",
            wanted=device.id,
            fix="Raise placeholder_drives, which needs a restart.",
        )
    if device_id(device) in vmm.state.placeholders:
        return vmm.state.placeholders.index(device_id(device))  # A task was killed before Firecracker had the disk.
    return free_place(vmm.state, device)


def free_place(state: FirecrackerState, device: BlockDrive) -> int:
    """The number of an empty disk that can stand for a device: where the disk is counted, else the next one after the disks from before the start."""
    free = [number for number, name in enumerate(state.placeholders) if not name]
    cold = sum(
        record.get("class") == BlockDrive.__name__ and name not in state.placeholders
        for name, record in state.devices.items()
        if name != device.id
    )
    # The first disks were counted before the VM started, and have no placeholder.
    if device.index in free and (device.index or not cold):
        return device.index
    return next((number for number in free if number >= cold), free[0])


def _no_hotplug(vmm: Vmm, device: Device) -> Unsupported:
    return Unsupported(
        f"this VM cannot plug or unplug {type(device).__name__} {device_id(device)} while it runs: Firecracker"
        f" {dialect.shown(vmm.version)} {'with' if vmm.state.pci else 'without'} PCI has no hotplug for it",
        option="devices",
        wanted=device_id(device),
        fix="Restart the sandbox (disruption: restart). Disks need Firecracker 1.16 with enable_pci, or placeholder_drives.",
    )
