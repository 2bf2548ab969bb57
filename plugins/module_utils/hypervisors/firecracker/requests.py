# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a configuration and devices to the requests that make a VM of them. Pure; paths are those that Firecracker sees."""

from __future__ import annotations

from typing import Any, NamedTuple

from ...errors import Unsupported
from ...options.config import HypervisorConfig
from ...options.device_kinds.base import RateLimit
from .api.dialect import Dialect
from .device_ids import PLACEHOLDER, ROOT_DRIVE

#: Milliseconds in which a bucket is filled again: a rate per second is then its size.
REFILL_MS = 1000
#: Slots of a memory region, and what is plugged at least, both in MiB (API description, MemoryHotplugConfig).
SLOT_MB, BLOCK_MB = 128, 2
#: Bytes of a request's body, and of what the metadata service tells (Firecracker's --http-api-max-payload-size).
LARGEST_REQUEST = 51200


class Request(NamedTuple):
    """A PUT request to the API."""

    path: str
    body: dict[str, Any]


def check_driver(driver: str, option: str) -> None:
    """Refuse a way to attach disks that Firecracker does not have."""
    if driver not in ("", "virtio-blk", "virtio-mmio"):
        raise Unsupported("Firecracker's disks are virtio-blk", option=option, wanted=driver, fix="Leave it out.")


def machine_config(config: HypervisorConfig, dialect: Dialect) -> Request:
    """vCPUs and memory. Every value is sent, never a zero for "not said"."""
    body: dict[str, Any] = {"vcpu_count": config.num_vcpus, "mem_size_mib": config.memory_size}
    if dialect.always_smt or config.smt:
        body[dialect.smt] = config.smt
    if config.cpu_template:
        body["cpu_template"] = config.cpu_template
    if config.track_dirty_pages:
        body["track_dirty_pages"] = True
    if config.huge_pages:
        body["huge_pages"] = "2M"
    return Request("/machine-config", body)


def boot_source(kernel: str, initrd: str, arguments: str) -> Request:
    """Kernel, initrd and the kernel's command line."""
    body = {"kernel_image_path": kernel, "boot_args": arguments}
    if initrd:
        body["initrd_path"] = initrd
    return Request("/boot-source", body)


def root_drive(path: str) -> Request:
    """The image. It is never writable: one guest could poison it for all others (CVE-2020-2025)."""
    return drive(ROOT_DRIVE, path, read_only=True)


def root_disk(path: str) -> Request:
    """The sandbox's own root disk, which only its guest writes to."""
    return drive(ROOT_DRIVE, path, read_only=False)


def placeholder_drive(number: int, path: str) -> Request:
    """An empty disk that can be exchanged for another while the VM runs."""
    return drive(f"{PLACEHOLDER}{number}", path, read_only=False)


def drive(name: str, path: str, read_only: bool) -> Request:
    """A disk."""
    body = {"drive_id": name, "path_on_host": path, "is_root_device": False, "is_read_only": read_only}
    return Request(f"/drives/{name}", body)


def rate_limiter(limit: RateLimit) -> dict[str, Any]:
    """Two token buckets; one of size 0 lifts a limit that was there (API description, RateLimiter)."""
    return {
        "bandwidth": _bucket(limit.bandwidth, limit.bandwidth_burst),
        "ops": _bucket(limit.ops, limit.ops_burst),
    }


def _bucket(rate: int, burst: int) -> dict[str, int]:
    bucket = {"size": rate, "refill_time": REFILL_MS if rate else 0}
    return {**bucket, "one_time_burst": burst} if rate and burst else bucket


def region_size(config: HypervisorConfig) -> int:
    """MiB that can be plugged into a VM: up to its maximum, in whole slots."""
    if config.memory_hotplug == "none" or config.max_memory_mb <= config.memory_size:
        return 0
    return -(-(config.max_memory_mb - config.memory_size) // SLOT_MB) * SLOT_MB


def memory_region(size_mb: int) -> Request:
    """Room for memory that is plugged in later."""
    return Request("/hotplug/memory", {"total_size_mib": size_mb, "slot_size_mib": SLOT_MB, "block_size_mib": BLOCK_MB})


def console_limit(rate: int) -> Request:
    """Let the guest print so many bytes a second and no more; what is beyond is lost."""
    return Request("/serial", {"rate_limiter": {"size": rate, "refill_time": REFILL_MS}})
