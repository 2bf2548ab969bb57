# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the QEMU driver remembers of one VM: enough to find, to repeat and to remove everything it made.

What QEMU itself can tell (vCPUs and memory plugged in) is not remembered but asked.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ...host.processes import ProcessIdentity
from ...untrusted.answers import Anything, ListOf, MapOf, Maybe, Number, Record, Text, checked, shape_of
from .bridges import Bridge
from .names import CHANNELS

#: A bridge as `Bridge.as_dict` writes it.
BRIDGE = Record({"Type": Text(64), "ID": Text(64)}, {"Addr": Number(0, 255), "Address": Maybe(MapOf(Text(256)))})


@dataclasses.dataclass
class QemuState:
    """The driver's persistent state.

    :param accelerator: what the VM was started with, and `accelerator_reason` why
    :param process: the QEMU that was started, None before and after
    :param own_uid: the uid that the sandbox has for itself, 0 before it needed one
    :param uid: whom its QEMU runs as since its last start
    :param program: real path of the QEMU that is started
    :param launching: a QEMU may run that `process` does not name yet
    :param boot_vcpus: vCPUs at launch
    :param boot_memory_mb: MiB at launch
    :param max_memory_mb: MiB it can grow to
    :param keeps_vcpus: this machine gives no vCPU back
    :param shared_memory: other processes (vhost-user, virtiofsd) can see the guest's memory
    :param generation_id: it has a generation id, as templates and their clones have
    :param channels: how many ports for data it has; VMs of earlier versions have none
    :param daemons: processes that serve a device, by the device's id
    :param sockets: paths of those that we made for devices, by the device's id
    :param offline_vcpus: vCPUs that the guest was asked to stop using, and when (microseconds since 1970); after a restart it uses all
    """

    uuid: str = ""
    qemu_version: list[int] = dataclasses.field(default_factory=list)
    accelerator: str = ""
    accelerator_reason: str = ""
    process: ProcessIdentity | None = None
    launching: bool = False
    program: str = ""
    own_uid: int = 0
    uid: int = 0
    boot_vcpus: int = 0
    boot_memory_mb: int = 0
    max_memory_mb: int = 0
    memory_hotplug: str = ""
    offline_vcpus: int = 0
    offline_since: int = 0
    keeps_vcpus: bool = False
    shared_memory: bool = False
    generation_id: bool = False
    channels: int = 0
    daemons: dict[str, ProcessIdentity] = dataclasses.field(default_factory=dict)
    sockets: dict[str, str] = dataclasses.field(default_factory=dict)
    bridges: list[Bridge] = dataclasses.field(default_factory=list)

    def new_identity(self) -> None:
        """Give the VM a UUID, once."""
        import uuid

        self.uuid = self.uuid or str(uuid.uuid4())

    def as_dict(self) -> dict[str, Any]:
        """The state as a JSON-able value."""
        value = dataclasses.asdict(self)
        value["bridges"] = [bridge.as_dict() for bridge in self.bridges]
        return value

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> QemuState:
        """The state from its JSON value; what a later version added is left out."""
        source = "the recorded state of QEMU"
        shape = shape_of(
            cls, process=Anything(), daemons=MapOf(Anything()), bridges=ListOf(BRIDGE), channels=Number(0, CHANNELS)
        )
        value = checked(shape, value, source)
        for bridge in value.get("bridges") or ():
            # JSON's names are text; these are numbers of slots.
            checked(ListOf(Text(pattern="[0-9]{1,4}")), list(bridge.get("Address") or {}), source)
        state = cls(**value)
        state.process = ProcessIdentity.from_dict(value.get("process"))
        daemons = {name: ProcessIdentity.from_dict(daemon) for name, daemon in (value.get("daemons") or {}).items()}
        state.daemons = {name: daemon for name, daemon in daemons.items() if daemon is not None}
        state.bridges = [Bridge.from_dict(bridge) for bridge in value.get("bridges") or []]
        return state
