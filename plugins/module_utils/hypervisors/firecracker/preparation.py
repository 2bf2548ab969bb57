# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be known to be wrong with a configuration before anything is touched, and what nobody said filled in."""

from __future__ import annotations

import dataclasses
import os
import re
from typing import Any

from ...errors import AssetError, ConfigError, HostError, Unsupported
from ...host import proc
from ...host.proc import check_huge_pages, read_cpu_vendor
from ...host.programs import check_program, find_program
from ...options.config import HypervisorConfig
from ...records.layout import socket_path
from ...untrusted.answers import AnswerError, parsed
from ...untrusted.files import Directory, UntrustedFile
from ..base import Context
from ..common.boot_files import check_boot_files
from . import binary, jailer, requests
from .api import dialect, shapes
from .api.endpoints import Version
from .names import API_SOCKET
from .state import Jail

#: Placeholder drives of one VM; more would leave a guest without names that people expect.
MAX_PLACEHOLDERS = 16
#: Options that only mean something in a jail.
JAIL_OPTIONS = ("jailer_uid", "jailer_gid", "chroot_base_dir", "network_namespace", "jailer_cgroups", "jailer_limits")
#: The vendor whose CPUs each template is for (Firecracker, docs/cpu_templates/cpu-templates.md).
CPU_TEMPLATES = {
    "C3": "GenuineIntel",
    "T2": "GenuineIntel",
    "T2CL": "GenuineIntel",
    "T2S": "GenuineIntel",
    "T2A": "AuthenticAMD",
}
#: What `HypervisorConfig.valid` fills in that Firecracker knows nothing of.
FOREIGN = ("default_max_vcpus", "default_bridges", "msize_9p", "block_device_driver")


def prepare(config: HypervisorConfig, context: Context, pid: int = 0) -> tuple[HypervisorConfig, Version, Jail | None]:
    """A copy of the configuration, checked and complete, its Firecracker's version, and its jail.

    :param pid: the sandbox's Firecracker, which ends before another one is started; 0 where none runs

    :raises ConfigError: an option is missing, contradictory or impossible
    :raises AssetError: a kernel, image, initrd or binary cannot be used
    :raises Unsupported: the version lacks something, or is known to be vulnerable
    :raises HostError: the host lacks memory, or has no safe place for a jail
    """
    config = dataclasses.replace(config, kernel_params=list(config.kernel_params))
    config.check_consistent()
    requests.check_driver(config.block_device_driver, "block_device_driver")
    config.valid(dialect.MAX_VCPUS)
    for name in FOREIGN:
        setattr(config, name, type(getattr(config, name))())
    if config.num_vcpus > dialect.MAX_VCPUS:
        raise ConfigError(
            f"Firecracker gives a VM at most {dialect.MAX_VCPUS} vCPUs", option="vcpus", wanted=config.num_vcpus
        )
    config.hypervisor_path = find_program(config.hypervisor_path, binary.PLACES, "Firecracker")
    version = binary.version_of(config.hypervisor_path, "Firecracker", "hypervisor_path")
    if not config.allow_vulnerable_vmm:
        binary.refuse_holes(version, "hypervisor_path", config.hypervisor_path, pci=config.enable_pci)
    check_boot_files(config)
    if config.root_disk_path and config.root_disk_format != "raw":
        raise Unsupported(
            "Firecracker reads raw disks",
            option="root_disk_mb",
            wanted=config.root_disk_format,
            fix="Create a raw disk.",
        )
    _check_features(config, version, context)
    _plan_memory(config, version, context)
    if config.huge_pages and not (
        config.boot_to_be_template or config.boot_from_template
    ):  # These have none, whatever the host has.
        check_huge_pages(config.memory_size, pid)
    jail = _plan_jail(config, version, context)
    if jail is None:
        socket_path(context.run_dir, API_SOCKET)
    return config, version, jail


