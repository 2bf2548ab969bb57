# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Save to a file and restore: QEMU's migration, through descriptors, so that no path is ever read by a shell."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any, Iterator

from ...errors import DeadlineExceeded, StateError, Unsupported, VmmError
from ...host.atomic_files import replace_file, sync
from ...host.digests import file_mark
from ...untrusted.answers import AnswerError, Anything, ListOf, MapOf, Number, Record, Text, checked, parsed
from .qmp import QmpClient, QmpConnectionError, QmpError

STATE_FILE = "memory"
DESCRIPTION_FILE = "vm.json"
#: The most that a description has, bytes, and what can be in it.
DESCRIPTION_LIMIT = 16 * 1024 * 1024
_PLUGGED = ListOf(MapOf(Anything(most=100_000)))
DESCRIPTION = Record(
    {"qemu_version": ListOf(Number(0, 10_000), most=3), "state": MapOf(Anything(most=1_000_000))},
    {
        "hotplugged_vcpus": _PLUGGED,
        "dimms": _PLUGGED,
        "files": MapOf(MapOf(Number())),
        "machine": Text(256),
        "disks": MapOf(Text(8192)),
    },
)
#: Bytes per second; the point is not to be polite to a network.
BANDWIDTH = 64 << 30
#: From this QEMU on a file is handed over in a set of descriptors; as `fd:` it is deprecated, and refused by QEMU 11.
FILES_IN_SETS = (9, 1, 0)
#: States of a migration that is under way (QMP, MigrationStatus).
RUNNING_MIGRATION = ("setup", "active", "device", "pre-switchover", "wait-unplug", "cancelling")


