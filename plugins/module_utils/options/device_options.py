# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The devices of a task: checked against what their kinds declare, compared with recorded ones, and made into records.

A task's device stays a plain dictionary, in the sandbox's record too: what was asked for is compared with what was asked for.
"""

from __future__ import annotations

import re
from typing import Any

from ..errors import ConfigError, StoreError
from ..records.layout import clean_path, same_path
from ..untrusted.answers import brief
from .device_kinds import DEVICE_SUBOPTIONS, INDEXED, KINDS
from .device_kinds.base import Device, Refuse, Suboption
from .shown import HIDDEN

DEVICE_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,31}")


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
    for device in () if alone else checked:
        try:
            KINDS[device["type"]].check_others(device, checked)
        except ConfigError as problem:
            problem.sandbox = sandbox
            raise
    return checked


def _check_device(said: dict[str, Any], taken: list[str], alone: bool = False) -> dict[str, Any]:
    identity = said.get("id")
    kind = KINDS.get(str(said.get("type")))

    def wrong(message: str, fix: str = "", name: str = "") -> ConfigError:
        option = (name or "type") if alone else "devices"
        return ConfigError(message, option=option, wanted=_shown(said, name if alone else ""), fix=fix)

    identity = validate_device_id(identity, "id" if alone else "devices")
    if identity in taken:
        raise wrong(f"two devices have the id {identity}", "Give each device an id of its own.")
    if kind is None:
        raise wrong(f"device {identity} must have one of the types {', '.join(KINDS)}")
    for name in kind.required():
        if said.get(name) in (None, ""):
            raise wrong(f"device {identity} of type {kind.name} needs {name}", name=name)
    for name in said:
        if name not in ("id", "type", *kind.suboptions):
            raise wrong(f"device {identity} of type {kind.name} has no suboption {name}", name=name)
    filled = {name: value for name, value in kind.defaults().items() if value is not None}
    checked = {**filled, **said}
    for name, value in checked.items():
        if name in kind.suboptions:
            what = f"{name} of device {identity}"
            checked[name] = _check_suboption(kind.suboptions[name], name, value, what, wrong)
    kind.check(checked, wrong)
    return checked


def _shown(said: dict[str, Any], name: str) -> Any:
    """What an error shows of a device, or of one suboption. Whether a value is secret is not known yet, so one that may be is hidden."""
    shown = {key: HIDDEN if f"hide_{key}" in DEVICE_SUBOPTIONS else value for key, value in said.items()}
    return shown.get(name) if name else shown


def _check_suboption(suboption: Suboption, name: str, value: Any, what: str, wrong: Refuse) -> Any:
    """A suboption's value, which must be as it is declared; a path in one spelling."""
    if suboption.numbers:
        return _check_numbers(suboption, name, value, what, wrong)
    if suboption.range:
        least, most = suboption.range
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise wrong(f"{what} must be an integer from {least} to {most}", name=name)
    elif suboption.type == "bool":
        if not isinstance(value, bool):
            raise wrong(f"{what} must be true or false", name=name)
    elif suboption.type == "list":
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            raise wrong(f"{what} must be a list of names", name=name)
    elif suboption.type == "dict":
        if not isinstance(value, dict):
            raise wrong(f"{what} must be a dictionary", name=name)
    elif not isinstance(value, str):
        raise wrong(f"{what} must be text", name=name)
    elif not value.isprintable():
        raise wrong(f"{what} must not have a line break or another character that cannot be printed", name=name)
    elif suboption.type == "path":
        if not value.startswith("/"):
            raise wrong(f"{what} must be an absolute path", name=name)
        return clean_path(value, "devices")
    elif suboption.choices and value not in suboption.choices:
        raise wrong(f"{what} must be one of {', '.join(suboption.choices)}", name=name)
    return value


def _check_numbers(suboption: Suboption, name: str, given: Any, what: str, wrong: Refuse) -> dict[str, int]:
    """A rate limit without what was not given."""
    names = suboption.numbers
    if not isinstance(given, dict):
        raise wrong(f"{what} must be a dictionary of {', '.join(names)}", name=name)
    said = {key: value for key, value in given.items() if value is not None}
    for key, value in said.items():
        if key not in names or not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
            raise wrong(
                f"{what} can have {', '.join(names)}, each a number from 0 (no limit) to {2**63 - 1}", name=name
            )
        if value and key.endswith("_burst") and not said.get(key[: -len("_burst")]):
            raise wrong(f"{key} in {what} needs {key[: -len('_burst')]} beside it", name=name)
    if not any(said.values()):
        raise wrong(f"{what} limits nothing; leave it out", name=name)
    return said


def with_indexes(devices: list[dict[str, Any]], recorded: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The devices with the position of each whose kind has one: the recorded one, or the lowest that is free."""
    kept = {device["id"]: device["index"] for device in recorded if "index" in device}
    taken = {kept[device["id"]] for device in devices if device["id"] in kept}
    placed = []
    for device in devices:
        if device["type"] in INDEXED:
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
        and DEVICE_SUBOPTIONS.get(name, {}).get("type") == "path"
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
    return KINDS[device["type"]].make(device)


#: What Python's types are that a suboption can have.
_TYPES: dict[str, type] = {"str": str, "path": str, "int": int, "bool": bool, "list": list, "dict": dict}


def _check_recorded(device: dict[str, Any]) -> None:
    """Refuse a device that no version of ours wrote. Its values are not judged again: rules that are newer must not keep it from being removed."""
    kind = device.get("type")
    wrong = (
        [name for name in KINDS[kind].required() if name not in device]
        if isinstance(kind, str) and kind in KINDS
        else ["type"]
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