def _check_features(config: HypervisorConfig, version: Version, context: Context) -> None:
    for wanted, feature, option in (
        (config.initrd_path, "initrd", "initrd_path"),
        (config.track_dirty_pages, "dirty_pages", "track_dirty_pages"),
        (config.huge_pages, "huge_pages", "huge_pages"),
        (config.enable_pci, "pci", "enable_pci"),
        (config.mmds_size_limit, "mmds_size_limit", "mmds_size_limit"),
        (config.vmm_log_level, "log_arguments", "vmm_log_level"),
    ):
        if wanted:
            dialect.require(version, feature, option, wanted)
    if config.entropy_device:
        dialect.require_endpoint(version, "PUT", "/entropy", "entropy device", "entropy_device", True)
    if config.console_rate_limit:
        dialect.require(version, "console_limit", "console_rate_limit", config.console_rate_limit)
    if config.cpu_config_path:
        dialect.require_endpoint(
            version, "PUT", "/cpu-config", "CPU configurations", "cpu_config_path", config.cpu_config_path
        )
        if config.cpu_template:
            raise ConfigError(
                "there is one of the two",
                option="cpu_template",
                wanted=config.cpu_template,
                fix="Leave cpu_config_path out.",
            )
        read_cpu_config(config.cpu_config_path)
    vendor = CPU_TEMPLATES.get(config.cpu_template, "")
    if vendor and read_cpu_vendor(context.cpuinfo) != vendor:
        raise HostError(
            f"the CPU template {config.cpu_template} needs a CPU of {vendor}",
            option="cpu_template",
            wanted=config.cpu_template,
            answer=f"this host's CPU is of {read_cpu_vendor(context.cpuinfo) or 'an unknown vendor'}",
            fix="Choose another template, or leave cpu_template out.",
        )
    if config.placeholder_drives > MAX_PLACEHOLDERS:
        raise ConfigError(
            f"there are at most {MAX_PLACEHOLDERS}", option="placeholder_drives", wanted=config.placeholder_drives
        )


def _is_namespace(path: str) -> bool:
    """Does a path lead to a namespace? They all lie on one file system of the kernel's."""
    try:
        return os.stat(path).st_dev == os.stat("/proc/self/ns/net").st_dev
    except OSError:
        return False


def read_cpu_config(path: str) -> dict[str, Any]:
    """A CPU configuration out of its file (API description, CpuConfig).

    :raises AssetError: there is none, it is no JSON object, or it is larger than a request may be
    """
    try:
        directory, name = os.path.split(os.path.realpath(path))
        with Directory.open(directory) as place:
            content = parsed(place.read(name, requests.LARGEST_REQUEST), "the file", requests.LARGEST_REQUEST)
    except (OSError, UntrustedFile, AnswerError) as error:
        raise AssetError(
            "this CPU configuration cannot be read", option="cpu_config_path", wanted=path, answer=str(error)
        ) from error
    if not isinstance(content, dict):
        raise AssetError("this is no CPU configuration but another JSON value", option="cpu_config_path", wanted=path)
    return content


def _plan_memory(config: HypervisorConfig, version: Version, context: Context) -> None:
    host_mb = proc.read_host_memory_mb(context.meminfo)
    if config.memory_size > host_mb:
        raise HostError(
            f"the host has {host_mb} MiB of memory", option="memory_mb", wanted=config.memory_size, fix="Ask for less."
        )
    if config.memory_hotplug not in ("", "none", "virtio-mem"):
        raise Unsupported(
            "Firecracker plugs memory by virtio-mem", option="memory_hotplug", wanted=config.memory_hotplug
        )
    if config.max_memory_mb > shapes.MIB.most:
        raise ConfigError(
            f"this must be at most {shapes.MIB.most}", option="max_memory_mb", wanted=config.max_memory_mb
        )
    if requests.region_size(config):
        dialect.require_endpoint(
            version, "PUT", "/hotplug/memory", "memory hotplug", "max_memory_mb", config.max_memory_mb
        )
        config.memory_hotplug = "virtio-mem"
        config.max_memory_mb = config.memory_size + requests.region_size(config)
    elif config.memory_hotplug == "virtio-mem":
        raise ConfigError(
            "memory can only be plugged in where max_memory_mb is above memory_mb",
            option="max_memory_mb",
            wanted=config.max_memory_mb,
        )


