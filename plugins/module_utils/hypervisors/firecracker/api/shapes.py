# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Firecracker may answer: the shape of every answer that is read, by its endpoint (API description and sources, 0.17 to 1.17)."""

from __future__ import annotations

from typing import Any

from ....untrusted.answers import Anything, Flag, ListOf, MapOf, Maybe, Number, Record, Text

#: Ids in the API's alphabet.
ID = Text(most=128, pattern="[A-Za-z0-9_]*")
PATH = Text(most=4096)
#: Words that are shown: printable ASCII.
WORD = Text(most=128, pattern="[ -~]*")
#: MiB of a VM: up to 16 TiB.
MIB = Number(most=1 << 24)
VCPUS = Number(most=64)

BUCKET = Record({"size": Number(), "refill_time": Number()}, {"one_time_burst": Maybe(Number())})
LIMITER = Record({}, {"bandwidth": Maybe(BUCKET), "ops": Maybe(BUCKET)})

DRIVE = Record(
    {"drive_id": ID},
    {
        "path_on_host": Maybe(PATH),
        "socket": Maybe(PATH),
        "is_root_device": Maybe(Flag()),
        "is_read_only": Maybe(Flag()),
        "cache_type": Maybe(WORD),
        "io_engine": Maybe(WORD),
        "rate_limiter": Maybe(LIMITER),
    },
)
INTERFACE = Record(
    {"iface_id": ID},
    {
        "host_dev_name": Maybe(WORD),
        "guest_mac": Maybe(WORD),
        "mtu": Maybe(Number(most=65535)),
        "rx_rate_limiter": Maybe(LIMITER),
        "tx_rate_limiter": Maybe(LIMITER),
    },
)
PMEM = Record(
    {"id": ID},
    {
        "path_on_host": Maybe(PATH),
        "root_device": Maybe(Flag()),
        "read_only": Maybe(Flag()),
        "rate_limiter": Maybe(LIMITER),
    },
)
VSOCK = Record({}, {"guest_cid": Maybe(Number(most=2**32 - 1)), "uds_path": Maybe(PATH)})
MACHINE = Record(
    {"vcpu_count": VCPUS, "mem_size_mib": MIB},
    {"smt": Flag(), "cpu_template": Maybe(WORD), "track_dirty_pages": Flag(), "huge_pages": Maybe(WORD)},
)
MMDS_CONFIG = Record(
    {},
    {"version": WORD, "ipv4_address": Maybe(WORD), "imds_compat": Flag(), "network_interfaces": ListOf(ID, most=256)},
)
BALLOON = Record(
    {},
    {
        "amount_mib": MIB,
        "amount_mb": MIB,
        "deflate_on_oom": Flag(),
        "free_page_hinting": Flag(),
        "free_page_reporting": Flag(),
        "stats_polling_interval_s": Number(most=65535),
    },
)
BALLOON_STATISTICS = MapOf(Maybe(Number()), most=64)

CONFIG = Record(
    {"machine-config": MACHINE},
    {
        "boot-source": Maybe(Record({}, {"kernel_image_path": Maybe(PATH), "boot_args": Maybe(Text())})),
        "drives": Maybe(ListOf(DRIVE, most=256)),
        "network-interfaces": Maybe(ListOf(INTERFACE, most=256)),
        "pmem": Maybe(ListOf(PMEM, most=256)),
        "vsock": Maybe(VSOCK),
        "balloon": Maybe(BALLOON),
        "entropy": Maybe(Record({}, {"rate_limiter": Maybe(LIMITER)})),
        "memory-hotplug": Maybe(Record({}, {"total_size_mib": MIB, "slot_size_mib": MIB, "block_size_mib": MIB})),
        "mmds-config": Maybe(MMDS_CONFIG),
    },
)

#: By endpoint, what `GET` returns.
ANSWERS: dict[str, Any] = {
    "/": Record({"state": WORD}, {"id": Text(most=256), "vmm_version": WORD, "app_name": WORD}),
    "/vm/config": CONFIG,
    "/machine-config": MACHINE,
    "/hotplug/memory": Record({"plugged_size_mib": MIB}, {"total_size_mib": MIB, "requested_size_mib": MIB}),
    "/balloon": BALLOON,
    "/balloon/statistics": BALLOON_STATISTICS,
    # What the metadata service tells is the user's; nothing in it is read but whether it is what was asked for.
    "/mmds": Maybe(MapOf(Anything(depth=32, most=65536), most=65536)),
}

#: The content of a refusal.
FAULT = Record({}, {"fault_message": Text(), "error": Text()})
