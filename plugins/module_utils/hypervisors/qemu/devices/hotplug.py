# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices of a running VM and what they take on the host: a slot behind a bridge, descriptors, a daemon."""

from __future__ import annotations

import contextlib
import dataclasses

from ....errors import StateError, Unsupported, VmmError
from ....host.processes import ProcessIdentity, terminate
from ....host.sockets import check_socket_place, remove_socket
from ....options.config import HypervisorConfig
from ....options.device_kinds.base import Device, RateLimit, device_id
from ....options.device_kinds.block import BlockDrive
from ....options.device_kinds.fs import Volume
from ....options.device_kinds.pmem import PmemDrive
from ....options.device_kinds.serial import SerialPort
from ....options.device_kinds.vfio import VfioDevice
from .. import bridges
from ..machines import machine_named
from ..qmp import QmpClient, QmpError
from ..vmm import STEP_SECONDS, Vmm, plugged_devices
from . import host_resources, objects, qmp_objects, vfio

#: Seconds the guest gets to release a device.
RELEASE_SECONDS = 15.0


def attach(vmm: Vmm, config: HypervisorConfig, device: Device) -> None:
    """Plug a device in; what was taken for a failed attempt is given back. A device that is there is success.

    :raises ConfigError: it would have had to be there from the start
    :raises HypervisorError: the host lacks something, or QEMU refused
    """
    identifier = device_id(device)
    qmp = vmm.qmp()
    if identifier in plugged_devices(qmp):
        return
    device = host_resources.complete(device, config, vmm.context, vmm.state.uuid)
    host_resources.check_hot(device, config, vmm.state.shared_memory)
    process = vmm.process()
    host_resources.check(device, config, vmm.own_socket(identifier), (process.pid,) if process else ())
    host_resources.check_named(device, config, vmm.state.uid)
    side = None
    try:
        where = place(vmm, config, device, hot=True)
        vmm.context.checkpoint()
        side = open_side(vmm, config, device)
        descriptors, named = side.by_name(identifier)
        for name, descriptor in named.items():
            qmp.execute("getfd", {"fdname": name}, fds=[descriptor])
        for descriptor in side.disk:
            number = qmp.execute("add-fd", {"opaque": file_name(device)}, fds=[descriptor])["fdset-id"]
            descriptors.file = f"/dev/fdset/{number}"
        named_file = host_resources.open_named(device, config, vmm.state.uid)
        if named_file >= 0:
            side.disk.append(named_file)  # It is closed with the others.
            number = qmp.execute("add-fd", {"opaque": file_name(device)}, fds=[named_file])["fd"]
            descriptors.file = f"/proc/self/fd/{number}"
        with vfio.lent_node(device, vmm.state.uid):
            qmp_objects.plug(qmp, objects.objects_for(device, where, config.block_device_driver, descriptors))
        if named_file >= 0:
            forget_files(qmp, device)
    except BaseException as error:
        forget_files(qmp, device)
        give_back(vmm, identifier)
        if isinstance(error, QmpError) and isinstance(device, BlockDrive) and "lock" in error.answer:
            raise StateError(
                "another device of this sandbox, or another process, has this file open",
                option="devices",
                wanted=device.file,
                answer=error.answer,
                fix="Give each a file of its own, or attach it read_only in both.",
            ) from error
        raise
    finally:
        if side is not None:
            side.close()


def detach(vmm: Vmm, config: HypervisorConfig, device: Device) -> None:
    """Take a device out and give back what it had taken.

    :raises DeadlineExceeded: the guest does not release it; it keeps its slot and its daemon
    """
    identifier = device_id(device)
    served = identifier in vmm.state.daemons
    machine = machine_named(config.hypervisor_machine_type)
    if isinstance(device, (BlockDrive, PmemDrive)) and objects.is_memory(device, config.block_device_driver):
        raise Unsupported(
            "QEMU takes no file out of a running guest's memory",
            option="devices",
            wanted=identifier,
            fix="Restart it (disruption: restart).",
        )
    if isinstance(device, Volume) and config.shared_fs == "virtio-9p":
        raise Unsupported(
            "a 9p share can only be removed while the VM is off",
            option="devices",
            wanted=identifier,
            fix="Restart it (disruption: restart).",
        )
    if isinstance(device, BlockDrive) and device.rate_limit is None:
        # A change of limits that was killed half-way may have left a limiter.
        device = dataclasses.replace(device, rate_limit=RateLimit())
    descriptors = objects.Descriptors(socket="served" if served else "")
    pieces = objects.objects_for(device, objects.Slot.for_machine(machine), config.block_device_driver, descriptors)
    qmp_objects.unplug(vmm.qmp(), pieces, RELEASE_SECONDS)
    forget_files(vmm.qmp(), device)
    give_back(vmm, identifier)


