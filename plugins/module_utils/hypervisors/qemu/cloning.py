# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates in QEMU: a memory file that is written once, and VMs that begin where it was saved and keep their own changes to themselves.

The template maps the file shared, so that saving need not copy the memory (migration capability x-ignore-shared); clones map it
privately, copy-on-write. Both get their command line from `command_line.py`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os

from ...errors import ConfigError, HostError, StateError, Unsupported, VmmError
from ...host.facts import nearest_directory
from ...host.processes import tail
from ...host.run_directory import make_run_dir
from ...host.units import MIB
from ...host.users import Wanted, check_access, user_named
from ...options.config import HypervisorConfig
from . import migration, start
from .command_line import IMAGE_AS_MEMORY
from .machines import machine_named
from .qmp import QmpClient, QmpConnectionError
from .state import QemuState
from .vmm import Vmm

#: What stands in a template's description for all that it shares with its clones.
MACHINE = "machine"


def check_template(config: HypervisorConfig) -> None:
    """Refuse what cannot go into a template, or come from one.

    :raises Unsupported: the memory would be somewhere else than in the template's file
    """
    for option, value, unwanted in (
        ("shared_fs", config.shared_fs, config.shared_fs == "virtio-fs"),
        ("file_mem_backend", config.file_backed_mem_root_dir, bool(config.file_backed_mem_root_dir)),
        ("huge_pages", config.huge_pages, config.huge_pages),
        ("memory_hotplug", config.memory_hotplug, config.memory_hotplug == "balloon"),
        ("image_driver", config.image_driver, bool(config.image_path) and config.image_driver in IMAGE_AS_MEMORY),
    ):
        if unwanted:
            raise Unsupported(
                "a template's memory is a file of its own, which clones copy on write; this would be other memory",
                option=option,
                wanted=value,
                fix="Leave it out for templates and their clones.",
            )
    if config.boot_to_be_template and config.vmm_user:
        above = nearest_directory(os.path.dirname(os.path.dirname(config.memory_path)))
        check_access(user_named(config.vmm_user), [Wanted("memory_dir", above, "x")])


def make_memory_file(config: HypervisorConfig) -> None:
    """A new, empty memory file, the owner's alone. One that is there already is not written to: VMs may have it mapped.

    :raises HostError: it cannot be made
    """
    user = user_named(config.vmm_user)
    make_run_dir(os.path.dirname(config.memory_path), "memory_dir", user.gid if user else None)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(config.memory_path)
        descriptor = os.open(config.memory_path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.truncate(descriptor, config.memory_size * MIB)
            if user is not None:
                os.fchown(descriptor, user.uid, user.gid)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise HostError(f"the template's memory {config.memory_path} cannot be made", answer=str(error)) from error


def keep_memory_file(config: HypervisorConfig) -> None:
    """Have a template's memory on the disk before anything says that it is."""
    descriptor = os.open(config.memory_path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_source(vmm: Vmm, config: HypervisorConfig) -> None:
    """Return when this machine can begin where the template was saved.

    :raises StateError: the template is not whole, or was made by another QEMU or as another machine
    :raises ConfigError: it would have to be smaller than its template
    """
    description = migration.read_description(config.devices_state_path)
    if description.get("qemu_version") != vmm.state.qemu_version:
        made, now = (
            ".".join(map(str, version or [])) for version in (description.get("qemu_version"), vmm.state.qemu_version)
        )
        raise StateError(
            f"the template was made by QEMU {made}, and this is {now}",
            option="template",
            fix="Make the template anew with kata_template.",
        )
    boot = QemuState.from_dict(description["state"])
    machine = machine_named(config.hypervisor_machine_type)
    for option, wanted, least, grows in (
        ("vcpus", config.num_vcpus, boot.boot_vcpus, machine.vcpu_hotplug),
        ("memory_mb", config.memory_size, boot.boot_memory_mb, boot.memory_hotplug != "none"),
    ):
        if wanted < least:
            raise ConfigError(
                f"the template has {least}, and its clones cannot have less",
                option=option,
                wanted=wanted,
                fix="Give at least that.",
            )
        if wanted > least and not grows:
            raise Unsupported(
                f"the template has {least}, and a clone on machine type {machine.name} with memory_hotplug {boot.memory_hotplug} cannot have more",
                option=option,
                wanted=wanted,
                fix="Make the template with that much, or of another machine type.",
            )
    mine = Vmm(vmm.context)
    mine.state = dataclasses.replace(boot, qemu_version=vmm.state.qemu_version)
    if description.get(MACHINE) != start.machine_digest(mine, config, description):
        raise StateError(
            "the template was made as another machine than this would be",
            option="template",
            fix="Make the template anew with kata_template; an update of the collection or other options may have changed it.",
        )


def clone(vmm: Vmm, config: HypervisorConfig, timeout: float) -> None:
    """Start a VM where the template was saved, and let it run.

    :param timeout: seconds for QEMU to answer, and for it to take the state
    :raises VmmError: QEMU does not take the state
    """
    source = config.devices_state_path
    description = migration.read_description(source)
    boot = QemuState.from_dict(description["state"])
    vmm.state = dataclasses.replace(
        boot,
        uuid=vmm.state.uuid,
        own_uid=vmm.state.own_uid,
        qemu_version=vmm.state.qemu_version,
        process=None,
        launching=False,
        daemons={},
    )
    config = dataclasses.replace(config, accelerator=boot.accelerator)
    try:
        start.start(vmm, config, [], timeout, description)
        ignore_shared(vmm.qmp(), True)
        migration.read_state(vmm.qmp(), source, timeout)
        # All of a clone's own memory is its own: a later save takes it whole.
        ignore_shared(vmm.qmp(), False)
        vmm.set_running(True)
    except QmpConnectionError as error:
        words = tail(vmm.log, 5) or str(error)
        raise VmmError("QEMU does not take the template's state", answer=words, log=vmm.log) from error


def ignore_shared(qmp: QmpClient, ignore: bool) -> None:
    """Leave memory that other processes can see out of a migration, or not."""
    capability = {"capability": "x-ignore-shared", "state": ignore}
    qmp.execute("migrate-set-capabilities", {"capabilities": [capability]})
