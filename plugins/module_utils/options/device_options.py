# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The devices of a task: what may be said of each type, and the device record that comes of it.

A task's device stays a plain dictionary, in the record too: what was asked for is compared with what was asked for.
"""

from __future__ import annotations

import os
import re
from typing import Any, Callable

from ..errors import ConfigError, StoreError
from ..records.layout import clean_path, same_path
from ..untrusted.answers import AnswerError, Anything, Maybe, brief
from ..untrusted.answers import checked as checked_answer
from .device_suboptions import DEVICE_RANGES, DEVICE_SUBOPTIONS
from .devices import (
    Balloon,
    BlockDrive,
    Device,
    EntropyDevice,
    MetadataService,
    NetworkDevice,
    PmemDrive,
    RateLimit,
    SerialPort,
    VfioDevice,
    VfioType,
    VhostUserDevice,
    Volume,
    Vsock,
)
from .shown import HIDDEN

DEVICE_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,31}")
MAC_ADDRESS = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")

#: Suboptions that limit a rate, and what each may say: bytes and operations a second, and what is granted once beyond that.
LIMITS = ("rate_limit", "rx_rate_limit", "tx_rate_limit")
BUCKETS = ("bandwidth", "bandwidth_burst", "ops", "ops_burst")

#: The largest MTU of a tap: 65535 less its Ethernet header (the kernel's drivers/net/tun.c).
MOST_TAP_MTU = 65521
#: Bytes of a share's tag (VIRTIO 1.2, 5.11.4).
MOST_TAG = 36

#: What can be in a metadata service's contents.
CONTENTS = Maybe(Anything(depth=32, most=20000))

#: Suboptions by type: those that must be given, and the others with their defaults (None: left to the driver).
TYPES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "block": (
        ("file",),
        {
            "format": "raw",
            "driver": None,
            "read_only": False,
            "cache": None,
            "discard": False,
            "serial": None,
            "io_engine": None,
            "rate_limit": None,
        },
    ),
    "net": (
        ("kind",),
        {
            "mac": None,
            "tap_name": None,
            "bridge": None,
            "queues": 1,
            "vhost": False,
            "mtu": None,
            "rx_rate_limit": None,
            "tx_rate_limit": None,
        },
    ),
    "fs": (("tag", "path"), {"read_only": False}),
    "serial": ((), {"path": None, "name": None}),
    "vsock": (("cid",), {"path": None}),
    "vfio": ((), {"address": None, "path": None}),
    "vhost_user": (("path", "model"), {"mac": None, "tag": None, "queues": 1}),
    "balloon": (
        (),
        {
            "size_mb": 0,
            "deflate_on_oom": False,
            "stats_seconds": 5,
            "free_page_hinting": False,
            "free_page_reporting": False,
        },
    ),
    "pmem": (("file",), {"read_only": False, "rate_limit": None}),
    "entropy": ((), {"rate_limit": None}),
    "mmds": (
        ("interfaces",),
        {"version": "V2", "address": None, "imds_compat": False, "contents": None, "hide_contents": None},
    ),
}


def validate_device_id(identity: Any, option: str = "devices") -> str:
    """The id, when it can name a device.

    :param option: the task's option that holds it
    :raises ConfigError: it cannot
    """
    if not isinstance(identity, str) or not DEVICE_ID.fullmatch(identity):
        raise ConfigError(
            "a device needs an id of a letter and up to 31 of the characters A-Z a-z 0-9 . _ -",
            option=option,
            wanted=identity,
        )
    return identity


def check_devices(devices: list[dict[str, Any]], sandbox: str = "", alone: bool = False) -> list[dict[str, Any]]:
    """The devices with what was not said left out and defaults filled in.

    :param alone: the device of `kata_device`, whose suboptions are the task's own options; what it says of others is not checked
    :raises ConfigError: an id is missing, used twice or cannot be one; a suboption is missing, or belongs to another type
    """
    checked: list[dict[str, Any]] = []
    for given in devices:
        said = {name: value for name, value in given.items() if value is not None}
        try:
            checked.append(_check_device(said, [device["id"] for device in checked], alone))
        except ConfigError as problem:
            problem.sandbox = sandbox
            raise
    nets = [device["id"] for device in checked if device["type"] == "net"]
    for device in () if alone else checked:
        for name in device.get("interfaces", ()):
            if name not in nets:
                raise ConfigError(
                    f"device {device['id']} names an interface that is not there",
                    sandbox=sandbox,
                    option="devices",
                    wanted=name,
                )
    return checked


def _check_device(said: dict[str, Any], taken: list[str], alone: bool = False) -> dict[str, Any]:
    identity, kind = said.get("id"), said.get("type")

    def wrong(message: str, fix: str = "", name: str = "") -> ConfigError:
        option = (name or "type") if alone else "devices"
        # Whether its contents are secret is not known yet.
        shown = {key: HIDDEN if key == "contents" else value for key, value in said.items()}
        return ConfigError(message, option=option, wanted=shown.get(name) if alone and name else shown, fix=fix)

    identity = validate_device_id(identity, "id" if alone else "devices")
    if identity in taken:
        raise wrong(f"two devices have the id {identity}", "Give each device an id of its own.")
    if kind not in TYPES:
        raise wrong(f"device {identity} must have one of the types {', '.join(TYPES)}")
    required, defaults = TYPES[str(kind)]
    for name in required:
        if said.get(name) in (None, ""):
            raise wrong(f"device {identity} of type {kind} needs {name}", name=name)
    for name in said:
        if name not in ("id", "type", *required, *defaults):
            raise wrong(f"device {identity} of type {kind} has no suboption {name}", name=name)
    filled = {name: value for name, value in defaults.items() if value is not None}
    checked = {**filled, **said}
    for name, value in checked.items():
        checked[name] = _check_suboption(name, value, f"{name} of device {identity}", wrong)
    if "mac" in checked:
        checked["mac"] = checked["mac"].lower()
        if not MAC_ADDRESS.fullmatch(checked["mac"]) or int(checked["mac"][:2], 16) & 1:
            raise wrong(
                f"mac of device {identity} must be the MAC address of one interface, not {checked['mac']}", name="mac"
            )
    if checked.get("kind") == "tap" and checked.get("mtu", 0) > MOST_TAP_MTU:
        raise wrong(f"mtu of device {identity} must be at most {MOST_TAP_MTU}, which is what a tap takes", name="mtu")
    if kind == "fs" and len(os.fsencode(checked["tag"])) > MOST_TAG:
        raise wrong(f"tag of device {identity} must be at most {MOST_TAG} bytes long", name="tag")
    if kind == "vfio" and ("address" in checked) == ("path" in checked):
        raise wrong(f"device {identity} of type vfio needs either address or path")
    if kind == "mmds":
        _check_metadata(checked, wrong)
        if not checked.get("hide_contents", True):
            del checked["hide_contents"]  # As in records of earlier versions.
    if len(os.fsencode(checked.get("serial", ""))) > 20:
        raise wrong(
            f"serial of device {identity} must be at most 20 bytes long, which is what a guest sees", name="serial"
        )
    return checked


def _check_suboption(name: str, value: Any, what: str, wrong: Callable[..., ConfigError]) -> Any:
    """A suboption's value as its argument spec and its range allow it; a path in one spelling."""
    spec = DEVICE_SUBOPTIONS[name]
    kind = spec["type"]
    if name in LIMITS:
        return _check_limit(value, what, lambda message: wrong(message, name=name))
    if kind == "int":
        least, most = DEVICE_RANGES[name]
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise wrong(f"{what} must be an integer from {least} to {most}", name=name)
    elif kind == "bool":
        if not isinstance(value, bool):
            raise wrong(f"{what} must be true or false", name=name)
    elif kind == "list":
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            raise wrong(f"{what} must be a list of names", name=name)
    elif kind == "dict":
        if not isinstance(value, dict):
            raise wrong(f"{what} must be a dictionary", name=name)
    elif not isinstance(value, str):
        raise wrong(f"{what} must be text", name=name)
    elif not value.isprintable():
        raise wrong(f"{what} must not have a line break or another character that cannot be printed", name=name)
    elif kind == "path":
        if not value.startswith("/"):
            raise wrong(f"{what} must be an absolute path", name=name)
        return clean_path(value, "devices")
    elif "choices" in spec and value not in spec["choices"]:
        raise wrong(f"{what} must be one of {', '.join(spec['choices'])}", name=name)
    return value


