# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be known to be wrong with a configuration before anything is touched, and what nobody said filled in."""

from __future__ import annotations

import dataclasses
import os
import re

from ...errors import AssetError, ConfigError, HostError, Unsupported
from ...guest.disks import dax_offset
from ...host import proc
from ...host.boot_cache import cache_get, cache_put, fingerprint
from ...host.qcow2 import MAGIC
from ...options.config import HypervisorConfig
from ...records.layout import socket_path
from ..base import Context
from ..common.boot_files import check_boot_files
from .binary import find_binary, version_of
from .bridges import MOST_BRIDGES
from .command_line import IMAGE_AS_MEMORY, VIRTIO_MEM_BLOCK_MB, boot_memory_mb, image_driver
from .machines import MACHINES, Machine, machine_named
from .names import SOCKETS

#: MiB of head-room a VM gets when the task does not say how far it may grow: this much, or as much again as it has.
DEFAULT_HEADROOM_MB = 1024
#: From this QEMU on q35 tells its guest by ACPI what is plugged in behind a bridge. Before, only guests with a driver for the bridge's own
#: controller (SHPC) see it, which many kernels lack, while all know PCI Express ports: that many stand in for the bridge.
ACPI_BRIDGES = (6, 1, 0)
PORTS_WITHOUT_ACPI = 8
#: The first sector of a disk that a firmware boots, bytes, and how it ends, with a GPT too (UEFI specification, 5.2).
BOOT_SECTOR, BOOT_SIGNATURE = 512, b"\x55\xaa"


def prepare(config: HypervisorConfig, context: Context, pid: int = 0) -> tuple[HypervisorConfig, tuple[int, int, int]]:
    """A copy of the configuration, checked and complete, and the version of its QEMU.

    :param pid: the sandbox's QEMU, which ends before another one is started; 0 where none runs

    :raises ConfigError: an option is missing, contradictory or impossible
    :raises AssetError: a kernel, image, initrd or the binary cannot be used
    :raises HostError: the host lacks memory
    """
    config = dataclasses.replace(config, kernel_params=list(config.kernel_params), boot=config.boot or "auto")
    config.check_consistent()
    machine = machine_named(config.hypervisor_machine_type)
    config.hypervisor_machine_type = machine.name
    config.default_max_vcpus = config.default_max_vcpus or max(config.num_vcpus, 1, os.cpu_count() or 1)
    config.valid(machine.architecture.max_vcpus)
    _check_machine(config, machine)
    config.root_ports = config.root_ports or machine.root_ports
    config.mem_slots = config.mem_slots or 10
    config.accelerator = config.accelerator or "auto"
    _plan_memory(config, context, machine)
    config.check_consistent()
    _check_words(config)
    check_boot_files(config)
    if config.image_path and config.image_format == "qcow2" and image_driver(config) not in IMAGE_AS_MEMORY:
        from ...host.qcow2 import check_image

        check_image(config.image_path, config.image_format, "image_path")
    if config.boots_firmware:
        _check_boot_sector(config)
    _check_places(config, pid)
    if config.firmware_vars_path:
        from .firmware import check_firmware

        check_firmware(config, context)
    _check_unserved(config)
    _check_reboot(config)
    _check_user(config, context)
    for name in SOCKETS:
        socket_path(context.run_dir, name)
    config.hypervisor_path = find_binary(config.hypervisor_path, machine.architecture)
    version = known_version(config.hypervisor_path, context)
    if machine.root_bus == "pcie.0" and machine.has_bridges and version < ACPI_BRIDGES:
        config.root_ports = config.root_ports or PORTS_WITHOUT_ACPI
    return config, version


def known_version(binary: str, context: Context) -> tuple[int, int, int]:
    """The version of a QEMU that was started since the last boot from memory, else from itself."""
    known = cache_get(_versions(context), fingerprint(binary))
    return (known[0], known[1], known[2]) if isinstance(known, list) and len(known) == 3 else version_of(binary)


def keep_version(binary: str, version: list[int], context: Context) -> None:
    """Remember the version of a QEMU that starts; asking it costs a quarter of its start."""
    if cache_get(_versions(context), fingerprint(binary)) != version:
        cache_put(_versions(context), {fingerprint(binary): version})


def _versions(context: Context) -> str:
    return os.path.join(os.path.dirname(context.run_dir), "qemu-versions.json")


