# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A device in ACRN: what each kind can say of its devices."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from ....errors import Unsupported
from ....options.device_kinds.base import Device
from ..command_line import CommandLine, Dialect
from ..vmm import Vmm

Record = TypeVar("Record", bound=Device)


class AcrnDevice(Generic[Record]):
    """A device of an ACRN VM, and as it is here, of a kind that ACRN does not have. `kinds.py` has the table.

    :param record: what the task asks for
    """

    def __init__(self, record: Record) -> None:
        self.record = record

    @property
    def identity(self) -> str:
        """The user's id of the device."""
        return self.record.identity

    @property
    def placeholder_path(self) -> str:
        """The file that can take the place of an empty disk while the VM runs; empty for none."""
        return ""

    @property
    def socket(self) -> str:
        """The path of the socket that acrn-dm makes for it; empty for none."""
        return ""

    def complete(self, vmm: Vmm) -> None:
        """Fill in what the task left out, always the same for the same sandbox and device."""

    def check(self, vmm: Vmm) -> None:
        """Refuse what ACRN or the host does not have. Changes nothing."""

    def provide(self, vmm: Vmm) -> None:
        """Make what it needs on the host."""

    def add_to(self, line: CommandLine, dialect: Dialect) -> None:
        """Add it to a command line.

        :raises Unsupported: ACRN has no such device
        """
        raise Unsupported(
            f"ACRN has no device for {type(self.record).__name__} {self.identity}",
            option="devices",
            wanted=self.identity,
        )


AnyAcrnDevice = AcrnDevice[Any]
