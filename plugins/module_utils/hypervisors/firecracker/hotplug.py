# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices of a VM that runs: plugged, unplugged, changed."""

from __future__ import annotations

import contextlib

from ...host import block_devices
from ...options.config import HypervisorConfig
from ...options.device_kinds.base import Device
from .devices.base import AnyFirecrackerDevice
from .devices.kinds import device_for
from .host_resources import HostResources
from .state import as_record
from .vmm import Vmm


def attach(vmm: Vmm, config: HypervisorConfig, record: Device) -> None:
    """Plug a device into a running VM. What was made for a failed attempt is removed. A device that is there is success.

    :raises Unsupported: this VM cannot take it while it runs
    :raises ApiError: Firecracker refused
    """
    name = record.identity
    if name in vmm.plugged(vmm.api()):
        return
    device = device_for(record)
    device.check_hot(vmm)
    placeholder = device.placeholder(vmm)
    host = HostResources(vmm, config)
    try:
        if placeholder is not None:
            vmm.state.placeholders[placeholder] = name
            vmm.context.checkpoint()
        vmm.state.devices[name] = as_record(record)
        with _claimed(vmm, device):
            device.provide(host)
            device.plug(vmm, host, placeholder)
    except BaseException:
        del vmm.state.devices[name]
        if placeholder is not None:
            vmm.state.placeholders[placeholder] = ""
        with contextlib.suppress(OSError):
            device.withdraw(host)
        vmm.context.checkpoint()
        raise
    vmm.context.checkpoint()


def check_free(vmm: Vmm, device: AnyFirecrackerDevice) -> None:
    """Refuse a disk whose file another VM has.

    :raises StateError: names the file and who has it
    """
    for use in _uses(device):
        block_devices.check_free(use, _own(vmm))


def _claimed(vmm: Vmm, device: AnyFirecrackerDevice) -> contextlib.AbstractContextManager[None]:
    """Keep other VMs from a disk's file until Firecracker has it open."""
    uses = _uses(device)
    return block_devices.claimed(uses, _own(vmm)) if uses else contextlib.nullcontext()


def _uses(device: AnyFirecrackerDevice) -> list[block_devices.Use]:
    if not device.record.host_file:
        return []
    path, writes = device.record.host_file
    return [block_devices.Use(path, writes, device.identity)]


def _own(vmm: Vmm) -> tuple[int, ...]:
    process = vmm.process()
    return (process.pid,) if process else ()


def detach(vmm: Vmm, config: HypervisorConfig, record: Device) -> None:
    """Take a device out of a running VM and remove what it had on the host. A device that is not there is success.

    :raises Unsupported: this VM cannot let go of it while it runs
    """
    device, host = device_for(record), HostResources(vmm, config)
    # Where it is not there, a task may have been killed after Firecracker let go of it.
    if device.identity in vmm.plugged(vmm.api()):
        device.unplug(vmm, host)
    state = vmm.state
    state.devices.pop(device.identity, None)
    if device.identity in state.placeholders:
        state.placeholders[state.placeholders.index(device.identity)] = ""
    device.withdraw(host)
    vmm.context.checkpoint()


def update(vmm: Vmm, config: HypervisorConfig, record: Device) -> None:
    """Change a device that is there: a disk's file and limits, an interface's limits, a balloon's size, what the metadata service tells.

    :raises Unsupported: nothing else of a device can change while the VM runs
    :raises ApiError: Firecracker refused
    """
    device_for(record).update(vmm, HostResources(vmm, config))
    vmm.state.devices[record.identity] = as_record(record)
    vmm.context.checkpoint()