def _check_machine(config: HypervisorConfig, machine: Machine) -> None:
    """Refuse what the machine type does not have."""
    name, architecture = machine.name, machine.architecture
    if config.num_vcpus > architecture.max_vcpus:
        raise ConfigError(
            f"machine type {name} has {architecture.max_vcpus} vCPUs at most", option="vcpus", wanted=config.num_vcpus
        )
    if boot_memory_mb(config) % machine.boot_memory_block_mb:
        raise ConfigError(
            f"the memory of machine type {name} comes in blocks of {machine.boot_memory_block_mb} MiB",
            option="memory_mb" if boot_memory_mb(config) == config.memory_size else "max_memory_mb",
            wanted=boot_memory_mb(config),
            fix=f"Give a multiple of {machine.boot_memory_block_mb}.",
        )
    if config.accelerator == "kvm" and not architecture.is_native:
        raise ConfigError(
            f"KVM runs guests of the host's own architecture, and machine type {name} is {architecture.name}",
            option="accelerator",
            wanted="kvm",
            fix="Leave accelerator out, or choose tcg.",
        )
    if config.root_disk_path and image_driver(config) in IMAGE_AS_MEMORY:
        raise ConfigError(
            "a root disk is one that the guest reads and writes by blocks",
            option="image_driver",
            wanted=config.image_driver,
            fix="Set image_driver to virtio-blk or virtio-scsi, or omit root_disk_mb.",
        )
    if config.image_path and not config.root_disk_path and dax_offset(config.image_path):
        config.image_driver = config.image_driver or "nvdimm"
        if config.image_driver != "nvdimm":
            raise ConfigError(
                "this image was made to be mapped, and is one only as an NVDIMM",
                option="image_driver",
                wanted=config.image_driver,
                fix="Choose nvdimm.",
            )
    if config.image_path and config.image_driver and config.image_driver not in machine.image_drivers:
        raise ConfigError(
            f"machine type {name} has no room for an image on {config.image_driver}",
            option="image_driver",
            wanted=config.image_driver,
            fix=f"Choose one of {', '.join(machine.image_drivers)}.",
        )
    if config.boots_firmware:
        _check_firmware_boot(config, machine)
    if config.firmware_vars_path and not machine.pflash:
        raise ConfigError(
            f"machine type {name} has no flash memory for a firmware",
            option="firmware_vars_path",
            wanted=config.firmware_vars_path,
            fix=f"Set machine_type to one of {', '.join(one.name for one in MACHINES.values() if one.pflash)}.",
        )
    if config.root_ports and (machine.root_bus != "pcie.0" or not machine.has_bridges):
        raise ConfigError(
            f"machine type {name} has no PCI Express root",
            option="root_ports",
            wanted=config.root_ports,
            fix="Choose q35 or virt.",
        )
    if machine.has_bridges and config.default_bridges + config.root_ports > MOST_BRIDGES:
        raise ConfigError(
            f"there is room for {MOST_BRIDGES} bridges and root ports together",
            option="root_ports" if config.root_ports else "bridges",
            wanted=config.root_ports or config.default_bridges,
        )


def _check_firmware_boot(config: HypervisorConfig, machine: Machine) -> None:
    """Refuse a machine type or a disk that no firmware boots from."""
    if not machine.boots_disks:
        known = [one.name for one in MACHINES.values() if one.boots_disks]
        raise ConfigError(
            f"machine type {machine.name} has no firmware that boots an image",
            option="machine_type",
            wanted=machine.name,
            fix=f"Set machine_type to one of {', '.join(known)}, or boot from a kernel (kernel_path).",
        )
    if machine.boots_disks == "given" and not config.firmware_path:
        raise ConfigError(
            f"machine type {machine.name} must be given the firmware that boots an image",
            option="firmware_path",
            fix="Set firmware_path and firmware_vars_path (role kata.hypervisor.kata_firmware), or boot from a kernel (kernel_path).",
        )
    if image_driver(config) in IMAGE_AS_MEMORY:
        raise ConfigError(
            f"a firmware cannot boot an image on {image_driver(config)}",
            option="image_driver",
            wanted=image_driver(config),
            fix="Set image_driver to virtio-blk or virtio-scsi, or boot from a kernel (kernel_path).",
        )


def _check_boot_sector(config: HypervisorConfig) -> None:
    """Refuse a raw image that no firmware boots: the guest would wait for ever, without a word."""
    if (config.image_format or "raw") != "raw":
        return
    try:
        with open(config.image_path, "rb") as stream:
            sector = stream.read(BOOT_SECTOR)
    except OSError as error:
        raise AssetError(
            "the image must be readable", option="image_path", wanted=config.image_path, answer=str(error)
        ) from error
    if sector.startswith(MAGIC):
        raise ConfigError(
            "the image is qcow2, and is used as a raw one",
            option="image_format",
            wanted=config.image_format or "raw",
            fix="Set image_format: qcow2.",
        )
    if sector[-len(BOOT_SIGNATURE) :] != BOOT_SIGNATURE or len(sector) != BOOT_SECTOR:
        raise AssetError(
            "the image must have a partition table or a boot sector, or no firmware starts it",
            option="image_path",
            wanted=config.image_path,
            fix="Use a disk image with a boot loader, or boot from a kernel (kernel_path).",
        )


