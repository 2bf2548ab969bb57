# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Persistent memory in QEMU: virtio-pmem."""

from __future__ import annotations

from ....options.device_kinds.pmem import PmemDrive
from .disks import FileDevice
from .objects import Descriptors, QemuObject, Slot


class Pmem(FileDevice[PmemDrive]):
    """A file in the guest's memory."""

    @property
    def memory_type(self) -> str:
        return "virtio-pmem"

    def objects(self, slot: Slot, descriptors: Descriptors | None = None) -> list[QemuObject]:
        return self.memory_objects(slot, descriptors or Descriptors())
