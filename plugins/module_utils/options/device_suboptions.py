# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The suboptions that a device can have: types and choices for the argument spec, and the range of each number. Data only."""

from __future__ import annotations

from typing import Any

#: The suboptions of a rate limit.
LIMIT_SPEC: dict[str, Any] = {
    "type": "dict",
    "options": {name: {"type": "int"} for name in ("bandwidth", "bandwidth_burst", "ops", "ops_burst")},
}

#: What can be said of a device in an argument spec. What belongs to which type, and what is not said, is checked by `device_options.py`.
DEVICE_SUBOPTIONS: dict[str, dict[str, Any]] = {
    "id": {"type": "str", "required": True},
    "type": {
        "type": "str",
        "choices": [
            "block",
            "net",
            "fs",
            "serial",
            "vsock",
            "vfio",
            "vhost_user",
            "balloon",
            "pmem",
            "entropy",
            "mmds",
        ],
    },
    "file": {"type": "path"},
    "format": {"type": "str", "choices": ["raw", "qcow2"]},
    "driver": {"type": "str", "choices": ["virtio-blk", "virtio-scsi", "nvdimm"]},
    "read_only": {"type": "bool"},
    "cache": {"type": "str", "choices": ["none", "writeback", "writethrough", "unsafe"]},
    "discard": {"type": "bool"},
    "serial": {"type": "str"},
    "io_engine": {"type": "str", "choices": ["sync", "async"]},
    "rate_limit": LIMIT_SPEC,
    "kind": {"type": "str", "choices": ["tap", "user", "macvtap"]},
    "mac": {"type": "str"},
    "tap_name": {"type": "str"},
    "bridge": {"type": "str"},
    "queues": {"type": "int"},
    "vhost": {"type": "bool"},
    "mtu": {"type": "int"},
    "rx_rate_limit": LIMIT_SPEC,
    "tx_rate_limit": LIMIT_SPEC,
    "tag": {"type": "str"},
    "path": {"type": "path"},
    "name": {"type": "str"},
    "cid": {"type": "int"},
    "address": {"type": "str"},
    "model": {
        "type": "str",
        "choices": ["vhost-user-scsi-pci", "virtio-net-pci", "vhost-user-blk-pci", "vhost-user-fs-pci"],
    },
    "size_mb": {"type": "int"},
    "deflate_on_oom": {"type": "bool"},
    "stats_seconds": {"type": "int"},
    "free_page_hinting": {"type": "bool"},
    "free_page_reporting": {"type": "bool"},
    "interfaces": {"type": "list", "elements": "str"},
    "version": {"type": "str", "choices": ["V1", "V2"]},
    "imds_compat": {"type": "bool"},
    "contents": {"type": "dict"},
    "hide_contents": {"type": "bool"},
}

#: The least and the most of each number, where the kernel, a specification or a VMM sets them.
DEVICE_RANGES: dict[str, tuple[int, int]] = {
    "queues": (1, 256),
    #: IPv4's least (RFC 791) and the largest frame that virtio-net's 16-bit field can name.
    "mtu": (68, 65535),
    #: 0 to 2 and 2^32 - 1 are taken (vsock(7)).
    "cid": (3, 2**32 - 2),
    #: Firecracker's u32 and u16.
    "size_mb": (0, 2**32 - 1),
    "stats_seconds": (0, 2**16 - 1),
}
