# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bridge slots: which device sits where behind which PCI bridge or root port. Pure; the record keeps it."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from ...errors import StateError
from ...untrusted.answers import AnswerError, MapOf, Maybe, Number, Record, Text, brief, checked

#: Slot 0 of a bridge belongs to its own hotplug controller (shpc).
FIRST_SLOT, LAST_SLOT = 1, 30
#: Slots of the root bus that the machine itself uses.
FIRST_BRIDGE_ADDRESS = 2
#: A port of a PCI Express root: a bridge for one device, which sits in its slot 0.
ROOT_PORT = "pcie-root-port"
#: Bridges and root ports that the root bus has room for beside the machine's own devices.
MOST_BRIDGES = 20
#: What is stored of a bridge.
SHAPE = Record(
    {"Type": Text(64), "ID": Text(256)}, {"Addr": Number(0, 2**31 - 1), "Address": Maybe(MapOf(Text(4096), most=256))}
)
SLOT_NUMBER = re.compile("[0-9]{1,3}")


@dataclasses.dataclass
class Bridge:
    """One bridge.

    :param type: pci, pcie or `ROOT_PORT`
    :param address: its slot on the root bus
    :param slots: device id by slot
    """

    type: str
    id: str
    address: int = 0
    slots: dict[int, str] = dataclasses.field(default_factory=dict)

    @property
    def places(self) -> range:
        """The slots it has for devices."""
        return range(1) if self.type == ROOT_PORT else range(FIRST_SLOT, LAST_SLOT + 1)

    def as_dict(self) -> dict[str, Any]:
        """The bridge as Kata 1.x stores it."""
        return {
            "Type": self.type,
            "ID": self.id,
            "Addr": self.address,
            "Address": {str(slot): device for slot, device in sorted(self.slots.items())},
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Bridge:
        """The bridge from its stored form.

        :raises AnswerError: it is none
        """
        value = checked(SHAPE, value, "the recorded bridge")
        slots = {}
        for slot, device in (value.get("Address") or {}).items():
            if not SLOT_NUMBER.fullmatch(slot):
                raise AnswerError("the recorded bridge cannot be used: a slot must be a number", answer=brief(slot))
            slots[int(slot)] = device
        return cls(value["Type"], value["ID"], value.get("Addr", 0), slots)


@dataclasses.dataclass(frozen=True)
class Slot:
    """A place behind a bridge; `addr` is the slot as QEMU reads it, `path` bridge and slot, both two hexadecimal digits."""

    bridge: Bridge
    number: int

    @property
    def addr(self) -> str:
        """The slot, two hexadecimal digits."""
        return f"{self.number:02x}"

    @property
    def path(self) -> str:
        """Bridge address and slot, `02/01`."""
        return f"{self.bridge.address:02x}/{self.addr}"


def make_bridges(count: int, bridge_type: str) -> list[Bridge]:
    """New bridges of a type (pci or pcie), each with its place on the root bus."""
    return [
        Bridge(bridge_type, f"{bridge_type}-bridge-{number}", FIRST_BRIDGE_ADDRESS + number) for number in range(count)
    ]


def with_root_ports(bridges: list[Bridge], count: int) -> list[Bridge]:
    """The bridges, and root ports after them on the root bus."""
    first = FIRST_BRIDGE_ADDRESS + len(bridges)
    return [*bridges, *(Bridge(ROOT_PORT, f"root-port-{number}", first + number) for number in range(count))]


def rearranged(bridges: list[Bridge], recorded: list[Bridge]) -> list[Bridge]:
    """New bridges with the devices that the recorded ones of the same name have."""
    slots = {(bridge.type, bridge.id): bridge.slots for bridge in recorded}
    return [dataclasses.replace(bridge, slots=dict(slots.get((bridge.type, bridge.id), {}))) for bridge in bridges]


def allocate(bridges: list[Bridge], device_id: str, ports: str = "last") -> Slot:
    """Take the lowest free slot of the first bridge that has one.

    :param ports: whether root ports are taken `first`, `last` or are the `only` places
    :raises StateError: there is no bridge, or all are full
    """
    if ports == "only":
        bridges = [bridge for bridge in bridges if bridge.type == ROOT_PORT]
        if not bridges:
            raise StateError(
                "this VM has no root port for it",
                wanted=device_id,
                fix="Give root_ports, and restart it (disruption: restart).",
            )
    if not bridges:
        raise StateError(
            "failed to get available address from bridges: this VM has none",
            wanted=device_id,
            fix="Create it with option bridges of at least 1, on a machine type that has PCI hotplug.",
        )
    for bridge in sorted(bridges, key=lambda bridge: (bridge.type == ROOT_PORT) != (ports == "first")):
        for number in bridge.places:
            if number not in bridge.slots:
                bridge.slots[number] = device_id
                return Slot(bridge, number)
    raise StateError(
        "no more bridge slots available",
        wanted=device_id,
        fix="Give it more bridges or root_ports, and restart it (disruption: restart).",
    )


def find(bridges: list[Bridge], device_id: str) -> Slot | None:
    """Where a device sits, None where it does not."""
    for bridge in bridges:
        for number, owner in sorted(bridge.slots.items()):
            if owner == device_id:
                return Slot(bridge, number)
    return None


def release(bridges: list[Bridge], device_id: str) -> None:
    """Give a device's slot back. A VM without bridges has none to give, which is no error.

    :raises StateError: no bridge has that device
    """
    if not bridges:
        return
    slot = find(bridges, device_id)
    if slot is None:
        raise StateError(f"Unable to hot unplug device {device_id}: not present on bridge", wanted=device_id)
    del slot.bridge.slots[slot.number]
