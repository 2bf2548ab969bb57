# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check a configuration, start acrn-dm until its VM is up or it has ended, and put disks into the places of placeholders."""

from __future__ import annotations

import dataclasses
import os
import time
import uuid

from ...errors import (
    AssetError,
    ConfigError,
    DeadlineExceeded,
    HostError,
    LaunchError,
    StateError,
    Unsupported,
    VmmError,
)
from ...host import block_devices, proc
from ...host.processes import identify, tail
from ...host.programs import check_program, version_text
from ...host.run_directory import make_run_dir, rotate_log
from ...host.spawn import spawn_detached
from ...options.config import HypervisorConfig
from ...options.device_kinds.base import Device
from ...records.layout import socket_path
from ...untrusted.answers import brief
from ..common.boot_files import check_boot_files
from ..common.scope import scope_command
from ..common.vmm_process import check_file, check_taps, file_uses
from . import command_line
from .devices.base import AnyAcrnDevice
from .devices.kinds import device_for
from .vmm import CONSOLE_LOG, CONSOLE_SOCKET, DEFAULT_CTL, RUNNING, Vmm, check_host

DEFAULT_DM = "/usr/bin/acrn-dm"
#: Devices of the Service VM's driver, by its newer and its older name.
HSM_DEVICES = ("/dev/acrn_hsm", "/dev/acrn_vhm")
FIX = "Install ACRN's device model and tools."
POLL = 0.05
#: Characters of acrnctl's words that an error shows.
MOST_WORDS = 2000
#: What `HypervisorConfig.valid` fills in that ACRN knows nothing of.
FOREIGN = ("default_max_vcpus", "default_bridges", "msize_9p", "block_device_driver")


def prepare(config: HypervisorConfig, vmm: Vmm) -> tuple[HypervisorConfig, tuple[int, ...]]:
    """A copy of the configuration, checked and complete, and the version of its acrn-dm.

    :raises ConfigError: an option is missing, contradictory or impossible
    :raises AssetError: a kernel, an image or a program cannot be used
    :raises HostError: the host does not run on ACRN, or lacks memory
    """
    config = dataclasses.replace(config, kernel_params=list(config.kernel_params))
    config.check_consistent()
    config.valid()
    for name in FOREIGN:
        setattr(config, name, type(getattr(config, name))())
    if not config.image_path:
        raise ConfigError(
            "ACRN boots from an image", option="image_path", fix="Give image_path, a disk with an EFI or ext4 root."
        )
    if config.root_disk_path:
        raise Unsupported(
            "the acrn driver has no root disks",
            option="root_disk_mb",
            fix="Omit root_disk_mb, or use QEMU or Firecracker.",
        )
    check_boot_files(config)
    config.hypervisor_path = check_program(config.hypervisor_path or DEFAULT_DM, "hypervisor_path", FIX)
    config.hypervisor_ctl_path = check_program(config.hypervisor_ctl_path or DEFAULT_CTL, "hypervisor_ctl_path", FIX)
    check_host(HSM_DEVICES)
    host_mb = proc.read_host_memory_mb(vmm.context.meminfo)
    if config.memory_size > host_mb:
        raise HostError(
            f"the host has {host_mb} MiB of memory", option="memory_mb", wanted=config.memory_size, fix="Ask for less."
        )
    version = version_of(config.hypervisor_path)
    _check_identity(config, version, vmm.context.sandbox_id)
    socket_path(vmm.context.run_dir, CONSOLE_SOCKET)
    _command_line(config, version, vmm, [])
    return config, version


def version_of(path: str) -> tuple[int, ...]:
    """The version an acrn-dm reports.

    :raises AssetError: it is something else
    """
    output = version_text(path, "-v")
    version = command_line.parse_version(output)
    if not version:
        raise AssetError("must be an acrn-dm", option="hypervisor_path", wanted=path, answer=brief(output))
    return version


def _check_identity(config: HypervisorConfig, version: tuple[int, ...], sandbox: str) -> None:
    """Refuse what the version does not know VMs and CPUs by."""
    shown = ".".join(map(str, version))
    if command_line.dialect_for(version).by_uuid:
        for option in ("vm_name", "cpu_affinity"):
            if getattr(config, option):
                raise Unsupported(
                    f"ACRN {shown} knows VMs by their UUID", option=option, fix="Use vm_uuid and vcpus, or ACRN 2.7."
                )
        if config.vm_uuid:
            try:
                config.vm_uuid = str(uuid.UUID(config.vm_uuid))
            except ValueError as error:
                raise ConfigError("must be a UUID", option="vm_uuid", wanted=config.vm_uuid) from error
        return
    if config.vm_uuid:
        raise Unsupported(
            f"ACRN {shown} knows VMs by their name", option="vm_uuid", wanted=config.vm_uuid, fix="Use vm_name."
        )
    name = command_line.vm_name(config, sandbox)
    if len(os.fsencode(name)) > command_line.MAX_NAME:
        raise ConfigError(
            f"ACRN {shown} knows VMs by names of up to {command_line.MAX_NAME} bytes",
            option="vm_name",
            wanted=name,
            fix="Give vm_name as the host's scenario has it.",
        )
    cpus = [param.key for param in config.cpu_affinity]
    if any(not cpu.isdigit() for cpu in cpus) or len(set(cpus)) != len(cpus):
        raise ConfigError(
            "these are not numbers of physical CPUs (local APIC ids)", option="cpu_affinity", wanted=" ".join(cpus)
        )
    if len(cpus or [""]) != config.num_vcpus:
        raise ConfigError(
            f"ACRN {shown} gives a VM the physical CPUs that it is told, one for each vCPU",
            option="cpu_affinity",
            wanted=" ".join(cpus),
            fix="Give as many local APIC ids as vcpus.",
        )