def _plan_memory(config: HypervisorConfig, context: Context, machine: Machine) -> None:
    host_mb = proc.read_host_memory_mb(context.meminfo)
    if config.memory_size > host_mb:
        raise HostError(
            f"the host has {host_mb} MiB of memory", option="memory_mb", wanted=config.memory_size, fix="Ask for less."
        )
    ways = (*machine.memory, "balloon", "none")
    if config.memory_hotplug and config.memory_hotplug not in ways:
        raise ConfigError(
            f"machine type {machine.name} cannot change its memory this way",
            option="memory_hotplug",
            wanted=config.memory_hotplug,
            fix=f"Choose one of {', '.join(ways)}.",
        )
    config.memory_hotplug = config.memory_hotplug or (*machine.memory, "none")[0]
    if config.memory_hotplug in ("balloon", "none"):
        config.max_memory_mb = config.max_memory_mb or config.memory_size
    elif not config.max_memory_mb:
        headroom = min(max(config.memory_size, DEFAULT_HEADROOM_MB), max(host_mb - config.memory_size, 0))
        config.max_memory_mb = config.memory_size + headroom // VIRTIO_MEM_BLOCK_MB * VIRTIO_MEM_BLOCK_MB
    if config.memory_hotplug == "virtio-mem" and (config.max_memory_mb - config.memory_size) % VIRTIO_MEM_BLOCK_MB:
        raise ConfigError(
            f"virtio-mem grows in blocks of {VIRTIO_MEM_BLOCK_MB} MiB: memory_mb must be {config.max_memory_mb} less a multiple of that",
            option="memory_mb",
            wanted=config.memory_size,
            fix="Give another memory_mb or max_memory_mb.",
        )


def _check_places(config: HypervisorConfig, pid: int) -> None:
    """Refuse a memory directory or a source of randomness that is not there: QEMU would say so only when it starts."""
    for option, path in (
        ("file_mem_backend", config.file_backed_mem_root_dir),
        ("huge_pages", "/dev/hugepages" if config.huge_pages else ""),
    ):
        if path and not os.path.isdir(path):
            raise AssetError("the directory for the guest's memory does not exist", option=option, wanted=path)
    if config.huge_pages:
        proc.check_huge_pages(boot_memory_mb(config), pid)
    if config.entropy_source and not os.path.exists(config.entropy_source):
        raise AssetError("there is no such source of randomness", option="entropy_source", wanted=config.entropy_source)


def _check_unserved(config: HypervisorConfig) -> None:
    """Refuse what is known of Kata 1.x, and what QEMU has another way for, or none."""
    if config.virtio_fs_cache_size and config.shared_fs == "virtio-fs":
        raise Unsupported(
            "QEMU has no shared window for virtio-fs",
            option="virtio_fs_cache_size_mb",
            wanted=config.virtio_fs_cache_size,
            fix="Give 0.",
        )
    if config.use_vsock:
        raise Unsupported(
            "a vsock is a device here", option="use_vsock", fix="List one of type vsock, with a cid, in devices."
        )


def _check_reboot(config: HypervisorConfig) -> None:
    """Refuse a restart that a VM cannot do, and say what it does where nobody has."""
    if config.on_reboot == "restart" and not config.reboots:
        raise Unsupported(
            "a template and its clones have no kernel to start again from",
            option="on_reboot",
            wanted=config.on_reboot,
            fix="Omit on_reboot: a restart of such a guest ends its VM, and state=started starts it from the template.",
        )
    config.on_reboot = "restart" if config.reboots else "stop"


def _check_user(config: HypervisorConfig, context: Context) -> None:
    """Refuse what the user that QEMU shall run as may not open."""
    if not config.vmm_user:
        return
    from ...host.facts import nearest_directory
    from ...host.users import Wanted, check_access, user_named

    named = (
        ("kernel_path", config.kernel_path, "r"),
        ("initrd_path", config.initrd_path, "r"),
        ("image_path", config.image_path, "r"),
        ("initramfs_path", config.initramfs_path, "r"),
        ("firmware_path", "" if config.firmware_vars_path else config.firmware_path, "r"),
        ("entropy_source", config.entropy_source, "r"),
        ("file_mem_backend", config.file_backed_mem_root_dir, "rwx"),
        ("huge_pages", "/dev/hugepages" if config.huge_pages else "", "rwx"),
        ("template", config.memory_path if config.boot_from_template else "", "rw"),
        ("run_dir", nearest_directory(os.path.dirname(os.path.dirname(context.run_dir))), "x"),
    )
    check_access(user_named(config.vmm_user), [Wanted(*file) for file in named if file[1]])


def _check_words(config: HypervisorConfig) -> None:
    """Refuse what would be read as more than one word of an option that QEMU takes as text."""
    word = r"[A-Za-z0-9_-]+(=[A-Za-z0-9_.-]+)?"
    for option, value, pattern in (
        ("cpu_model", config.cpu_model, r"[A-Za-z0-9_.-]+(,[+-]?[A-Za-z0-9_.-]+(=[A-Za-z0-9_.-]+)?)*"),
        ("machine_accelerators", config.machine_accelerators, rf"{word}(,{word})*"),
    ):
        if value and not re.fullmatch(pattern, value):
            raise ConfigError("this is not a list of names QEMU could know", option=option, wanted=value)