def file_name(device: Device) -> str:
    """What QEMU tells of the open file of a disk: whose it is, and its path."""
    return f"{device_id(device)} {device.file}" if isinstance(device, (BlockDrive, PmemDrive)) else device_id(device)


def forget_files(qmp: QmpClient, device: Device) -> None:
    """Close QEMU's copies of the open files of a device that is not there any more."""
    if not isinstance(device, (BlockDrive, PmemDrive)):
        return
    with contextlib.suppress(VmmError):
        for number, names in descriptor_sets(qmp).items():
            if any(name.startswith(f"{device_id(device)} ") for name in names):
                qmp.execute("remove-fd", {"fdset-id": number})


def descriptor_sets(qmp: QmpClient) -> dict[int, list[str]]:
    """What QEMU tells of its open files, by the number of the set."""
    return {one["fdset-id"]: [file.get("opaque", "") for file in one["fds"]] for one in qmp.execute("query-fdsets")}


def limit(vmm: Vmm, drive: BlockDrive) -> None:
    """Give a plugged disk the limits of its record, or none. The guest sees nothing of it.

    :raises Unsupported: it is another file than the one that is plugged
    :raises VmmError: QEMU refused
    """
    qmp = vmm.qmp()
    plugged = {node["node-name"]: node.get("file") for node in qmp.execute("query-named-block-nodes", {"flat": True})}
    path = str(plugged.get(objects.node_id(drive)))
    if path.startswith("/dev/fdset/"):
        names = descriptor_sets(qmp).get(int(path.rpartition("/")[2]), [])
        path = drive.file if file_name(drive) in names else ""
    if path != drive.file:
        raise Unsupported(
            "only the limits of a plugged disk can change", option="devices", wanted=drive.file, fix="Unplug it first."
        )
    front = f"/machine/peripheral/{objects.frontend_id(drive)}"
    wanted = objects.limiter(drive)
    known = objects.limiter(dataclasses.replace(drive, rate_limit=drive.rate_limit or RateLimit()))
    limited = qmp.execute("qom-get", {"path": front, "property": "drive"}) == known[-1].id
    if wanted and limited:
        group = {"path": f"/objects/{wanted[0].id}", "property": "limits", "value": wanted[0].properties["limits"]}
        qmp.execute("qom-set", group)
    elif wanted:
        qmp_objects.plug(qmp, wanted)
        qmp.execute("qom-set", {"path": front, "property": "drive", "value": wanted[-1].id})
    else:
        if limited:
            # Only then: QEMU 7.2 does not survive being told the node that it has.
            qmp.execute("qom-set", {"path": front, "property": "drive", "value": objects.node_id(drive)})
        for part in reversed(known):
            qmp_objects.discard(qmp, part)


def place(vmm: Vmm, config: HypervisorConfig, device: Device, hot: bool) -> objects.Slot:
    """Where a device goes: the slot it has, or the lowest free one.

    What is there from the start leaves the root ports to what comes later; a device of the host's is a PCI Express one, and belongs there.

    :param hot: the VM runs
    :raises StateError: no bridge has a free slot
    """
    machine = machine_named(config.hypervisor_machine_type)
    driver = (device.driver if isinstance(device, BlockDrive) else "") or config.block_device_driver
    ports = "first" if hot or isinstance(device, VfioDevice) else "last"
    if isinstance(device, VfioDevice) and config.hotplug_vfio_on_root_bus:
        # Nothing is plugged into the root of PCI Express itself, only into its ports.
        ports = "only" if machine.root_bus == "pcie.0" else "none"
    somewhere = dataclasses.replace(objects.Slot.for_machine(machine), irqfd=vmm.state.accelerator == "kvm")
    if not machine.has_bridges or ports == "none" or not objects.needs_slot(device, driver):
        return somewhere
    identifier = device_id(device)
    slot = bridges.find(vmm.state.bridges, identifier) or bridges.allocate(vmm.state.bridges, identifier, ports)
    return dataclasses.replace(somewhere, bus=slot.bridge.id, addr=slot.addr)


def open_side(vmm: Vmm, config: HypervisorConfig, device: Device) -> host_resources.HostResources:
    """Open or start what the device needs on the host; a daemon is written down before and after it runs."""

    ours = True
    if isinstance(device, SerialPort):
        ours = vmm.own_socket(device_id(device)) == device.host_path
        # What is not this sandbox's is refused before the path is written down as its own.
        check_socket_place(device.host_path, ours)
        vmm.state.sockets[device_id(device)] = device.host_path
        vmm.context.checkpoint()

    if isinstance(device, VfioDevice) and (vmm.state.uid or config.vmm_user):
        running = vmm.process()
        vfio.let_lock(running.pid if running else 0, max(vmm.state.max_memory_mb, config.memory_size))

    def started(process: ProcessIdentity | None) -> None:
        if process is not None:
            vmm.state.daemons[device_id(device)] = process
        vmm.context.checkpoint()

    return host_resources.open_host_side(device, config, vmm.context, started, ours)


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
