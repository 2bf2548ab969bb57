# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HypervisorConfig: everything a sandbox's VM can be told, each field declared once.

The fields and the validation are those of Kata Containers 1.x; the last group of fields is ours.
"""

from __future__ import annotations

import dataclasses

from ansible_collections.kata.hypervisor.plugins.module_utils.fields import Cost, option
from ansible_collections.kata.hypervisor.plugins.module_utils.params import Param

LIVE_ON_QEMU = {"qemu": Cost.LIVE, "firecracker": Cost.RESTART, "acrn": Cost.RESTART, "mock": Cost.LIVE}
QEMU = ("qemu", "mock")
QEMU_FIRECRACKER = ("qemu", "firecracker", "mock")
ACRN = ("acrn", "mock")
FIRECRACKER = ("firecracker", "mock")


@dataclasses.dataclass
class HypervisorConfig:
    """The configuration of one sandbox's VM.

    Numbers are counts unless a unit is given. Zero and empty mean "not said"; L(valid) fills in the original's defaults.
    """

    num_vcpus: int = option(0, "vcpus", "num_vcpus", "default_vcpus", type="int", unit="count", cost=LIVE_ON_QEMU)
    default_max_vcpus: int = option(
        0, "max_vcpus", "default_max_vcpus", "default_maxvcpus", type="int", unit="count", only=QEMU
    )
    memory_size: int = option(0, "memory_mb", "memory_size", "default_memory", type="int", unit="MiB", cost=LIVE_ON_QEMU)
    default_bridges: int = option(0, "bridges", "default_bridges", type="int", unit="count", only=QEMU)
    msize_9p: int = option(0, "msize_9p", type="int", unit="bytes", only=QEMU)
    mem_slots: int = option(0, "memory_slots", "mem_slots", type="int", unit="count", only=QEMU)
    mem_offset: int = option(0, "memory_offset_mb", "memory_offset", "mem_offset", type="int", unit="MiB", only=QEMU)
    virtio_fs_cache_size: int = option(
        0, "virtio_fs_cache_size_mb", "virtio_fs_cache_size", type="int", unit="MiB", only=QEMU
    )
    kernel_params: list[Param] = option(list, "kernel_params", type="list", elements="str")
    hypervisor_params: list[Param] = option(list)
    kernel_path: str = option("", "kernel_path", "kernel", type="path")
    image_path: str = option("", "image_path", "image", type="path")
    initrd_path: str = option("", "initrd_path", "initrd", type="path", only=QEMU_FIRECRACKER)
    firmware_path: str = option("", "firmware_path", "firmware", type="path", only=QEMU)
    machine_accelerators: str = option("", "machine_accelerators", only=QEMU)
    hypervisor_path: str = option("", "hypervisor_path", "path", type="path")
    hypervisor_ctl_path: str = option("", "hypervisor_ctl_path", "ctlpath", type="path", only=ACRN)
    jailer_path: str = option("", "jailer_path", type="path", only=FIRECRACKER)
    block_device_driver: str = option(
        "",
        "block_device_driver",
        choices=("virtio-scsi", "virtio-blk", "virtio-mmio", "nvdimm"),
        only=QEMU_FIRECRACKER,
    )
    hypervisor_machine_type: str = option("", "machine_type", only=QEMU)
    memory_path: str = option("")
    devices_state_path: str = option("")
    entropy_source: str = option("", "entropy_source", type="path", default="/dev/urandom", only=QEMU)
    shared_fs: str = option("", "shared_fs", choices=("virtio-9p", "virtio-fs"), only=QEMU)
    virtio_fs_daemon: str = option("", "virtio_fs_daemon", type="path", only=QEMU)
    virtio_fs_cache: str = option("", "virtio_fs_cache", choices=("none", "auto", "always"), only=QEMU)
    block_device_cache_set: bool = option(False, "block_device_cache_set", type="bool", only=QEMU)
    block_device_cache_direct: bool = option(False, "block_device_cache_direct", type="bool", only=QEMU)
    block_device_cache_noflush: bool = option(False, "block_device_cache_noflush", type="bool", only=QEMU)
    disable_block_device_use: bool = option(False)
    enable_iothreads: bool = option(False, "enable_iothreads", type="bool", only=QEMU)
    debug: bool = option(False, "debug", "enable_debug", type="bool")
    mem_prealloc: bool = option(False, "memory_prealloc", "enable_mem_prealloc", type="bool", only=QEMU)
    huge_pages: bool = option(False, "huge_pages", "enable_hugepages", type="bool", only=QEMU_FIRECRACKER)
    file_backed_mem_root_dir: str = option("", "file_mem_backend", type="path", only=QEMU)
    realtime: bool = option(False, "realtime", type="bool", only=QEMU)
    mlock: bool = option(False, "mlock", type="bool", only=QEMU)
    disable_nesting_checks: bool = option(False, "disable_nesting_checks", type="bool", only=QEMU)
    use_vsock: bool = option(False, "use_vsock", type="bool", only=QEMU_FIRECRACKER)
    hotplug_vfio_on_root_bus: bool = option(False, "hotplug_vfio_on_root_bus", type="bool", only=QEMU)
    boot_to_be_template: bool = option(False)
    boot_from_template: bool = option(False)
    disable_vhost_net: bool = option(False, "disable_vhost_net", type="bool", only=QEMU)
    guest_hook_path: str = option("")
    vm_id: str = option("")

    # Beyond Kata 1.x.
    accelerator: str = option("", "accelerator", choices=("auto", "kvm", "tcg"), default="auto", only=QEMU)
    cpu_model: str = option("", "cpu_model", only=QEMU)
    max_memory_mb: int = option(0, "max_memory_mb", type="int", unit="MiB", only=QEMU_FIRECRACKER)
    memory_hotplug: str = option(
        "", "memory_hotplug", choices=("virtio-mem", "pc-dimm", "none"), only=QEMU_FIRECRACKER
    )
    image_driver: str = option(
        "", "image_driver", choices=("virtio-blk", "virtio-scsi", "virtio-pmem", "nvdimm"), only=QEMU
    )
    image_format: str = option("", "image_format", choices=("raw", "qcow2"), only=QEMU)
