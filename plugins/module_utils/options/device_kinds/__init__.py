# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry of device kinds, and the tables that are made from their declarations.

To add a kind, add its file and a line to `KINDS`; a driver that has it adds a class of its own.
Importing this costs some milliseconds, so a task without devices does not (see `arguments.OnDemand`).
"""

from __future__ import annotations

from typing import Any

from .balloon import BALLOON
from .base import DeviceKind
from .block import BLOCK
from .entropy import ENTROPY
from .fs import FS
from .mmds import MMDS
from .net import NET
from .pmem import PMEM
from .serial import SERIAL
from .vfio import VFIO
from .vhost_user import VHOST_USER
from .vsock import VSOCK

#: The kinds by the name that a task gives as a device's `type`.
KINDS: dict[str, DeviceKind] = {
    kind.name: kind for kind in (BLOCK, NET, FS, SERIAL, VSOCK, VFIO, VHOST_USER, BALLOON, PMEM, ENTROPY, MMDS)
}

#: The kinds by the class of their records.
KIND_OF: dict[type, DeviceKind] = {kind.record: kind for kind in KINDS.values()}

#: The argument spec of a device. Kinds that share a name share what is declared of it, which a test checks.
DEVICE_SUBOPTIONS: dict[str, dict[str, Any]] = {
    "id": {"type": "str", "required": True},
    "type": {"type": "str", "choices": list(KINDS)},
}

#: The least and the most of each number.
DEVICE_RANGES: dict[str, tuple[int, int]] = {}

for _kind in KINDS.values():
    for _name, _suboption in _kind.suboptions.items():
        DEVICE_SUBOPTIONS.setdefault(_name, _suboption.argument_spec())
        if _suboption.range:
            DEVICE_RANGES[_name] = _suboption.range

#: The capability that a running VM needs to get a device of a kind, and to lose one. Other kinds need a restart.
HOTPLUG = {kind.name: kind.plug for kind in KINDS.values() if kind.plug}
UNPLUG = {kind.name: kind.unplug or kind.plug for kind in KINDS.values() if kind.plug}

#: What of a device can change while it stays plugged, and the capability that each change needs.
UPDATABLE = {kind.name: kind.updatable() for kind in KINDS.values() if kind.updatable()}

#: The kinds whose devices have a position.
INDEXED = tuple(kind.name for kind in KINDS.values() if kind.has_index)
