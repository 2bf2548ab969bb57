# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What VM a command line of QEMU stands for, whichever generation of QEMU it was written for."""

from __future__ import annotations

import json
import os
from typing import Any, Iterator

#: JSON keys of an option's first word.
HEADS = ("driver", "qom-type", "type")
#: Memory of the host that other processes can see: a file in this directory, or today one without a name.
SHARED_MEMORY = "/dev/shm"

Option = tuple[str, str, dict[str, Any]]


def options(argv: list[str]) -> Iterator[Option]:
    """The options of a command line: name, first word, properties."""
    position = 0
    while position < len(argv):
        name, value = argv[position][1:], ""
        position += 1
        if position < len(argv) and not argv[position].startswith("-"):
            value = argv[position]
            position += 1
        properties = _object(value)
        if properties is not None:
            yield name, str(next((properties.pop(key) for key in HEADS if key in properties), "")), properties
        elif name in ("append", "kernel", "initrd", "bios", "pidfile"):
            yield name, value, {}
        else:
            words = [word.partition("=") for word in _words(value)]
            head = words.pop(0)[0] if words and not words[0][1] else ""
            properties = {key: text if equals else True for key, equals, text in words}
            yield name, head or str(properties.pop("driver", "")), properties


def _words(value: str) -> list[str]:
    """What stands between the commas of an option; two commas are one in a word (QEMU's qemu-options)."""
    return [word.replace("\0", ",") for word in value.replace(",,", "\0").split(",")]


def _object(value: str) -> dict[str, Any] | None:
    """The object that a value is in JSON, None for another value."""
    try:
        found = json.loads(value) if value.startswith('{"') else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def meaning(argv: list[str], own: dict[str, list[str]] | None = None) -> dict[str, Any]:
    """The VM that a command line stands for, in words that are the same for both generations.

    :param own: the machine options (`machine`) and kernel parameters (`kernel`) that its user gave
    """
    found = list(options(argv))
    return {
        **_machine(found),
        **_memory(found),
        **_boot(found),
        **_disks(found),
        **_channels(found),
        **_network(found),
        **_own(found, own or {}),
    }


def _own(found: list[Option], own: dict[str, list[str]]) -> dict[str, Any]:
    """Which of the user's machine options the machine has, and whether the user's kernel parameters come last."""
    _kind, words = _first(_all(found, "machine"))
    has = {name for name, value in words.items() if value is True or value == "on"}
    has |= {f"{name}={value}" for name, value in words.items() if value is not True}
    mine = " ".join(own.get("kernel", ()))
    append = (_all(found, "append") or [("", {})])[0][0]
    return {
        "own_machine_options": [word for word in own.get("machine", ()) if word in has],
        "own_parameters_last": not mine or append == mine or append.endswith(f" {mine}"),
    }


def _all(found: list[Option], name: str) -> list[tuple[str, dict[str, Any]]]:
    return [(head, properties) for option, head, properties in found if option == name]


def _of(found: list[Option], name: str, *kinds: str) -> list[tuple[str, dict[str, Any]]]:
    return [(head, properties) for head, properties in _all(found, name) if head.startswith(kinds)]


def _on(value: Any) -> bool:
    return value in (True, "on", "true", "yes")


