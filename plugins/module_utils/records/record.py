# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of a sandbox: its fields, and how it is parsed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from typing import Any

from ..errors import StoreError
from ..untrusted.answers import AnswerError, Anything, Flag, ListOf, MapOf, Number, Record, Text, brief, checked, parsed

#: Version of the record's form. A record of a newer one is refused, never guessed at.
SCHEMA = 1


COLLECTION_VERSION = "1.0.0"


#: What was being done when the record was written. Anything but SETTLED in a record that nobody holds the lock of means that
#: the task was killed there.
SETTLED = ""


PHASES = (
    SETTLED,
    "starting",
    "stopping",
    "pausing",
    "resuming",
    "resizing",
    "plugging",
    "saving",
    "restoring",
    "removing",
)


#: The most that a record may have, bytes: a metadata service's contents and the files of a seed are in it, and JSON may write a byte with six.
MOST_BYTES = 32 * 1024 * 1024

#: The longest value of an option, characters: a file of a seed.
MOST_OPTION = 1 << 20


#: Directory of a VM's saved state, beside its record.
SAVED = "saved"


@dataclasses.dataclass
class SandboxRecord:
    """What was last done with a sandbox.

    :param options: the options that tasks have given, by name
    :param defaults: the values that the driver filled in at creation for options nobody gave
    :param devices: the devices that tasks have listed (see `device_options.py`)
    :param desired: the state a task asked for last: started, paused, stopped or saved
    :param phase: one of PHASES
    :param driver: what `Hypervisor.save` gave
    :param saved_state: directory of the VM's saved state, empty when there is none
    :param saved_vcpus: vCPUs of the saved VM, 0 for those of the options. Something else than a task may have plugged some
    :param memory_reached_mb: MiB the driver reached when it was asked for options' `memory_mb`: it may round up to a block
    :param template: of a template, where its memory is and what it was made from (see `template.py`)
    :param resources: what the host gives it, by kind (see `engine/resources.py`)
    :param console_start: size of the console's log at the last start, in bytes
    :param run_dir: the task's `run_dir`: the VM's sockets and logs are below it; empty in records of earlier versions
    """

    id: str
    hypervisor: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    defaults: dict[str, Any] = dataclasses.field(default_factory=dict)
    devices: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    desired: str = "stopped"
    phase: str = SETTLED
    driver: dict[str, Any] = dataclasses.field(default_factory=dict)
    saved_state: str = ""
    saved_vcpus: int = 0
    memory_reached_mb: int = 0
    console_start: int = 0
    template: dict[str, Any] = dataclasses.field(default_factory=dict)
    resources: dict[str, Any] = dataclasses.field(default_factory=dict)
    run_dir: str = ""
    created: str = ""
    changed: str = ""
    collection_version: str = COLLECTION_VERSION
    schema: int = SCHEMA

    def effective(self) -> dict[str, Any]:
        """The options in force: what was given, over what was filled in."""
        return {**self.defaults, **self.options}


#: What each field of a record can hold. The driver's state and the options have shapes of their own, which their owners check.
_DEVICE = Anything(depth=40, most=100_000)


_FILE = Record({"option": Text(64), "path": Text(4096), "is": Text(8192), "sha512": Text(128)})


SHAPES: dict[str, Any] = {
    "id": Text(64),
    "hypervisor": Text(64, pattern="[a-z][a-z0-9_-]*"),
    "options": MapOf(Anything(depth=8, most=100_000, longest=MOST_OPTION)),
    "defaults": MapOf(Anything(depth=8, most=100_000)),
    "devices": ListOf(MapOf(_DEVICE, most=64)),
    "desired": Text(choices=("started", "paused", "stopped", "saved")),
    "phase": Text(choices=PHASES),
    "driver": MapOf(Anything(depth=16, most=1_000_000)),
    "saved_state": Text(4096),
    "saved_vcpus": Number(0, 2**16),
    "memory_reached_mb": Number(0, 2**32),
    "console_start": Number(0, 2**63 - 1),
    "template": Record(
        {}, {"memory": Text(4096, pattern="/.*/memory"), "memory_is": Text(8192), "files": ListOf(_FILE, most=64)}
    ),
    "resources": Record(
        {},
        {
            "image": Text(4096),
            "image_format": Text(choices=("raw", "qcow2")),
            "root_disk": MapOf(Anything(depth=2, most=100), most=16),
            "network": MapOf(Anything(depth=4, most=10_000), most=32),
            "seed": Flag(),
        },
    ),
    "run_dir": Text(4096),
    "created": Text(64),
    "changed": Text(64),
    "collection_version": Text(64),
    "schema": Number(1, SCHEMA),
}


def unusable_record(why: str, sandbox_id: str, path: str, fix: str = "") -> StoreError:
    """The error about a record that cannot be used."""
    return StoreError(
        f"its record {path} {why}",
        sandbox=sandbox_id,
        fix=fix
        or "Nothing was changed. Restore the file from a backup, or remove the sandbox with its VM (state: absent).",
    )


def parse_record(text: str, sandbox_id: str, path: str) -> SandboxRecord:
    """The record in a text.

    :raises StoreError: it is truncated, garbled, another sandbox's, or of a newer version of the collection
    """

    def unusable(why: str, fix: str = "") -> StoreError:
        return unusable_record(why, sandbox_id, path, fix)

    try:
        value = parsed(text, "the record", MOST_BYTES)
    except AnswerError as problem:
        raise unusable(f"is not complete JSON ({problem.message})") from problem
    if not isinstance(value, dict) or not isinstance(value.get("schema"), int):
        raise unusable("must be the record of a sandbox")
    if value["schema"] > SCHEMA:
        raise unusable(
            f"was written by kata.hypervisor {brief(value.get('collection_version'))} in form {value['schema']}, newer than {SCHEMA}, all this version knows",
            "Nothing was changed. Use that version of the collection or a later one.",
        )
    for name, entry in value.items():
        if name not in SHAPES:
            raise unusable(f"has an unknown field {brief(name)}")
        try:
            checked(SHAPES[name], entry, "it", name)
        except AnswerError as problem:
            raise unusable(f"has a field that cannot be used: {problem.message.partition(': ')[2]}") from problem
    if value.get("id") != sandbox_id or not value.get("hypervisor"):
        raise unusable("is another sandbox's, or names no hypervisor")
    if not all(isinstance(device.get(name), str) for device in value.get("devices", []) for name in ("id", "type")):
        raise unusable("lists a device without an id or a type")
    if value.get("saved_state") and value["saved_state"] != os.path.join(os.path.dirname(path), SAVED):
        raise unusable(f"names a saved state that is not its own, {brief(value['saved_state'])}")
    return SandboxRecord(**value)


def salvage_record(text: str, sandbox_id: str, hypervisor: str) -> SandboxRecord:
    """What can still be used of a record that `parse_record` refuses; for a task that removes the sandbox.

    :param hypervisor: the one to assume where the record names none
    """
    try:
        value = parsed(text, "the record", MOST_BYTES)
    except AnswerError:
        value = {}
    usable: dict[str, Any] = {}
    for name, entry in value.items() if isinstance(value, dict) else ():
        with contextlib.suppress(AnswerError):
            if name in SHAPES and name not in ("id", "schema", "saved_state", "phase", "desired"):
                usable[name] = checked(SHAPES[name], entry, name)
    usable["devices"] = [
        device
        for device in usable.get("devices", [])
        if isinstance(device.get("id"), str) and isinstance(device.get("type"), str)
    ]
    usable.setdefault("hypervisor", hypervisor)
    return SandboxRecord(id=sandbox_id, **usable)