def _check_metadata(checked: dict[str, Any], wrong: Callable[..., ConfigError]) -> None:
    if not checked["interfaces"]:
        raise wrong("a metadata service needs at least one of the interfaces", name="interfaces")
    address = checked.get("address", "169.254.169.254")
    if not re.fullmatch(r"169\.254(\.[0-9]{1,3}){2}", address) or not all(
        int(part) < 256 for part in address.split(".")
    ):
        raise wrong(f"address must be a link-local IPv4 address such as 169.254.169.254, not {address}", name="address")
    try:
        checked_answer(CONTENTS, checked.get("contents"), "contents")
    except AnswerError as problem:
        raise wrong(problem.message, name="contents") from None
    if _has_null(checked.get("contents")):
        raise wrong(
            "contents must not have null: to the metadata service it means that a name is removed", name="contents"
        )


def _has_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(item is None or _has_null(item) for item in value.values())
    return isinstance(value, list) and any(item is None or _has_null(item) for item in value)


def _check_limit(given: Any, what: str, wrong: Callable[[str], ConfigError]) -> dict[str, int]:
    """A rate limit without what was not given."""
    if not isinstance(given, dict):
        raise wrong(f"{what} must be a dictionary of {', '.join(BUCKETS)}")
    said = {name: value for name, value in given.items() if value is not None}
    for name, value in said.items():
        if name not in BUCKETS or not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
            raise wrong(f"{what} can have {', '.join(BUCKETS)}, each a number from 0 (no limit) to {2**63 - 1}")
        if value and name.endswith("_burst") and not said.get(name[: -len("_burst")]):
            raise wrong(f"{name} in {what} needs {name[: -len('_burst')]} beside it")
    if not any(said.values()):
        raise wrong(f"{what} limits nothing; leave it out")
    return said


