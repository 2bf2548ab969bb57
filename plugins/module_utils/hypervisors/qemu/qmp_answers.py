# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What QEMU may answer to each QMP command that this driver reads (QEMU's docs/interop/qemu-qmp-ref, by the command's name)."""

from __future__ import annotations

from typing import Any, Mapping

from ...untrusted.answers import Anything, Flag, ListOf, MapOf, Maybe, Number, Record, Tagged, Text

NAME = Text(4096)
#: Sizes and addresses in bytes.
BYTES = Number(0, 2**64 - 1)
SLOT = Number(-1, 2**31 - 1)

#: RunState.
STATUS = Text(
    choices=(
        "colo",
        "debug",
        "finish-migrate",
        "guest-panicked",
        "inmigrate",
        "internal-error",
        "io-error",
        "paused",
        "postmigrate",
        "preconfig",
        "prelaunch",
        "restore-vm",
        "running",
        "save-vm",
        "shutdown",
        "suspended",
        "watchdog",
    )
)

_MODULE = Record({"size": BYTES, "addr": BYTES, "slot": SLOT, "memdev": NAME}, {"id": NAME})
_MAPPED = Record({"size": BYTES, "memaddr": BYTES, "memdev": NAME}, {"id": NAME})


def _memory_device(data: Record) -> Record:
    return Record({"type": Text(64), "data": data})


#: An answer that holds nothing to read.
NOTHING = Record()

GREETING = Record(
    {"version": Record({"qemu": Record({part: Number(0, 2**31 - 1) for part in ("major", "minor", "micro")})})},
)
ERROR = Record({"class": Text(256), "desc": Text()})
EVENT = Record({"event": Text(256)}, {"data": MapOf(Anything())})

ANSWERS: dict[str, Any] = {
    "add-fd": Record({"fdset-id": Number(0, 2**63 - 1), "fd": Number(0, 2**31 - 1)}),
    "query-balloon": Record({"actual": BYTES}),
    "query-chardev": ListOf(Record({"label": NAME}, {"frontend-open": Flag(), "filename": NAME})),
    "query-cpus-fast": ListOf(Record({"cpu-index": Number(0, 2**31 - 1), "thread-id": Number(0, 2**31 - 1)})),
    "query-fdsets": ListOf(
        Record(
            {"fdset-id": Number(0, 2**63 - 1), "fds": ListOf(Record({"fd": Number(0, 2**31 - 1)}, {"opaque": NAME}))}
        ),
    ),
    "query-hotpluggable-cpus": ListOf(
        Record(
            {"type": NAME, "props": MapOf(Number(0, 2**63 - 1), most=32)},
            {"qom-path": NAME, "vcpus-count": Number(0, 2**31 - 1)},
        )
    ),
    "query-memory-devices": ListOf(
        Tagged(
            "type",
            {
                "dimm": _memory_device(_MODULE),
                "nvdimm": _memory_device(_MODULE),
                "virtio-pmem": _memory_device(_MAPPED),
                "virtio-mem": _memory_device(_MAPPED),
            },
            _memory_device(Record({}, {"id": NAME})),
        )
    ),
    "query-memory-size-summary": Record({"base-memory": BYTES}, {"plugged-memory": BYTES}),
    "query-migrate": Record({}, {"status": Text(64), "error-desc": Text(), "blocked-reasons": ListOf(Text())}),
    "query-named-block-nodes": ListOf(
        Record(
            {},
            {
                "node-name": NAME,
                "file": NAME,
                "drv": NAME,
                "ro": Flag(),
                "image": Record({}, {"virtual-size": BYTES}),
                "cache": Record({"writeback": Flag(), "direct": Flag(), "no-flush": Flag()}),
            },
        )
    ),
    "query-status": Record({"status": STATUS}),
    "qom-list": ListOf(Record({"name": NAME, "type": NAME})),
}

#: Answers to `qom-get`, by the property that is asked for.
PROPERTIES: dict[str, Any] = {
    "cpu-hotplug-legacy": Flag(),
    "drive": NAME,
    "readonly": Flag(),
    "size": BYTES,
}

#: Commands whose answer is never read.
SILENT = frozenset(
    [
        "balloon",
        "block_resize",
        "blockdev-add",
        "blockdev-del",
        "chardev-add",
        "chardev-remove",
        "cont",
        "device_add",
        "device_del",
        "getfd",
        "closefd",
        "migrate",
        "migrate-incoming",
        "migrate-set-capabilities",
        "migrate-set-parameters",
        "migrate_cancel",
        "netdev_add",
        "netdev_del",
        "object-add",
        "object-del",
        "qmp_capabilities",
        "qom-set",
        "quit",
        "remove-fd",
        "stop",
        "system_powerdown",
    ]
)


def shape_for(command: str, arguments: Mapping[str, Any] | None) -> Any:
    """The shape of the answer to a command; what nobody declared is bounded, and no driver reads it."""
    if command == "qom-get":
        return PROPERTIES.get(str((arguments or {}).get("property")), Anything())
    if command in SILENT:
        return Maybe(Anything(depth=64, most=1_000_000))
    return ANSWERS.get(command, Anything(depth=64, most=1_000_000))
