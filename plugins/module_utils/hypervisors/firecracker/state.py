# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Firecracker driver remembers of one VM: enough to find and to remove everything it made."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import uuid
from typing import TYPE_CHECKING, Any

from ...host.processes import ProcessIdentity
from ...untrusted.answers import FIELD_SHAPES, AnswerError, Anything, Maybe, Record, Text, checked, shape_of

if TYPE_CHECKING:
    from ...options.device_kinds.base import Device


@dataclasses.dataclass(frozen=True)
class Jail:
    """Where a jailed Firecracker lives and as whom.

    :param base: directory of all jails
    :param program: file name of the Firecracker binary, a part of the jail's path
    :param id: the sandbox's id in the jailer's narrower alphabet
    """

    base: str
    program: str
    id: str
    uid: int
    gid: int

    @property
    def directory(self) -> str:
        """All of the jail; what is removed at its end."""
        return os.path.join(self.base, self.program, self.id)

    @property
    def root(self) -> str:
        """What the jailed process sees as /."""
        return os.path.join(self.directory, "root")

    @property
    def cgroup_parent(self) -> str:
        """The cgroup in which the jail's own lies; no other jail has one there, since a cgroup with processes can have no further settings."""
        place = hashlib.sha256(os.path.join(self.base, self.program).encode()).hexdigest()[:8]
        return f"kata-hypervisor/{self.id}.{place}"

    def path(self, name: str) -> str:
        """A file in the jail, as the host sees it."""
        return os.path.join(self.root, name)


@dataclasses.dataclass
class FirecrackerState:
    """The driver's persistent state.

    :param uuid: what makes the addresses of its interfaces unique
    :param version: of the binary that the VM was started with, or will be
    :param process: the Firecracker that was started, None before and after
    :param launching: a Firecracker may run that `process` does not name yet
    :param jail: where it is jailed, None where it is not
    :param pci: it was started with PCI
    :param boot_memory_mb: MiB that the VM booted with
    :param region_mb: MiB that can be plugged in
    :param devices: the devices that it was given, by id, each as `as_record` writes it
    :param placeholders: which device each placeholder drive stands for; empty for none
    :param singles: the user's ids of devices of which a VM has one and Firecracker keeps no id, by what its configuration calls them
    :param base: where its memory began, and the file's fingerprint, for a VM that keeps account of what it has changed since
    :param taps: interfaces that were made for it
    :param sockets: further sockets on the host that are its own
    :param vsock: the host's path of its vsock's socket
    """

    uuid: str = ""
    version: list[int] = dataclasses.field(default_factory=list)
    process: ProcessIdentity | None = None
    launching: bool = False
    jail: Jail | None = None
    pci: bool = False
    boot_memory_mb: int = 0
    region_mb: int = 0
    devices: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    placeholders: list[str] = dataclasses.field(default_factory=list)
    singles: dict[str, str] = dataclasses.field(default_factory=dict)
    base: list[str] = dataclasses.field(default_factory=list)
    taps: list[str] = dataclasses.field(default_factory=list)
    sockets: list[str] = dataclasses.field(default_factory=list)
    vsock: str = ""

    def new_identity(self) -> None:
        """Give the VM a UUID, once."""
        self.uuid = self.uuid or str(uuid.uuid4())

    def as_dict(self) -> dict[str, Any]:
        """The state as a JSON-able value."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> FirecrackerState:
        """The state from its JSON value; what a later version added is left out."""
        value = checked(
            shape_of(cls, process=Anything(), jail=Maybe(Record(shape_of(Jail).optional))),
            value,
            "the recorded state of Firecracker",
        )
        state = cls(**value)
        state.process = ProcessIdentity.from_dict(value.get("process"))
        state.jail = Jail(**value["jail"]) if value.get("jail") else None
        return state


def as_record(device: Device) -> dict[str, Any]:
    """A device as a JSON-able value."""
    return {"class": type(device).__name__, **dataclasses.asdict(device)}


def from_record(value: dict[str, Any]) -> Device:
    """The device that `as_record` wrote.

    :raises AnswerError: it wrote another one
    """
    from ...options.device_kinds import KIND_OF
    from ...options.device_kinds.base import RateLimit

    source = "the recorded device"
    kinds: dict[str, Any] = {kind.__name__: kind for kind in KIND_OF}
    kind = kinds[checked(Record({"class": Text(choices=tuple(kinds))}), value, source)["class"]]
    others = {field.name: Anything() for field in dataclasses.fields(kind) if str(field.type) not in FIELD_SHAPES}
    limits = {name: Maybe(shape_of(RateLimit)) for name in others if name.endswith("rate_limit")}
    fields = checked(shape_of(kind, **{**others, **limits}), value, source)
    fields.update({name: RateLimit(**fields[name]) for name in limits if fields.get(name)})
    try:
        made: Device = kind(**fields)
    except TypeError as error:
        raise AnswerError(f"{source} cannot be used: it is incomplete", answer=str(error)) from error
    return made