def _number(value: Any) -> int:
    """A number, -1 for a text that is none."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return -1


def _bytes(value: Any) -> int:
    return _number(str(value)[:-1]) << 20 if str(value).endswith("M") else _number(value)


def _first(found: list[tuple[str, dict[str, Any]]]) -> tuple[str, dict[str, Any]]:
    return found[0] if found else ("", {})


def _machine(found: list[Option]) -> dict[str, Any]:
    kind, words = _first(_all(found, "machine"))
    vcpus, topology = _first(_all(found, "smp"))
    places = _of(found, "device", "pci-bridge", "pcie-pci-bridge")
    switches = {name for name, _head, _properties in found}
    return {
        "machine_type": kind,
        "accelerator": words.get("accel"),
        "uuid": _first(_all(found, "uuid"))[0],
        "cpu": _first(_all(found, "cpu"))[0],
        "vcpus": (
            _number(vcpus),
            *(_number(topology.get(name)) for name in ("cores", "threads", "sockets", "maxcpus")),
        ),
        "bridges": [
            (head, properties.get("bus"), properties.get("id"), properties.get("addr")) for head, properties in places
        ],
        "slot_0_of_bridges": ["the bridge's own" for _head, properties in places if _on(properties.get("shpc"))],
        "nothing_by_default": {"no-user-config", "nodefaults"} <= switches and ("vga", "none", {}) in found,
    }


def _memory(found: list[Option]) -> dict[str, Any]:
    size, room = _first(_all(found, "m"))
    kind, backend = _first(
        [
            (head, properties)
            for head, properties in _of(found, "object", "memory-backend")
            if properties.get("id") == "dimm1"
        ]
    )
    where = SHARED_MEMORY if kind == "memory-backend-memfd" else str(backend.get("mem-path", ""))
    locks = [properties for name in ("realtime", "overcommit") for _head, properties in _all(found, name)]
    return {
        "memory_mb": _bytes(size) >> 20,
        "memory_slots": _number(room.get("slots", 0)),
        "memory_can_grow": "maxmem" in room and _bytes(room["maxmem"]) > _bytes(size),
        "memory_where": where,
        "memory_backend_bytes": _bytes(backend.get("size")),
        "memory_shared": _on(backend.get("share")),
        "memory_prealloc": _on(backend.get("prealloc")),
        "memory_locked": any(_on(properties.get("mlock", properties.get("mem-lock"))) for properties in locks),
    }


def _boot(found: list[Option]) -> dict[str, Any]:
    files = {name: (_all(found, name) or [("", {})])[0][0] for name in ("kernel", "initrd", "bios")}
    words = (_all(found, "append") or [("", {})])[0][0].split(" ")
    parameters = {
        name: [word for word in words if word.partition("=")[0] == name]
        for name in ("root", "ro", "rootfstype", "nr_cpus", "panic")
    }
    flags = [word.partition("=")[2].split(",") for word in words if word.startswith("rootflags=")]
    return {
        **files,
        **{f"parameter_{name}": value[-1:] for name, value in parameters.items()},
        "parameter_dax": any("dax" in each for each in flags),
        "incoming": any(name == "incoming" for name, _head, _properties in found),
        "pidfile": os.path.basename(_first(_all(found, "pidfile"))[0]),
    }


def _disks(found: list[Option]) -> dict[str, Any]:
    nodes: dict[Any, tuple[Any, Any, bool]] = {}
    nothing = ("", "", False)
    for _head, properties in _all(found, "drive"):
        nodes[properties.get("id")] = (properties.get("file"), properties.get("format"), False)
    for head, properties in _all(found, "blockdev"):
        nodes[properties["node-name"]] = (properties["file"]["filename"], head, properties["read-only"])
    memory = {properties.get("id"): properties for _head, properties in _of(found, "object", "memory-backend-file")}
    drives = [str(properties.get("drive")) for _head, properties in _of(found, "device", "virtio-blk", "scsi-hd")]
    images = [name for name in drives if name.startswith("image")]
    nvdimms = [
        memory.get(properties.get("memdev"), {}).get("mem-path", "")
        for _head, properties in _of(found, "device", "nvdimm")
    ]
    controllers = _of(found, "device", "virtio-scsi")
    threads = {properties.get("id") for _head, properties in _of(found, "object", "iothread")}
    return {
        "images": [*nvdimms, *(nodes.get(name, nothing)[0] for name in images)],
        "images_as": ["nvdimm"] * len(nvdimms) + ["virtio-blk"] * len(images),
        "images_on_virtio_blk_read_only": [nodes.get(name, nothing)[2] for name in images],
        "disks": [nodes.get(name, nothing) for name in drives if name not in images],
        "scsi_controllers": [properties.get("id") for _head, properties in controllers],
        "scsi_threads": [
            properties["iothread"] in threads for _head, properties in controllers if "iothread" in properties
        ],
    }


def _channels(found: list[Option]) -> dict[str, Any]:
    chardevs = {properties.get("id"): properties.get("path", "") for _head, properties in _all(found, "chardev")}
    sources = {
        properties.get("id"): properties.get("filename", "") for _head, properties in _of(found, "object", "rng-random")
    }
    exports = {properties.get("id"): properties.get("path", "") for _head, properties in _all(found, "fsdev")}
    others = [
        (head, properties)
        for head, properties in _of(found, "device", "vhost-user-")
        if not head.startswith("vhost-user-fs")
    ]
    served = [(head, chardevs.get(properties.get("chardev"), "")) for head, properties in others]
    return {
        "entropy": [sources.get(properties.get("rng"), "") for _head, properties in _of(found, "device", "virtio-rng")],
        "ports": [
            properties.get("name", "")
            for _head, properties in _of(found, "device", "virtserialport")
            if properties.get("id") != "agent0"
        ],
        "shares_9p": [
            (properties.get("mount_tag", ""), exports.get(properties.get("fsdev"), ""))
            for _head, properties in _of(found, "device", "virtio-9p")
        ],
        "shares_virtio_fs": [properties.get("tag", "") for _head, properties in _of(found, "device", "vhost-user-fs")],
        "vsocks": [_number(properties.get("guest-cid")) for _head, properties in _of(found, "device", "vhost-vsock")],
        "host_devices": [
            properties.get("host") or properties.get("sysfsdev") for _head, properties in _of(found, "device", "vfio")
        ],
        "served_devices": served,
    }


def _network(found: list[Option]) -> dict[str, Any]:
    backends = {
        properties.get("id"): {"type": head or properties.get("type", ""), **properties}
        for head, properties in _all(found, "netdev")
    }
    cards = []
    for _head, properties in _of(found, "device", "virtio-net"):
        backend = backends.get(properties.get("netdev"), {"type": ""})
        queues = len(str(backend["fds"]).split(":")) if "fds" in backend else _number(backend.get("queues", 1))
        cards.append((backend["type"], properties.get("mac"), queues, _on(backend.get("vhost"))))
    return {"interfaces": cards}
