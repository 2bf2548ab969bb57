# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks in ACRN."""

from __future__ import annotations

from ....errors import ConfigError, StateError, Unsupported
from ....host import block_devices, qcow2
from ....options.device_kinds.block import BlockDrive
from ..command_line import PLACEHOLDERS, CommandLine, Dialect, plain
from ..vmm import Vmm
from .base import AcrnDevice


class Block(AcrnDevice[BlockDrive]):
    """A disk."""

    @property
    def placeholder_path(self) -> str:
        return "" if self.record.read_only else self.record.file

    def check(self, vmm: Vmm) -> None:
        drive = self.record
        said = (drive.driver, drive.cache, drive.serial, drive.discard, drive.io_engine, drive.rate_limit)
        if drive.format != "raw" or drive.driver not in ("", "virtio-blk") or any(said[1:]):
            raise Unsupported(
                "ACRN's disks are raw, on virtio-blk, without a cache, serial, discard, io_engine or rate_limit of their own",
                option="devices",
                wanted=drive.id,
            )
        user = block_devices.user_against(drive.file, drive.read_only)
        if user:
            raise StateError("the host itself uses this disk", option="devices", wanted=drive.file, answer=user)
        qcow2.check_disk(drive.file, drive.read_only, "devices")

    def add_to(self, line: CommandLine, dialect: Dialect) -> None:
        drive = self.record
        if drive.index < 0:
            raise ConfigError("a disk's index must be at least 0", option="devices", wanted=drive.id)
        slot = line.add(f"virtio-blk,{plain(drive.file)}" + (",ro" if drive.read_only else ""))
        if drive.index <= PLACEHOLDERS:
            line.slots[drive.index] = slot
