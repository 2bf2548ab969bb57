# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Between the vectors' configurations (Go field names, only what is not zero) and HypervisorConfig."""

from __future__ import annotations

import dataclasses
from typing import Any

from adapters.fields import Fields
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.options.kernel_params import Param

GO_NAMES = {
    "num_vcpus": "NumVCPUs",
    "default_max_vcpus": "DefaultMaxVCPUs",
    "memory_size": "MemorySize",
    "default_bridges": "DefaultBridges",
    "msize_9p": "Msize9p",
    "mem_slots": "MemSlots",
    "mem_offset": "MemOffset",
    "virtio_fs_cache_size": "VirtioFSCacheSize",
    "kernel_params": "KernelParams",
    "hypervisor_params": "HypervisorParams",
    "kernel_path": "KernelPath",
    "image_path": "ImagePath",
    "initrd_path": "InitrdPath",
    "firmware_path": "FirmwarePath",
    "machine_accelerators": "MachineAccelerators",
    "hypervisor_path": "HypervisorPath",
    "hypervisor_ctl_path": "HypervisorCtlPath",
    "jailer_path": "JailerPath",
    "block_device_driver": "BlockDeviceDriver",
    "hypervisor_machine_type": "HypervisorMachineType",
    "memory_path": "MemoryPath",
    "devices_state_path": "DevicesStatePath",
    "entropy_source": "EntropySource",
    "shared_fs": "SharedFS",
    "virtio_fs_daemon": "VirtioFSDaemon",
    "virtio_fs_cache": "VirtioFSCache",
    "block_device_cache_set": "BlockDeviceCacheSet",
    "block_device_cache_direct": "BlockDeviceCacheDirect",
    "block_device_cache_noflush": "BlockDeviceCacheNoflush",
    "disable_block_device_use": "DisableBlockDeviceUse",
    "enable_iothreads": "EnableIOThreads",
    "debug": "Debug",
    "mem_prealloc": "MemPrealloc",
    "huge_pages": "HugePages",
    "file_backed_mem_root_dir": "FileBackedMemRootDir",
    "realtime": "Realtime",
    "mlock": "Mlock",
    "disable_nesting_checks": "DisableNestingChecks",
    "use_vsock": "UseVSock",
    "hotplug_vfio_on_root_bus": "HotplugVFIOOnRootBus",
    "boot_to_be_template": "BootToBeTemplate",
    "boot_from_template": "BootFromTemplate",
    "disable_vhost_net": "DisableVhostNet",
    "guest_hook_path": "GuestHookPath",
    "vm_id": "VMid",
}
#: Files that take the place of configured ones, by kind: they are ordinary options here.
ASSETS = "_customAssets"
FIELDS = {go_name: name for name, go_name in GO_NAMES.items()}
PARAM_FIELDS = ("kernel_params", "hypervisor_params")


def config_from_go(values: Any) -> HypervisorConfig:
    """A recorded configuration.

    :raises ConfigError: it has a field that there is not, or a value of another type
    """
    config, given = HypervisorConfig(on_reboot="stop"), Fields(values)
    readers = {str: given.text, int: given.number, bool: given.flag}
    for go_name in given.values:
        if go_name == ASSETS:
            continue
        if go_name not in FIELDS:
            raise ConfigError("a configuration has no such field", wanted=go_name)
        name = FIELDS[go_name]
        usual = getattr(config, name)
        if name in PARAM_FIELDS:
            value: Any = [Param(item.text("Key"), item.text("Value")) for item in given.tables(go_name)]
        else:
            value = readers[type(usual)](go_name)
        setattr(config, name, value)
    return config


def custom_assets(values: Any) -> dict[str, str]:
    """The files of a recorded configuration that take the place of configured ones, by their kind.

    :raises ConfigError: one is no text
    """
    assets = Fields(values).table(ASSETS)
    return {kind: assets.text(kind) for kind in assets.values}


def config_to_go(config: HypervisorConfig) -> dict[str, Any]:
    values = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if not value or field.name not in GO_NAMES:
            continue  # Empty, or an option that Kata 1.x does not have.
        if field.name in PARAM_FIELDS:
            value = [{"Key": param.key, "Value": param.value} for param in value]
        values[GO_NAMES[field.name]] = value
    return values
