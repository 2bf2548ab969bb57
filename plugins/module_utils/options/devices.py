# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vCPUs and memory that are added or removed, and memory in blocks. The devices of tasks are in `device_kinds`."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..errors import ConfigError
from .device_kinds.base import Device


@dataclasses.dataclass
class CpuDevice(Device):
    """A number of vCPUs to add or to remove.

    :raises ConfigError: it is no number
    """

    count: int

    def __post_init__(self) -> None:
        _check_number("the number of vCPUs", self.count)
        if self.count < 0:
            raise ConfigError("the number of vCPUs must be at least 0", option="vcpus", wanted=self.count)


@dataclasses.dataclass
class MemoryDevice(Device):
    """Memory to add or to remove.

    :param size_mb: MiB
    :param slot: memory slot number
    :param addr: guest-physical address, filled in where it was probed
    :raises ConfigError: one of them is no number
    """

    size_mb: int
    slot: int = 0
    addr: int = 0
    probe: bool = False

    def __post_init__(self) -> None:
        for what, value in (
            ("the size of memory in MiB", self.size_mb),
            ("a memory slot", self.slot),
            ("an address", self.addr),
        ):
            _check_number(what, value)


def _check_number(what: str, value: Any) -> None:
    """Refuse a value that is no whole number; True and False are none.

    :raises ConfigError: it is something else
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"{what} must be a whole number", wanted=value)


def align_memory(memory_mb: int, block_mb: int) -> int:
    """`memory_mb` rounded up to whole blocks of `block_mb` MiB (0: as it is), in unsigned 32-bit arithmetic."""
    if block_mb:
        memory_mb = -(-memory_mb // block_mb) * block_mb
    return memory_mb % (1 << 32)
