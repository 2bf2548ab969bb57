# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bridge slots: which device sits where behind which PCI bridge. Pure; the record keeps it."""

from __future__ import annotations

import dataclasses
from typing import Any

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import StateError

#: Slot 0 of a bridge belongs to its own hotplug controller (shpc).
FIRST_SLOT, LAST_SLOT = 1, 30
#: Slots of the root bus that the machine itself uses.
FIRST_BRIDGE_ADDRESS = 2


@dataclasses.dataclass
class Bridge:
    """One bridge.

    :param type: pci or pcie
    :param address: its slot on the root bus
    :param slots: device id by slot
    """

    type: str
    id: str
    address: int = 0
    slots: dict[int, str] = dataclasses.field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The bridge as the original stores it."""
        return {
            "Type": self.type,
            "ID": self.id,
            "Addr": self.address,
            "Address": {str(slot): device for slot, device in sorted(self.slots.items())},
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Bridge:
        """The bridge from its stored form."""
        slots = {int(slot): str(device) for slot, device in (value.get("Address") or {}).items()}
        return cls(str(value["Type"]), str(value["ID"]), int(value.get("Addr", 0)), slots)


@dataclasses.dataclass(frozen=True)
class Slot:
    """A place behind a bridge; C(addr) is the slot as QEMU reads it, C(path) bridge and slot, both two hexadecimal digits."""

    bridge: Bridge
    number: int

    @property
    def addr(self) -> str:
        """The slot, two hexadecimal digits."""
        return f"{self.number:02x}"

    @property
    def path(self) -> str:
        """Bridge address and slot, C(02/01)."""
        return f"{self.bridge.address:02x}/{self.addr}"


def make_bridges(count: int, bridge_type: str) -> list[Bridge]:
    """New bridges of a type (pci or pcie), each with its place on the root bus."""
    return [Bridge(bridge_type, f"{bridge_type}-bridge-{number}", FIRST_BRIDGE_ADDRESS + number) for number in range(count)]


def allocate(bridges: list[Bridge], device_id: str) -> Slot:
    """Take the lowest free slot of the first bridge that has one.

    :raises StateError: there is no bridge, or all are full
    """
    if not bridges:
        raise StateError(
            "failed to get available address from bridges: this VM has none",
            wanted=device_id,
            fix="Create it with option bridges of at least 1, on a machine type that has PCI hotplug.",
        )
    for bridge in bridges:
        for number in range(FIRST_SLOT, LAST_SLOT + 1):
            if number not in bridge.slots:
                bridge.slots[number] = device_id
                return Slot(bridge, number)
    raise StateError("no more bridge slots available", wanted=device_id, fix="Create it with more bridges.")


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
