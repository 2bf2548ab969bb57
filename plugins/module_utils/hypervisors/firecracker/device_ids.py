# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices' ids in the API's narrower alphabet, and back. Pure."""

from __future__ import annotations

import os
from typing import Any

from .state import FirecrackerState

ROOT_DRIVE = "rootfs"
PLACEHOLDER = "drive_"


def api_id(name: str) -> str:
    """A device's id in the API's alphabet of letters, digits and underscores; different ids stay different."""
    escaped = name.replace("_", "__").replace("-", "_d").replace(".", "_p")
    return f"_{escaped}" if escaped == ROOT_DRIVE else escaped


def user_id(name: str) -> str:
    """The device's id that `api_id` was given."""
    if name == f"_{ROOT_DRIVE}":
        return ROOT_DRIVE
    pieces = {"__": "_", "_d": "-", "_p": "."}
    result, position = "", 0
    while position < len(name):
        piece = name[position : position + 2]
        result += pieces.get(piece, name[position])
        position += 2 if piece in pieces else 1
    return result


def placeholder_number(drive: str) -> int | None:
    """Which placeholder a drive of the API is. No device of the user's has such an id there: its underscore is doubled."""
    number = drive[len(PLACEHOLDER) :] if drive.startswith(PLACEHOLDER) else ""
    return int(number) if number.isdigit() else None


def ids_in(config: dict[str, Any], state: FirecrackerState) -> list[str]:
    """The user's ids of the devices in a VM's configuration."""
    names = []
    for drive in config.get("drives") or []:
        number = placeholder_number(str(drive["drive_id"]))
        if number is not None:
            # Its own file is behind it until Firecracker has taken the device's.
            own = os.path.basename(str(drive.get("path_on_host") or "")) == drive["drive_id"]
            names.append(state.placeholders[number] if number < len(state.placeholders) and not own else "")
        elif drive["drive_id"] != ROOT_DRIVE:
            names.append(user_id(str(drive["drive_id"])))
    names += [user_id(str(interface["iface_id"])) for interface in config.get("network-interfaces") or []]
    names += [user_id(str(drive["id"])) for drive in config.get("pmem") or []]
    # Without contents, an entropy device is an empty object.
    names += [name for kind, name in state.singles.items() if config.get(kind) is not None]
    return sorted(filter(None, names))
