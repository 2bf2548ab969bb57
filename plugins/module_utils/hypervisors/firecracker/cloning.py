# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates in Firecracker: a snapshot that is loaded many times, each time with taps and sockets of the clone's own.

Firecracker maps the memory file privately: clones share it until they write. A clone has the devices that the template had when it was
saved, since those are in the guest's memory; what it has beyond them is plugged in.
"""

from __future__ import annotations

import dataclasses
import time

from ...errors import ConfigError, StateError, Unsupported
from ...host.boot_cache import fingerprint
from ...options.config import HypervisorConfig
from ...options.device_kinds.base import Device, device_id
from . import hotplug, snapshots
from . import start as starting
from .api import dialect
from .api.endpoints import RUNNING, Version, has
from .devices.kinds import device_for
from .state import Jail, from_record
from .vmm import Vmm

ANEW = "Make the template anew with kata_template."


def check(config: HypervisorConfig, version: Version, jail: Jail | None) -> None:
    """Return when a VM can become a template, or begin from its own.

    :raises Unsupported: Firecracker cannot do that
    :raises StateError: the template is not whole, or another version made it
    :raises ConfigError: the clone differs where it cannot
    """
    dialect.require_endpoint(version, "PUT", "/snapshot/create", "snapshots", "template")
    if config.huge_pages:
        raise Unsupported(
            "Firecracker would not load memory in huge pages from a file",
            option="huge_pages",
            wanted=True,
            fix="Leave it out.",
        )
    if config.placeholder_drives and jail is None:
        raise Unsupported(
            "outside of a jail, the placeholders of a template are files that only it has",
            option="placeholder_drives",
            wanted=config.placeholder_drives,
            fix="Leave it out, or give jailer_path.",
        )
    if not config.boot_from_template:
        return
    saved = snapshots.read(config.devices_state_path)
    if tuple(saved.version) != version:
        raise StateError(
            f"the template was made by Firecracker {dialect.shown(tuple(saved.version))}, and this is {dialect.shown(version)}",
            option="template",
            fix=ANEW,
        )
    if (saved.state.jail is None) != (jail is None):
        raise StateError(
            f"the template was made {'outside of' if jail else 'in'} a jail, and its clones must be there too",
            option="jailer" if jail else "jailer_path",
            fix="Make the template again with kata_template, or give jailer: none." if jail else ANEW,
        )
    for option, wanted, least in (
        ("vcpus", config.num_vcpus, saved.vcpus),
        ("memory_mb", config.memory_size, saved.state.boot_memory_mb),
    ):
        if wanted != least:
            raise Unsupported(
                f"a clone begins with what its template has, which is {least}",
                option=option,
                wanted=wanted,
                fix="Leave it out, or use another template."
                + (" With max_memory_mb, memory can be plugged in once it runs." if option == "memory_mb" else ""),
            )


def checked_device(vmm: Vmm, config: HypervisorConfig, jail: Jail | None, device: Device) -> Device:
    """A device of a template or of a clone, once it is known to be possible; what a clone's guest knows already is filled in.

    :raises Unsupported: it cannot be in a template, or not in a clone of this one
    :raises ConfigError: it is otherwise than in the template
    """
    found, name = device_for(device), device.identity
    if config.boot_to_be_template:
        found.check_template()
        return device
    saved = snapshots.read(config.devices_state_path)
    record = saved.state.devices.get(name)
    if record is None:
        hot = config.enable_pci and has(vmm.version, "DELETE", "/drives/x", RUNNING[0]) and found.by_pci
        if not hot and not (config.placeholder_drives and found.by_placeholder):
            raise Unsupported(
                "the template has no such device, and a clone of it cannot have it plugged in",
                option="devices",
                wanted=name,
                fix="Make the template with it, or with enable_pci (Firecracker 1.16 and later), or placeholder_drives for disks.",
            )
        return device
    kept = from_record(record)
    if type(device) is type(kept):
        found.inherit(kept, vmm.state)
        device = found.record
    free = (*device_for(kept).on_host, *device_for(kept).live)
    different = [
        field.name
        for field in dataclasses.fields(kept)
        if field.name not in free and getattr(device, field.name, None) != getattr(kept, field.name)
    ]
    problem = f"has {different[0]} {getattr(kept, different[0])}" if different else ""
    if type(device) is not type(kept):
        problem = f"is a {type(kept).__name__}"
    if problem:
        raise ConfigError(
            f"the template's device {name} {problem}, and so it is in its clones",
            option="devices",
            wanted=name,
            fix="Give it as it is in the template, or another id, or leave it out.",
        )
    return device


def start(vmm: Vmm, config: HypervisorConfig, devices: list[Device], jail: Jail | None, timeout: float) -> None:
    """Start a VM where the template was saved, and let it run; on failure nothing of the attempt is left.

    :param devices: what the clone's task lists
    :param timeout: seconds until it runs
    :raises ApiError: Firecracker refused
    """
    saved = snapshots.read(config.devices_state_path)
    kept = {name: from_record(record) for name, record in saved.state.devices.items()}
    listed = {device_id(device): device for device in devices}
    inherited = [
        listed.get(name) or device_for(device).as_clones_own(vmm.context.host_name) for name, device in kept.items()
    ]
    deadline = time.monotonic() + timeout

    def attempt(clock: bool) -> None:
        with starting.launched(vmm, config, inherited, jail, deadline, config.memory_path) as (api, host):
            snapshots.load(
                vmm, config, inherited, (api, host), saved, config.memory_path, deadline, template=True, clock=clock
            )
            if config.track_dirty_pages:
                vmm.state.base = [config.memory_path, fingerprint(config.memory_path)]
            for device in inherited:
                was = kept[device_id(device)]
                if any(getattr(device, field) != getattr(was, field) for field in device_for(device).live):
                    hotplug.update(vmm, config, device)
            for name, device in listed.items():
                if name not in kept:
                    hotplug.attach(vmm, config, device)
            vmm.set_state("running")

    snapshots.with_clock(vmm, attempt)
