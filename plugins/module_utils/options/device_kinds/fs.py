# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories of the host that the guest mounts."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from .base import Device, DeviceKind, Refuse, Suboption

#: Bytes of a share's tag (VIRTIO 1.2, 5.11.4).
MOST_TAG = 36


@dataclasses.dataclass
class Volume(Device):
    """A directory of the host shared with the guest under a tag."""

    mount_tag: str
    host_path: str
    id: str = ""
    read_only: bool = False

    @property
    def identity(self) -> str:
        return self.id or self.mount_tag


def make(device: dict[str, Any]) -> Volume:
    """The record of a shared directory."""
    return Volume(device["tag"], device["path"], id=device["id"], read_only=device["read_only"])


def check(checked: dict[str, Any], wrong: Refuse) -> None:
    """Refuse a tag that is too long."""
    if len(os.fsencode(checked["tag"])) > MOST_TAG:
        raise wrong(f"tag of device {checked['id']} must be at most {MOST_TAG} bytes long", name="tag")


FS = DeviceKind(
    "fs",
    Volume,
    {
        "tag": Suboption(required=True),
        "path": Suboption("path", required=True),
        "read_only": Suboption("bool", default=False),
    },
    make,
    plug="fs_hotplug",
    check=check,
)
