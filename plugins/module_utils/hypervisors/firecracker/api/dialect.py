# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What versions of Firecracker call things and what they can do. Pure."""

from __future__ import annotations

import dataclasses
import re

from ....errors import Unsupported
from ...base import Capabilities
from .endpoints import RUNNING, Version, has

#: The newest version whose words are known here; what is newer is spoken to as if it were this one.
NEWEST = (1, 16, 1)
#: vCPUs of one VM (API description, MachineConfiguration).
MAX_VCPUS = 32


@dataclasses.dataclass(frozen=True)
class Dialect:
    """The words of a range of versions.

    :param smt: the name of the option for two threads a core
    :param always_smt: it must be given
    :param logger_fifos: logs and metrics go through one request, and into pipes
    :param mem_backend: a snapshot's memory is named by a backend
    :param rescan: a guest has to be told of another file behind a disk
    :param old_jailer: the jailer chooses the filter of system calls and the socket, and takes no words for Firecracker
    """

    name: str
    smt: str
    always_smt: bool
    logger_fifos: bool
    mem_backend: bool
    rescan: bool = False
    old_jailer: bool = False


#: The words of 2019, which Kata 1.x spoke.
CLASSIC = Dialect(
    "classic", "ht_enabled", always_smt=True, logger_fifos=True, mem_backend=False, rescan=True, old_jailer=True
)
LEGACY = Dialect("legacy", "ht_enabled", always_smt=True, logger_fifos=True, mem_backend=False)
MIDDLE = Dialect("0.23-0.25", "ht_enabled", always_smt=True, logger_fifos=False, mem_backend=False)
V1 = Dialect("v1", "smt", always_smt=False, logger_fifos=False, mem_backend=True)


def dialect_for(version: Version) -> Dialect:
    """The dialect of a version."""
    if tuple(version) >= (1, 0):
        return V1
    if tuple(version) >= (0, 23):
        return MIDDLE
    return LEGACY if tuple(version) >= (0, 21) else CLASSIC


#: The first version of what the API alone does not tell.
FEATURES: dict[str, tuple[Version, str]] = {
    "initrd": ((0, 21), "initrd"),
    "log_arguments": ((0, 22), "option for its log file"),
    "limits_alone": ((0, 24), "change of a disk's limits without its file"),
    "parent_cgroup": ((1, 0), "choice of the parent cgroup"),
    "mmds_size_limit": ((1, 1), "choice of the size of the metadata store"),
    "clock_realtime": ((1, 16), "option to advance a restored VM's clock"),
    "cache": ((0, 25), "choice of a disk's cache"),
    "io_engine": ((1, 0), "choice of a disk's I/O engine"),
    "dirty_pages": ((0, 23), "tracking of dirty pages"),
    "vhost_user_block": ((1, 6), "vhost-user disks"),
    "huge_pages": ((1, 7), "huge pages"),
    "mtu": ((1, 16), "choice of an interface's MTU"),
    "pci": ((1, 13), "PCI"),
    "cgroups": ((0, 23), "cgroup settings of the jailer"),
    "pid_namespace": ((0, 25), "PID namespace of its own"),
    "cgroup_version": ((1, 0), "choice of the cgroup version"),
    "resource_limits": ((0, 25), "resource limits of the jailer"),
    "page_hints": ((1, 14), "free page hinting of the balloon"),
    "pmem_limit": ((1, 16), "limits of persistent memory"),
    "console_limit": ((1, 16), "limit of the serial console"),
    "metadata": ((1, 0), "metadata service in its current form"),
    "imds_compat": ((1, 13), "EC2 mode of the metadata service"),
    "network_overrides": ((1, 12), "option to give a restored VM other taps"),
    "vsock_override": ((1, 16), "option to give a restored VM another vsock socket"),
}


def can(version: Version, feature: str) -> bool:
    """Does a version have a feature out of `FEATURES`?"""
    return tuple(version) >= FEATURES[feature][0]


def balloon_word(version: Version) -> str:
    """What a balloon's size is called; a patch release changed it."""
    return "amount_mib" if tuple(version) >= (0, 24, 3) else "amount_mb"


def dirty_pages_word(version: Version) -> str:
    """What a load of a snapshot calls the tracking of dirty pages."""
    return "track_dirty_pages" if tuple(version) >= (1, 13) else "enable_diff_snapshots"


def require(version: Version, feature: str, option: str, wanted: object) -> None:
    """Refuse a feature that a version lacks.

    :raises Unsupported: names the version that has it
    """
    if not can(version, feature):
        since, words = FEATURES[feature]
        raise lacks(version, words, since, option, wanted)


def require_endpoint(
    version: Version, method: str, path: str, what: str, option: str = "", wanted: object = None
) -> None:
    """Refuse what takes a request that a version does not have.

    :raises Unsupported: names the version that has it
    """
    from .endpoints import find

    endpoint = find(method, path)
    if endpoint is not None and tuple(version) < endpoint.since:
        raise lacks(version, what, endpoint.since, option, wanted)


def lacks(version: Version, what: str, since: Version, option: str = "", wanted: object = None) -> Unsupported:
    """The error for what a version does not have."""
    return Unsupported(
        f"Firecracker {shown(version)} has no {what}",
        option=option,
        wanted=wanted,
        fix=f"Use Firecracker {shown(since)} or later.",
    )


def shown(version: Version) -> str:
    """A version as people write it."""
    return ".".join(map(str, version)) or "of an unknown version"


def parse_version(text: str) -> Version:
    """The version in a program's words (`Firecracker v1.16.1`); empty when there is none."""
    found = re.search(r"\bv?([0-9]{1,4})\.([0-9]{1,4})(?:\.([0-9]{1,4}))?(?![0-9])", text)
    return tuple(int(part or 0) for part in found.groups()) if found else ()


def capabilities(
    version: Version, pci: bool = False, memory_region: bool = False, placeholder_drives: int = 0
) -> Capabilities:
    """What a VM of that version can do.

    :param pci: it was started with PCI
    :param memory_region: it was started with room for more memory
    :param placeholder_drives: empty disks it was started with, which can be exchanged for others
    """
    version = version or NEWEST
    snapshots = has(version, "PUT", "/snapshot/create")
    hotplug = pci and has(version, "DELETE", "/drives/x")
    region = memory_region and has(version, "PATCH", "/hotplug/memory")
    return Capabilities(
        block_device=True,
        block_device_hotplug=hotplug or placeholder_drives > 0,
        block_device_unplug=hotplug or placeholder_drives > 0,
        pause=has(version, "PATCH", "/vm", RUNNING[0]),
        save=snapshots,
        memory_grow=region,
        memory_shrink=region,
        network_hotplug=hotplug,
        device_update=True,
        pmem_hotplug=hotplug,
        pmem_unplug=hotplug,
        pmem_update=has(version, "PATCH", "/pmem/x"),
        balloon_update=has(version, "PATCH", "/balloon"),
        metadata_update=can(version, "metadata"),
        disk_limit_update=True,
        disk_resize=True,
        guest_agent=has(version, "PUT", "/vsock"),
    )