def write_state(qmp: QmpClient, destination: str, description: dict[str, Any], timeout: float) -> None:
    """Write the paused VM's state below `destination`: whole, or not at all.

    :param description: what a VM must look like to take the state, stored beside it
    :param timeout: seconds
    :raises VmmError: QEMU could not
    :raises DeadlineExceeded: it took too long; the attempt is cancelled
    """
    os.makedirs(destination, mode=0o700, exist_ok=True)
    temporary = os.path.join(destination, STATE_FILE + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        qmp.execute("migrate-set-parameters", {"max-bandwidth": BANDWIDTH})
        with handed_over(qmp, descriptor) as uri:
            qmp.execute("migrate", {"uri": uri})
            try:
                wait_migrated(qmp, timeout)
            except DeadlineExceeded:
                qmp.execute("migrate_cancel")
                raise
        os.fsync(descriptor)
        description["disks"] = file_marks(qmp)
        replace_file(os.path.join(destination, DESCRIPTION_FILE), json.dumps(description).encode(), 0o600)
        os.replace(temporary, os.path.join(destination, STATE_FILE))
        # A rename is on the disk when its directory is; the record says "saved" after that.
        sync(destination)
        sync(os.path.dirname(destination))
    except BaseException:
        os.unlink(temporary)
        raise
    finally:
        os.close(descriptor)


def file_marks(qmp: QmpClient) -> dict[str, str]:
    """What tells the image and the disks of a VM from other files, and from themselves after a change, by QEMU's words for them: an id and a path.

    A restored guest has in its memory what it knows of them, so another file, or a changed one, is lost data.
    """
    from .devices.qmp_objects import descriptor_sets

    names = [name for found in descriptor_sets(qmp).values() for name in found if "/" in name]
    for name in names:
        with contextlib.suppress(OSError):  # The time of change must outlive a power loss.
            sync(name.partition(" ")[2])
    return {name: file_mark(name.partition(" ")[2]) for name in names}


def check_files(description: dict[str, Any]) -> None:
    """Refuse a restore over an image or disks that are not as they were when the VM was saved.

    :raises StateError: names the file, what it was and what it is
    """
    for name, before in description.get("disks", {}).items():
        identity, _blank, path = name.partition(" ")
        now = file_mark(path)
        if before != now:
            raise StateError(
                f"{path} must be as it was when the sandbox was saved: it was {before}, and is {now}",
                option="image_path" if identity in ("image", "root") else "devices",
                wanted=path,
                fix="Put the old file back, or give the saved state up: state stopped with disruption: restart, which boots the guest from the file.",
            )


@contextlib.contextmanager
def handed_over(qmp: QmpClient, descriptor: int) -> Iterator[str]:
    """Give QEMU an open file; the URI by which its migration commands know it."""
    if qmp.version < FILES_IN_SETS:
        qmp.execute("getfd", {"fdname": "state"}, fds=[descriptor])
        yield "fd:state"
        return
    number = qmp.execute("add-fd", fds=[descriptor])["fdset-id"]
    try:
        yield f"file:/dev/fdset/{number}"
    finally:
        with contextlib.suppress(QmpError, QmpConnectionError):
            qmp.execute("remove-fd", {"fdset-id": number})


def check_savable(qmp: QmpClient) -> None:
    """Refuse to save what QEMU will not save, and what it could not restore: it would write what a read-only NVDIMM holds to where nobody can write.

    :raises StateError: with QEMU's reasons (QMP, MigrationInfo.blocked-reasons; before 6.0 QEMU gives them only when it is asked to save)
    :raises Unsupported: names the device
    """
    reasons = qmp.execute("query-migrate").get("blocked-reasons")
    if reasons:
        raise StateError(
            "QEMU cannot save this VM as it is",
            answer="; ".join(reasons),
            fix="Unplug what it names, or, if that is a 9p share, unmount it in the guest.",
        )
    for device in qmp.execute("query-memory-devices"):
        data = device["data"]
        if device["type"] == "nvdimm" and qmp.execute("qom-get", {"path": data["memdev"], "property": "readonly"}):
            raise Unsupported(
                "QEMU restores no VM with a read-only NVDIMM, so it is not saved",
                wanted=data.get("id"),
                fix="Use image_driver virtio-blk or virtio-pmem, or leave read_only out of the device.",
            )


def end_earlier_save(qmp: QmpClient, timeout: float) -> bool:
    """End a save that a killed task left behind; returns whether it had come to its end, after which QEMU saves no guest that has not run since.

    :param timeout: seconds
    """
    deadline = time.monotonic() + timeout
    if qmp.execute("query-migrate").get("status") in RUNNING_MIGRATION:
        qmp.execute("migrate_cancel")
        while qmp.execute("query-migrate").get("status") in RUNNING_MIGRATION and time.monotonic() < deadline:
            time.sleep(0.01)
    return str(qmp.execute("query-status").get("status")) == "postmigrate"


def read_description(source: str) -> dict[str, Any]:
    """What `write_state` stored beside a state.

    :raises StateError: there is no whole saved state
    """
    try:
        with open(os.path.join(source, DESCRIPTION_FILE), encoding="utf-8") as stream:
            value = parsed(stream.read(DESCRIPTION_LIMIT + 1), "its description", DESCRIPTION_LIMIT)
        os.stat(os.path.join(source, STATE_FILE))
        checked(DESCRIPTION, value, "its description")
    except (OSError, ValueError, AnswerError) as error:
        raise StateError(f"there is no saved VM in {source}", answer=str(error)) from error
    description: dict[str, Any] = value
    return description


def check_version(description: dict[str, Any], version: list[int], binary: str) -> None:
    """Return when a QEMU of that version takes the state: its machines are those of the version that saved it, but for corrections.

    :raises StateError: it is another one
    """
    saved_by = list(description.get("qemu_version") or [])
    if saved_by[:2] != version[:2]:
        by, now = (".".join(map(str, one)) for one in (saved_by, version))
        raise StateError(
            f"the state was saved by QEMU {by}, and this is QEMU {now}",
            option="hypervisor_path",
            wanted=binary,
            fix=f"Have a QEMU {'.'.join(map(str, saved_by[:2]))} there again, or give the saved state up (state stopped with disruption restart).",
        )


def read_state(qmp: QmpClient, source: str, timeout: float) -> None:
    """Give a QEMU that waits for it the state from `source`.

    :param timeout: seconds
    :raises VmmError: QEMU does not take it
    """
    descriptor = os.open(os.path.join(source, STATE_FILE), os.O_RDONLY | os.O_CLOEXEC)
    try:
        with handed_over(qmp, descriptor) as uri:
            qmp.execute("migrate-incoming", {"uri": uri})
            wait_migrated(qmp, timeout)
    finally:
        os.close(descriptor)


def wait_migrated(qmp: QmpClient, timeout: float) -> None:
    """Wait for a migration to complete.

    :param timeout: seconds
    :raises VmmError: it failed or was cancelled
    :raises DeadlineExceeded: it still goes on
    """
    deadline = time.monotonic() + timeout
    while True:
        info = qmp.execute("query-migrate")
        status = info.get("status")
        if status == "completed":
            return
        if status in ("failed", "cancelled"):
            raise VmmError(f"the migration {status}", answer=str(info.get("error-desc", "")))
        if time.monotonic() >= deadline:
            raise DeadlineExceeded(f"the migration did not complete within {timeout:g} s", answer=f"status {status}")
        time.sleep(0.005)
