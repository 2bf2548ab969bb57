# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a configuration and devices to the requests that make a VM of them. Pure; paths are those that Firecracker sees."""

from __future__ import annotations

from typing import Any, NamedTuple

from ...errors import Unsupported
from ...options.config import HypervisorConfig
from ...options.device_kinds.balloon import Balloon
from ...options.device_kinds.base import Device, RateLimit, device_id
from ...options.device_kinds.block import BlockDrive
from ...options.device_kinds.entropy import EntropyDevice
from ...options.device_kinds.mmds import MetadataService
from ...options.device_kinds.net import NetworkDevice
from ...options.device_kinds.pmem import PmemDrive
from ...options.device_kinds.vhost_user import VhostUserDevice
from ...options.device_kinds.vsock import Vsock
from .api.dialect import Dialect, balloon_word, can
from .api.endpoints import Version
from .device_ids import PLACEHOLDER, ROOT_DRIVE, api_id

#: Milliseconds in which a bucket is filled again: a rate per second is then its size.
REFILL_MS = 1000
#: Slots of a memory region, and what is plugged at least, both in MiB (API description, MemoryHotplugConfig).
SLOT_MB, BLOCK_MB = 128, 2
CACHES = {"writeback": "Writeback", "unsafe": "Unsafe"}
ENGINES = {"sync": "Sync", "async": "Async"}


class Request(NamedTuple):
    """One request to the API; the method is PUT where nothing else is said."""

    path: str
    body: dict[str, Any]


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
    return _drive(ROOT_DRIVE, path, read_only=True)


def placeholder_drive(number: int, path: str) -> Request:
    """An empty disk that can be exchanged for another while the VM runs."""
    return _drive(f"{PLACEHOLDER}{number}", path, read_only=False)


def _drive(name: str, path: str, read_only: bool) -> Request:
    body = {"drive_id": name, "path_on_host": path, "is_root_device": False, "is_read_only": read_only}
    return Request(f"/drives/{name}", body)


def device(record: Device, path: str = "") -> Request:
    """A device.

    :param path: of its file or its socket, as Firecracker sees it
    :raises Unsupported: Firecracker has no such device
    """
    if isinstance(record, BlockDrive):
        return disk(record, path)
    if isinstance(record, NetworkDevice):
        return interface(record)
    if isinstance(record, Vsock):
        return Request("/vsock", {"guest_cid": record.context_id, "uds_path": path})
    if isinstance(record, VhostUserDevice):
        name = api_id(record.dev_id)
        return Request(f"/drives/{name}", {"drive_id": name, "is_root_device": False, "socket": path})
    if isinstance(record, PmemDrive):
        return pmem(record, path)
    if isinstance(record, EntropyDevice):
        return Request("/entropy", {"rate_limiter": rate_limiter(record.rate_limit)} if record.rate_limit else {})
    raise Unsupported(
        f"Firecracker has no device for {type(record).__name__} {device_id(record)}",
        option="devices",
        wanted=device_id(record),
    )


def disk(drive: BlockDrive, path: str) -> Request:
    """A disk with its limits."""
    request = _drive(api_id(drive.id), path, drive.read_only)
    if drive.cache:
        request.body["cache_type"] = CACHES[drive.cache]
    if drive.io_engine:
        request.body["io_engine"] = ENGINES[drive.io_engine]
    if drive.rate_limit:
        request.body["rate_limiter"] = rate_limiter(drive.rate_limit)
    return request


def pmem(record: PmemDrive, path: str) -> Request:
    """A file that is the guest's persistent memory."""
    name = api_id(record.id)
    body: dict[str, Any] = {"id": name, "path_on_host": path, "root_device": False, "read_only": record.read_only}
    if record.rate_limit:
        body["rate_limiter"] = rate_limiter(record.rate_limit)
    return Request(f"/pmem/{name}", body)


def balloon(record: Balloon, version: Version) -> Request:
    """A balloon of the size that it shall have at first."""
    body: dict[str, Any] = {
        balloon_word(version): record.size_mb,
        "deflate_on_oom": record.deflate_on_oom,
        "stats_polling_interval_s": record.stats_seconds,
    }
    if can(version, "page_hints"):
        body["free_page_hinting"], body["free_page_reporting"] = record.free_page_hinting, record.free_page_reporting
    return Request("/balloon", body)


def metadata(service: MetadataService) -> list[Request]:
    """The metadata service and, where there are any, its contents."""
    body: dict[str, Any] = {
        "network_interfaces": [api_id(name) for name in service.interfaces],
        "version": service.version,
    }
    if service.address:
        body["ipv4_address"] = service.address
    if service.imds_compat:
        body["imds_compat"] = True
    return [Request("/mmds/config", body), Request("/mmds", service.contents)]


def difference(old: Any, new: dict[str, Any]) -> dict[str, Any]:
    """What turns one JSON object into another when it is merged into it (RFC 7396); names to remove have null."""
    old = old if isinstance(old, dict) else {}
    patch: dict[str, Any] = dict.fromkeys((name for name in old if name not in new), None)
    for name, value in new.items():
        if name not in old or old[name] != value:
            patch[name] = (
                difference(old[name], value) if isinstance(value, dict) and isinstance(old.get(name), dict) else value
            )
    return patch


def interface(net: NetworkDevice) -> Request:
    """A network interface with its limits."""
    name = api_id(device_id(net))
    body: dict[str, Any] = {"iface_id": name, "guest_mac": net.mac, "host_dev_name": net.tap_name}
    if net.mtu:
        body["mtu"] = net.mtu
    body.update(interface_limits(net, only_given=True))
    return Request(f"/network-interfaces/{name}", body)


def interface_limits(net: NetworkDevice, only_given: bool = False) -> dict[str, Any]:
    """The limits of an interface; what has none is given an unlimited one, unless only the given ones are wanted."""
    limits = {"rx_rate_limiter": net.rx_rate_limit, "tx_rate_limiter": net.tx_rate_limit}
    return {name: rate_limiter(limit or RateLimit()) for name, limit in limits.items() if limit or not only_given}


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
