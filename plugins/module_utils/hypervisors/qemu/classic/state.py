# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the original's QEMU driver remembers, in the three forms it is written in.

`hypervisor.json` is the old store's, the snapshot the new store's, and the hand-over the VM cache's (gRPC).
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Mapping

from ....errors import StoreError
from ..bridges import Bridge


@dataclasses.dataclass
class ClassicState:
    """The persistent part of a driver.

    :param hotplugged_vcpus: ids, in the order in which they were plugged in
    :param hotplugged_memory: MiB
    """

    bridges: list[Bridge] = dataclasses.field(default_factory=list)
    hotplugged_vcpus: list[str] = dataclasses.field(default_factory=list)
    hotplugged_memory: int = 0
    uuid: str = ""
    hotplug_vfio_on_root_bus: bool = False

    def as_store(self) -> dict[str, Any]:
        """The content of `hypervisor.json`."""
        return {
            "Bridges": [bridge.as_dict() for bridge in self.bridges],
            "HotpluggedVCPUs": [{"ID": identifier} for identifier in self.hotplugged_vcpus],
            "HotpluggedMemory": self.hotplugged_memory,
            "UUID": self.uuid,
            "HotplugVFIOOnRootBus": self.hotplug_vfio_on_root_bus,
        }

    @classmethod
    def from_store(cls, value: Mapping[str, Any]) -> ClassicState:
        """The state in the content of `hypervisor.json`.

        :raises StoreError: it is none
        """
        try:
            return cls(
                [Bridge.from_dict(bridge) for bridge in value.get("Bridges") or []],
                [str(vcpu["ID"]) for vcpu in value.get("HotpluggedVCPUs") or []],
                int(value.get("HotpluggedMemory", 0)),
                str(value.get("UUID", "")),
                bool(value.get("HotplugVFIOOnRootBus", False)),
            )
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise StoreError("this is not the state of a QEMU driver", answer=repr(error)) from error

    def as_snapshot(self, pid: int) -> dict[str, Any]:
        """The new store's snapshot."""
        snapshot = {"Pid": pid, "Type": "qemu", "BlockIndex": 0, **self.as_store()}
        snapshot["Bridges"] = [_renamed(bridge, "Address", "DeviceAddr") for bridge in snapshot["Bridges"]]
        return snapshot

    @classmethod
    def from_snapshot(cls, value: Mapping[str, Any]) -> ClassicState:
        """The state in a snapshot. It replaces what was there; the original appends.

        :raises StoreError: it is none
        """
        bridges = [_renamed(bridge, "DeviceAddr", "Address") for bridge in value.get("Bridges") or []]
        return cls.from_store({**value, "Bridges": bridges})


@dataclasses.dataclass
class Handover:
    """A VM on its way to another process.

    :param smp: CPUs, Cores, Threads, Sockets and MaxCPUs as it was launched
    """

    id: str
    qmp_socket: str
    state: ClassicState
    nvdimms: int
    smp: dict[str, int]

    def to_bytes(self) -> bytes:
        """The JSON that travels."""
        value = {
            "ID": self.id,
            "QmpChannelpath": self.qmp_socket,
            "State": self.state.as_store(),
            "NvdimmCount": self.nvdimms,
            "QemuSMP": self.smp,
        }
        return json.dumps(value).encode()

    @classmethod
    def from_bytes(cls, payload: bytes) -> Handover:
        """The VM that arrived.

        :raises StoreError: these bytes are no VM
        """
        try:
            value = json.loads(payload)
            return cls(
                str(value["ID"]),
                str(value["QmpChannelpath"]),
                ClassicState.from_store(value["State"]),
                int(value["NvdimmCount"]),
                {str(name): int(number) for name, number in value["QemuSMP"].items()},
            )
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise StoreError("this is not a VM handed over by the QEMU driver", answer=repr(error)) from error


def _renamed(value: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    return {new if key == old else key: item for key, item in value.items()}