def _command_line(
    config: HypervisorConfig, version: tuple[int, ...], vmm: Vmm, devices: list[Device]
) -> command_line.CommandLine:
    name = command_line.vm_name(config, vmm.context.sandbox_id)
    found = map(device_for, devices)
    return command_line.command_line(config, name, vmm.console, found, command_line.dialect_for(version))


def checked_device(vmm: Vmm, config: HypervisorConfig, record: Device) -> AnyAcrnDevice:
    """The device with what the task left out filled in. Refuses what ACRN or the host does not have; changes nothing.

    :raises Unsupported: ACRN has no such device
    :raises AssetError: there is no such disk
    :raises StateError: the host itself uses it
    """
    vmm.state.uuid = vmm.state.uuid or str(uuid.uuid4())
    device = device_for(record)
    device.complete(vmm)
    device.check(vmm)
    process = vmm.process()
    own = (*((process.pid,) if process else ()), *vmm.context.ending)
    check_file(device.record, config, own)
    check_taps([device.record], own)
    command_line.command_line(config, "", vmm.console, [device], command_line.dialect_for(tuple(vmm.state.version)))
    return device


def start(vmm: Vmm, config: HypervisorConfig, devices: list[Device], timeout: float) -> None:
    """Start acrn-dm; returns as soon as acrnctl says that the VM runs. On failure nothing of the attempt is left.

    :param timeout: seconds
    :raises StateError: one runs already
    :raises LaunchError: acrn-dm ended
    :raises DeadlineExceeded: the VM did not come up in time
    """
    if vmm.process() is not None:
        raise StateError("its acrn-dm is already running")
    vmm.kill()
    deadline = time.monotonic() + timeout
    state = vmm.state
    line = _command_line(config, tuple(state.version), vmm, devices)
    state.name, state.ctl = command_line.vm_name(config, vmm.context.sandbox_id), config.hypervisor_ctl_path
    state.vcpus, state.memory_mb = config.num_vcpus, config.memory_size
    state.slots, state.placeholders = line.placeholders, [""] * len(line.placeholders)
    state.devices = [device.identity for device in devices]
    found = [device_for(device) for device in devices]
    state.sockets = [device.socket for device in found if device.socket]
    state.launching = True
    vmm.context.checkpoint()
    try:
        make_run_dir(vmm.context.run_dir)
        rotate_log(vmm.context.run_path(CONSOLE_LOG))
        for device in found:
            device.provide(vmm)
        with block_devices.claimed(file_uses(config, devices)):
            _launch(vmm, [config.hypervisor_path, *line.words], scope_command(vmm.context, config), deadline)
    except BaseException:
        vmm.kill()
        vmm.context.checkpoint()
        raise
    state.launching = False
    vmm.context.checkpoint()


def _launch(vmm: Vmm, argv: list[str], scope: list[str], deadline: float) -> None:
    try:
        child = spawn_detached(argv, vmm.log, wrapper=scope)
    except OSError as error:
        raise LaunchError("acrn-dm cannot be run", argv=argv, answer=str(error)) from error
    vmm.state.process = identify(child.pid)
    vmm.context.checkpoint()
    status = ""
    while status not in RUNNING:
        code = child.poll()
        if code is not None:
            how = f"ended with exit code {code}" if code >= 0 else f"was killed by signal {-code}"
            raise LaunchError(
                f"acrn-dm {how}", exit_code=code, argv=argv, answer=tail(vmm.log, 10).strip(), log=vmm.log
            )
        if time.monotonic() >= deadline:
            raise DeadlineExceeded(
                "acrn-dm runs, and acrnctl does not know its VM" + (f" as anything but {status}" if status else ""),
                answer=tail(vmm.log, 10).strip(),
                log=vmm.log,
                fix="Look into the log, and whether acrnd or /run/acrn/mngr is there.",
            )
        time.sleep(POLL)
        status = vmm.status()
    # A wrapper has become acrn-dm by now: who runs is whom to remember.
    vmm.state.process = identify(child.pid)


def plug_disk(vmm: Vmm, config: HypervisorConfig, drive: Device) -> None:
    """Put a disk into the place of a placeholder. One that is there is success; what acrnctl refuses changes nothing.

    :raises StateError: the VM does not run, or all placeholders are taken
    :raises VmmError: acrnctl refuses, with its exit code and words
    """
    state = vmm.state
    if vmm.process() is None:
        raise StateError("the VM does not run", answer=vmm.why_off())
    if drive.identity in state.placeholders:
        return
    checked_device(vmm, config, drive)
    if "" not in state.placeholders:
        raise StateError(
            f"all {len(state.placeholders)} placeholder drives are taken", option="devices", wanted=drive.identity
        )
    place = state.placeholders.index("")
    words = command_line.rescan(state.name, state.slots[place], device_for(drive).placeholder_path)
    state.placeholders[place] = drive.identity
    vmm.context.checkpoint()
    try:
        code, output = vmm.control(*words)
        # It ends with 0 although the VM has refused, and only says so.
        if code or command_line.RESCAN_REFUSED in output:
            raise VmmError(
                f"acrnctl {' '.join(words)} failed (exit code {code})",
                option="devices",
                wanted=drive.identity,
                answer=brief(output.strip(), MOST_WORDS),
            )
    except BaseException:
        state.placeholders[place] = ""
        vmm.context.checkpoint()
        raise
