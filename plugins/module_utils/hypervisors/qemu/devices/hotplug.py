# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices of a running VM and what they have on the host: a slot behind a bridge, descriptors, a daemon."""

from __future__ import annotations

import contextlib
import dataclasses

from ....errors import VmmError
from ....host import block_devices
from ....host.processes import ProcessIdentity, terminate
from ....host.sockets import remove_socket
from ....options.config import HypervisorConfig
from ....options.device_kinds.base import Device
from ...common.vmm_process import file_uses
from .. import bridges
from ..machines import machine_named
from ..qmp import QmpClient, QmpError
from ..vmm import STEP_SECONDS, Vmm, plugged_devices
from . import qmp_objects
from .base import AnyQemuDevice
from .host_resources import HostResources
from .kinds import device_for
from .objects import Descriptors, Slot

#: Seconds the guest gets to release a device.
RELEASE_SECONDS = 15.0


def attach(vmm: Vmm, config: HypervisorConfig, record: Device) -> None:
    """Plug a device in; what a failed attempt had on the host is given back. A device that is there is success.

    :raises ConfigError: it would have had to be there from the start
    :raises HypervisorError: the host lacks something, or QEMU refused
    """
    identifier = record.identity
    qmp = vmm.qmp()
    if identifier in plugged_devices(qmp):
        return
    device = device_for(record, config)
    device.complete(vmm.context, vmm.state.uuid)
    device.check_hot(vmm.state.shared_memory)
    process = vmm.process()
    own = (process.pid,) if process else ()
    device.check(vmm.own_socket(identifier), own)
    device.check_named(vmm.state.uid)
    resources = None
    claims = contextlib.ExitStack()
    try:
        # No other VM gets the file until QEMU has it open and locked.
        claims.enter_context(block_devices.claimed(file_uses(HypervisorConfig(), [device.record]), own))
        slot = slot_of(vmm, device, hot=True)
        vmm.context.checkpoint()
        resources = open_resources(vmm, device)
        descriptors, named = resources.by_name(identifier)
        for name, descriptor in named.items():
            qmp.execute("getfd", {"fdname": name}, fds=[descriptor])
        for descriptor in resources.disk:
            number = qmp.execute("add-fd", {"opaque": device.file_name}, fds=[descriptor])["fdset-id"]
            descriptors.file = f"/dev/fdset/{number}"
        named_file = device.open_named(vmm.state.uid)
        if named_file >= 0:
            resources.disk.append(named_file)  # It is closed with the others.
            number = qmp.execute("add-fd", {"opaque": device.file_name}, fds=[named_file])["fd"]
            descriptors.file = f"/proc/self/fd/{number}"
        with device.lent(vmm.state.uid):
            qmp_objects.plug(qmp, device.objects(slot, descriptors))
        if named_file >= 0:
            forget_files(qmp, device)
    except BaseException as error:
        forget_files(qmp, device)
        give_back(vmm, identifier)
        if isinstance(error, QmpError):
            explained = device.explained(error)
            if explained is not error:
                raise explained from error
        raise
    finally:
        if resources is not None:
            resources.close()
        claims.close()


def detach(vmm: Vmm, config: HypervisorConfig, record: Device) -> None:
    """Take a device out and give back what it had on the host.

    :raises DeadlineExceeded: the guest does not release it; it keeps its slot and its daemon
    """
    device = device_for(record, config)
    device.check_unplug()
    descriptors = Descriptors(socket="served" if device.identity in vmm.state.daemons else "")
    slot = Slot.for_machine(machine_named(config.hypervisor_machine_type))
    objects = device.objects_to_remove(slot, descriptors)
    qmp_objects.unplug(vmm.qmp(), objects, RELEASE_SECONDS)
    forget_files(vmm.qmp(), device)
    give_back(vmm, device.identity)


def forget_files(qmp: QmpClient, device: AnyQemuDevice) -> None:
    """Close QEMU's copies of the open files of a device that is not there any more."""
    if not device.file_name:
        return
    with contextlib.suppress(VmmError):
        for number, names in qmp_objects.descriptor_sets(qmp).items():
            if any(name.startswith(f"{device.identity} ") for name in names):
                qmp.execute("remove-fd", {"fdset-id": number})


def slot_of(vmm: Vmm, device: AnyQemuDevice, hot: bool) -> Slot:
    """Where a device goes: the slot it has, or the lowest free one.

    What is there from the start leaves the root ports to what comes later, unless its kind needs one.

    :param hot: the VM runs
    :raises StateError: no bridge has a free slot
    """
    machine = machine_named(device.config.hypervisor_machine_type)
    ports = device.ports(hot, machine.root_bus)
    somewhere = dataclasses.replace(Slot.for_machine(machine), irqfd=vmm.state.accelerator == "kvm")
    if not machine.has_bridges or ports == "none" or not device.needs_slot:
        return somewhere
    identifier = device.identity
    slot = bridges.find(vmm.state.bridges, identifier) or bridges.allocate(vmm.state.bridges, identifier, ports)
    return dataclasses.replace(somewhere, bus=slot.bridge.id, addr=slot.addr)


def open_resources(vmm: Vmm, device: AnyQemuDevice) -> HostResources:
    """Open or start what the device needs on the host; a daemon is written down before and after it runs. On failure nothing stays open."""

    def started(process: ProcessIdentity | None) -> None:
        if process is not None:
            vmm.state.daemons[device.identity] = process
        vmm.context.checkpoint()

    resources = HostResources()
    try:
        device.open(vmm, resources, started)
    except BaseException:
        resources.close()
        raise
    return resources


def give_back(vmm: Vmm, identifier: str) -> None:
    """Free what a device that is not there any more has taken: its slot, its socket and its daemon."""
    if bridges.find(vmm.state.bridges, identifier):
        bridges.release(vmm.state.bridges, identifier)
    path = vmm.state.sockets.pop(identifier, "")
    if path:
        remove_socket(path)
    daemon = vmm.state.daemons.pop(identifier, None)
    if daemon is not None:
        terminate(daemon, STEP_SECONDS)
    vmm.context.checkpoint()