def with_indexes(devices: list[dict[str, Any]], recorded: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The devices with the position of each block device: the recorded one, or the lowest that is free."""
    kept = {device["id"]: device["index"] for device in recorded if "index" in device}
    taken = {kept[device["id"]] for device in devices if device["id"] in kept}
    placed = []
    for device in devices:
        if device["type"] == "block":
            index = kept.get(device["id"])
            if index is None:
                index = next(number for number in range(len(taken) + 1) if number not in taken)
                taken.add(index)
            device = {**device, "index": index}
        placed.append(device)
    return placed


def changed_devices(devices: list[dict[str, Any]], changes: dict[str, dict[str, Any] | None]) -> list[dict[str, Any]]:
    """The devices with single ones replaced, added or (None) left out."""
    listed = {device["id"]: device for device in devices}
    for identity, device in changes.items():
        if device is None:
            listed.pop(identity, None)
        else:
            listed[identity] = device
    return list(listed.values())


def same_device(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether the same was asked for twice; the position is ours, nobody asks for it."""
    different = [name for name in {**one, **other} if name != "index" and one.get(name) != other.get(name)]
    return all(
        name in one
        and name in other
        and DEVICE_SUBOPTIONS[name]["type"] == "path"
        and same_path(one[name], other[name])
        for name in different
    )


def same_devices(some: list[dict[str, Any]], others: list[dict[str, Any]]) -> bool:
    """Whether the same devices were asked for twice, in whatever order."""
    listed = {device["id"]: device for device in others}
    return len(some) == len(others) and all(
        device["id"] in listed and same_device(device, listed[device["id"]]) for device in some
    )


def make_device(device: dict[str, Any]) -> Device:
    """The device record of a checked device, or of a recorded one.

    :raises StoreError: what was recorded is no device
    """
    _check_recorded(device)
    return _MAKERS[device["type"]](device)


#: What Python's types are that a suboption can have.
_TYPES: dict[str, type] = {"str": str, "path": str, "int": int, "bool": bool, "list": list, "dict": dict}


def _check_recorded(device: dict[str, Any]) -> None:
    """Refuse a device that no version of ours wrote. Its values are not judged again: rules that are newer must not keep it from being removed."""
    kind = device.get("type")
    wrong = (
        [name for name in TYPES[kind][0] if name not in device] if isinstance(kind, str) and kind in TYPES else ["type"]
    )
    for name, value in device.items():
        expected = int if name == "index" else _TYPES.get(DEVICE_SUBOPTIONS.get(name, {}).get("type", ""), object)
        if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
            wrong.append(name)
    if wrong:
        raise StoreError(
            f"the record of device {brief(device.get('id'))} cannot be used",
            answer=f"{wrong[0]} is {brief(device.get(wrong[0], 'missing'))}",
            fix="Nothing was changed. Restore the record from a backup, or remove the sandbox with its VM (state: absent).",
        )


def _block(device: dict[str, Any]) -> Device:
    names = ("file", "format", "id", "index", "driver", "read_only", "cache", "discard", "serial", "io_engine")
    limit = _limits(device, "rate_limit")
    return BlockDrive(**{name: device[name] for name in names if name in device}, **limit)


def _net(device: dict[str, Any]) -> Device:
    names = ("kind", "mac", "tap_name", "queues", "vhost", "bridge", "mtu", "id")
    limits = _limits(device, "rx_rate_limit", "tx_rate_limit")
    return NetworkDevice(name=device["id"], **{name: device[name] for name in names if name in device}, **limits)


def _limits(device: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: RateLimit(**device[name]) for name in names if name in device}


def _fs(device: dict[str, Any]) -> Device:
    return Volume(device["tag"], device["path"], id=device["id"], read_only=device["read_only"])


def _serial(device: dict[str, Any]) -> Device:
    identity = device["id"]
    return SerialPort(identity, f"char-{identity}", device.get("path", ""), device.get("name", identity))


def _vsock(device: dict[str, Any]) -> Device:
    return Vsock(device["cid"], uds_path=device.get("path", ""), id=device["id"])


def _vfio(device: dict[str, Any]) -> Device:
    if "path" in device:
        return VfioDevice(device["id"], VfioType.MEDIATED, sysfs_dev=device["path"])
    return VfioDevice(device["id"], VfioType.NORMAL, bdf=device["address"])


def _vhost_user(device: dict[str, Any]) -> Device:
    return VhostUserDevice(
        device["id"],
        device["path"],
        device["model"],
        device.get("mac", ""),
        device.get("tag", ""),
        queues=device["queues"],
    )


def _balloon(device: dict[str, Any]) -> Device:
    return Balloon(**{name: device[name] for name in ("id", *TYPES["balloon"][1]) if name in device})


def _pmem(device: dict[str, Any]) -> Device:
    return PmemDrive(device["file"], device["id"], device["read_only"], **_limits(device, "rate_limit"))


def _entropy(device: dict[str, Any]) -> Device:
    return EntropyDevice(device["id"], **_limits(device, "rate_limit"))


def _mmds(device: dict[str, Any]) -> Device:
    names = ("id", "interfaces", "version", "address", "imds_compat", "contents")
    return MetadataService(**{name: device[name] for name in names if name in device})


_MAKERS: dict[str, Callable[[dict[str, Any]], Device]] = {
    "block": _block,
    "net": _net,
    "fs": _fs,
    "serial": _serial,
    "vsock": _vsock,
    "vfio": _vfio,
    "vhost_user": _vhost_user,
    "balloon": _balloon,
    "pmem": _pmem,
    "entropy": _entropy,
    "mmds": _mmds,
}
