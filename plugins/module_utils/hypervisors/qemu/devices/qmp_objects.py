# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices of a running VM over QMP: plugged in whole or not at all, taken out when the guest has let go."""

from __future__ import annotations

import contextlib
from typing import Any

from ....errors import HypervisorError
from ..qmp import QmpClient, QmpError
from ..resize import remove_device
from .objects import Part

#: The QMP command that makes a part, the one that removes it, and what that one calls the part's id.
COMMANDS = {
    "blockdev": ("blockdev-add", "blockdev-del", "node-name"),
    "netdev": ("netdev_add", "netdev_del", "id"),
    "chardev": ("chardev-add", "chardev-remove", "id"),
    "object": ("object-add", "object-del", "id"),
    "device": ("device_add", "device_del", "id"),
}
TYPE_KEY = {"blockdev": "driver", "netdev": "type", "object": "qom-type", "device": "driver"}


def plug(qmp: QmpClient, parts: list[Part]) -> None:
    """Make the parts in order; when one fails, those made before are removed again.

    :raises QmpError: QEMU refused a part
    """
    made: list[Part] = []
    try:
        for part in reversed(parts):
            discard(qmp, part)
        for part in parts:
            qmp.execute(COMMANDS[part.kind][0], arguments_of(part))
            made.append(part)
    except HypervisorError:
        for part in reversed(made):
            with contextlib.suppress(HypervisorError):
                _remove(qmp, part)
        raise


def unplug(qmp: QmpClient, parts: list[Part], timeout: float) -> None:
    """Take a device out: what the guest sees first, and when the guest has released it, what stands behind it. Idempotent.

    :param timeout: seconds the guest gets
    :raises VmmError: the guest refused
    :raises DeadlineExceeded: it did not answer
    """
    remove_device(qmp, parts[-1].id, timeout)
    for part in reversed(parts[:-1]):
        discard(qmp, part)


def arguments_of(part: Part) -> dict[str, Any]:
    """What QMP's command for a part takes."""
    if part.kind == "chardev":
        return _chardev(part)
    name = COMMANDS[part.kind][2]
    return {TYPE_KEY[part.kind]: part.type, name: part.id, **part.properties}


def _chardev(part: Part) -> dict[str, Any]:
    named = "fd" in part.properties
    data = {"str": part.properties["fd"]} if named else {"path": part.properties["path"]}
    address = {"type": "fd" if named else "unix", "data": data}
    socket: dict[str, Any] = {"addr": address, "server": bool(part.properties.get("server"))}
    if socket["server"]:
        socket["wait"] = False
    return {"id": part.id, "backend": {"type": "socket", "data": socket}}


def _remove(qmp: QmpClient, part: Part) -> None:
    _add, command, name = COMMANDS[part.kind]
    qmp.execute(command, {name: part.id})


def discard(qmp: QmpClient, part: Part) -> None:
    """Remove a part that stands behind a device, if it is there (an attempt that was killed half-way may have left it)."""
    if part.kind in COMMANDS and part.kind != "device":
        with contextlib.suppress(QmpError):
            _remove(qmp, part)
