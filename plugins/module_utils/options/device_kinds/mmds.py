# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Metadata services: JSON that a guest reads at an address of its own (Firecracker's MMDS)."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Sequence

from ...errors import ConfigError
from ...untrusted.answers import AnswerError, Anything, Maybe
from ...untrusted.answers import checked as checked_answer
from .base import Device, DeviceKind, Refuse, Suboption, values_of

#: What can be in a metadata service's contents.
CONTENTS = Maybe(Anything(depth=32, most=20000))
USUAL_ADDRESS = "169.254.169.254"


@dataclasses.dataclass
class MetadataService(Device):
    """A JSON object that the guest can read over the network.

    :param interfaces: ids of the network devices that lead there
    :param version: V1, or V2 where the guest has to fetch a token first
    :param address: a link-local IPv4 address; empty for 169.254.169.254
    :param imds_compat: answer as EC2's service does
    :param contents: a JSON object
    """

    id: str
    interfaces: list[str]
    version: str = "V2"
    address: str = ""
    imds_compat: bool = False
    contents: dict[str, Any] = dataclasses.field(default_factory=dict)


def make(device: dict[str, Any]) -> MetadataService:
    """The record of a metadata service."""
    return MetadataService(**values_of(device, "id", "interfaces", "version", "address", "imds_compat", "contents"))


def check(checked: dict[str, Any], wrong: Refuse) -> None:
    """Refuse an address that is not link-local, and contents that a metadata service cannot keep."""
    if not checked["interfaces"]:
        raise wrong("a metadata service needs at least one of the interfaces", name="interfaces")
    address = checked.get("address", USUAL_ADDRESS)
    if not re.fullmatch(r"169\.254(\.[0-9]{1,3}){2}", address) or not all(
        int(number) < 256 for number in address.split(".")
    ):
        raise wrong(f"address must be a link-local IPv4 address such as {USUAL_ADDRESS}, not {address}", name="address")
    try:
        checked_answer(CONTENTS, checked.get("contents"), "contents")
    except AnswerError as problem:
        raise wrong(problem.message, name="contents") from None
    if _has_null(checked.get("contents")):
        raise wrong(
            "contents must not have null: to the metadata service it means that a name is removed", name="contents"
        )
    if not checked.get("hide_contents", True):
        del checked["hide_contents"]  # As in records of earlier versions.


def _has_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(item is None or _has_null(item) for item in value.values())
    return isinstance(value, list) and any(item is None or _has_null(item) for item in value)


def check_others(device: dict[str, Any], devices: Sequence[dict[str, Any]]) -> None:
    """Refuse a service at an interface that its sandbox does not have."""
    nets = [other["id"] for other in devices if other["type"] == "net"]
    for name in device["interfaces"]:
        if name not in nets:
            raise ConfigError(
                f"device {device['id']} names an interface that is not there", option="devices", wanted=name
            )


MMDS = DeviceKind(
    "mmds",
    MetadataService,
    {
        "interfaces": Suboption("list", required=True, elements="str"),
        "version": Suboption(choices=("V1", "V2"), default="V2"),
        "address": Suboption(),
        "imds_compat": Suboption("bool", default=False),
        "contents": Suboption("dict", updated_by="metadata_update"),
        "hide_contents": Suboption("bool", updated_by="metadata_update"),
    },
    make,
    check=check,
    check_others=check_others,
)
