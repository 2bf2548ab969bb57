# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices of a running VM over QMP: plugged in whole or not at all, taken out when the guest has let go."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from ....errors import DeadlineExceeded, HypervisorError, VmmError
from ..qmp import QmpClient, QmpError
from .objects import QemuObject

#: The QMP command that makes an object, the one that removes it, and what that one calls the object's id.
COMMANDS = {
    "blockdev": ("blockdev-add", "blockdev-del", "node-name"),
    "netdev": ("netdev_add", "netdev_del", "id"),
    "chardev": ("chardev-add", "chardev-remove", "id"),
    "object": ("object-add", "object-del", "id"),
    "device": ("device_add", "device_del", "id"),
}
TYPE_KEY = {"blockdev": "driver", "netdev": "type", "object": "qom-type", "device": "driver"}


def plug(qmp: QmpClient, objects: list[QemuObject]) -> None:
    """Make the objects in order; when one fails, those made before are removed again.

    :raises QmpError: QEMU refused one
    """
    made: list[QemuObject] = []
    try:
        for one in reversed(objects):
            discard(qmp, one)
        for one in objects:
            qmp.execute(COMMANDS[one.kind][0], arguments_of(one))
            made.append(one)
    except HypervisorError:
        for one in reversed(made):
            with contextlib.suppress(HypervisorError):
                _remove(qmp, one)
        raise


def unplug(qmp: QmpClient, objects: list[QemuObject], timeout: float) -> None:
    """Take a device out: what the guest sees first, and when the guest has released it, what stands behind it. Idempotent.

    :param timeout: seconds the guest gets
    :raises VmmError: the guest refused
    :raises DeadlineExceeded: it did not answer
    """
    remove_device(qmp, objects[-1].id, timeout)
    for one in reversed(objects[:-1]):
        discard(qmp, one)


def arguments_of(one: QemuObject) -> dict[str, Any]:
    """What QMP's command for an object takes."""
    if one.kind == "chardev":
        return _chardev(one)
    name = COMMANDS[one.kind][2]
    return {TYPE_KEY[one.kind]: one.type, name: one.id, **one.properties}


def _chardev(one: QemuObject) -> dict[str, Any]:
    named = "fd" in one.properties
    data = {"str": one.properties["fd"]} if named else {"path": one.properties["path"]}
    address = {"type": "fd" if named else "unix", "data": data}
    socket: dict[str, Any] = {"addr": address, "server": bool(one.properties.get("server"))}
    if socket["server"]:
        socket["wait"] = False
    return {"id": one.id, "backend": {"type": "socket", "data": socket}}


def descriptor_sets(qmp: QmpClient) -> dict[int, list[str]]:
    """What QEMU tells of its open files, by the number of the set."""
    return {one["fdset-id"]: [file.get("opaque", "") for file in one["fds"]] for one in qmp.execute("query-fdsets")}


def _remove(qmp: QmpClient, one: QemuObject) -> None:
    _add, command, name = COMMANDS[one.kind]
    qmp.execute(command, {name: one.id})


def discard(qmp: QmpClient, one: QemuObject) -> None:
    """Remove an object that stands behind a device, if it is there (an attempt that was killed half-way may have left it)."""
    if one.kind in COMMANDS and one.kind != "device":
        with contextlib.suppress(QmpError):
            _remove(qmp, one)


#: Seconds the guest gets to take or to give memory, or to release a device.
GUEST_SECONDS = 10.0


#: Seconds after which a device's release is asked for again, a little more than QEMU waits before it passes another request on.
ASK_AGAIN_SECONDS = 5.5


#: How QEMU says that the guest has been asked already.
UNDER_WAY = ("already in the process of unplug", "guest is busy")


def remove_device(qmp: QmpClient, identifier: str, timeout: float = GUEST_SECONDS) -> None:
    """device_del, and wait for the guest to release it. A device that is not there is success.

    A guest that still boots does not hear the request, so it is made again; QEMU passes on one in five seconds.

    :param timeout: seconds
    :raises VmmError: the guest refused
    :raises DeadlineExceeded: the guest did not answer
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            qmp.execute("device_del", {"id": identifier})
        except QmpError as error:
            if error.error_class == "DeviceNotFound":
                return
            if not any(words in error.answer for words in UNDER_WAY):
                raise
        patience = min(ASK_AGAIN_SECONDS, max(0.0, deadline - time.monotonic()))
        if qmp.wait_event("DEVICE_DELETED", patience, lambda data: data.get("device") == identifier) is not None:
            return
        _raise_if_refused(qmp, identifier)
        if time.monotonic() >= deadline:
            raise DeadlineExceeded(
                f"the guest did not release {identifier} within {timeout:g} s",
                wanted=identifier,
                fix="It may still do so later; a guest that runs no hotplug driver never will.",
            )


def _raise_if_refused(qmp: QmpClient, identifier: str) -> None:
    for event in qmp.events():
        data = event.get("data") or {}
        refused = (
            event["event"] in ("DEVICE_UNPLUG_GUEST_ERROR", "MEM_UNPLUG_ERROR") and data.get("device") == identifier
        )
        info = data["info"] if isinstance(data.get("info"), dict) else {}
        # ACPI's status for an ejection: 0 done, 0x84 in progress, anything else is a no (ACPI 6.3, _OST).
        refused = refused or (
            event["event"] == "ACPI_DEVICE_OST"
            and info.get("device") == identifier
            and info.get("source") == 3
            and info.get("status") not in (0, 0x84)
        )
        if refused:
            raise VmmError(f"the guest refused to release {identifier}", wanted=identifier, answer=str(data))