def _plan_jail(config: HypervisorConfig, version: Version, context: Context) -> Jail | None:
    found = find_jailer(config)
    if not found:
        for option in JAIL_OPTIONS:
            if getattr(config, option):
                raise ConfigError(
                    "this only means something in a jail",
                    option=option,
                    wanted=getattr(config, option),
                    fix="Give jailer_path too.",
                )
        if os.geteuid() == 0 and config.jailer != "none":
            raise ConfigError(
                "Firecracker would run as root and outside of a jail: there is no jailer beside it",
                option="jailer_path",
                wanted=config.hypervisor_path,
                fix="Install the jailer beside Firecracker (role kata_vmm does), name it with jailer_path, or accept that with jailer: none.",
            )
        return None
    path = check_program(found, "jailer_path")
    config.jailer_path = path
    own = binary.version_of(path, "Jailer", "jailer_path")
    if not config.allow_vulnerable_vmm:
        binary.refuse_holes(own, "jailer_path", path, jailer=True)
    if os.geteuid() != 0:
        raise HostError("only root can make a jail", option="jailer_path", wanted=path, fix="Run the task with become.")
    firecracker = os.path.realpath(config.hypervisor_path)
    if tuple(own) < (1, 13) and "firecracker" not in os.path.basename(firecracker):
        raise ConfigError(
            f"jailer {dialect.shown(own)} only runs programs whose name has firecracker in it",
            option="hypervisor_path",
            wanted=firecracker,
        )
    if config.jailer_cgroups:
        dialect.require(own, "cgroups", "jailer_cgroups", config.jailer_cgroups)
    if config.jailer_limits:
        dialect.require(own, "resource_limits", "jailer_limits", config.jailer_limits)
    for key, value in config.jailer_limits:
        if key not in ("fsize", "no-file") or not value.isdigit():
            raise ConfigError(
                "the limits are fsize=BYTES and no-file=COUNT", option="jailer_limits", wanted=f"{key}={value}"
            )
    for key, value in config.jailer_cgroups:
        if not re.fullmatch(r"[a-z0-9_]+(\.[A-Za-z0-9_]+)+", key) or not value or "=" in value:
            raise ConfigError(
                "this is no setting of a cgroup, such as cpu.shares=512",
                option="jailer_cgroups",
                wanted=f"{key}={value}",
            )
    if config.network_namespace and not _is_namespace(config.network_namespace):
        raise AssetError(
            "there is no such network namespace", option="network_namespace", wanted=config.network_namespace
        )
    config.chroot_base_dir = config.chroot_base_dir or default_base(context)
    jailer.check_base(config.chroot_base_dir)
    return jailer.plan_jail(config, own_name(config, context), config.chroot_base_dir, os.path.basename(firecracker))


def find_jailer(config: HypervisorConfig) -> str:
    """The jailer that a VM gets: the one that the task names, else one beside Firecracker where the task is root's; empty for none.

    :raises ConfigError: one is named and none is wanted
    """
    named = config.jailer_path
    if config.jailer == "none":
        if named:
            raise ConfigError(
                "jailer: none and jailer_path exclude each other",
                option="jailer_path",
                wanted=named,
                fix="Leave one of them out.",
            )
        return ""
    if named or os.geteuid() != 0:
        return named
    directory, name = os.path.split(os.path.realpath(config.hypervisor_path))
    # In a release, both have the version in their names.
    beside = (
        os.path.join(directory, other)
        for other in dict.fromkeys((name.replace("firecracker", "jailer"), "jailer"))
        if other != name
    )
    return next((path for path in beside if os.access(path, os.X_OK)), "")


def own_name(config: HypervisorConfig, context: Context) -> str:
    """What its jail is called after. A template may have the id of a sandbox, whose ids begin with no dot."""
    return f".template-{context.sandbox_id}" if config.boot_to_be_template else context.sandbox_id


def tap_owner(config: HypervisorConfig, context: Context) -> str:
    """What its taps are called after: the whole host sees them."""
    return f".template-{context.host_name}" if config.boot_to_be_template else context.host_name


def default_base(context: Context) -> str:
    """Where jails go when nobody says: beside the sandboxes, since /run is mounted nodev on most hosts."""
    return os.path.join(os.path.dirname(os.path.dirname(context.state_dir)), "jails")
