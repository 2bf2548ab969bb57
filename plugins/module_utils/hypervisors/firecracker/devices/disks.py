# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What disks and persistent memory share: a file of the host."""

from __future__ import annotations

from typing import TypeVar

from ....errors import StateError
from ....host import block_devices, qcow2
from ....options.device_kinds.block import BlockDrive
from ....options.device_kinds.pmem import PmemDrive
from .. import jail_files
from ..host_resources import HostResources
from ..state import Jail
from .base import FirecrackerDevice

FileRecord = TypeVar("FileRecord", BlockDrive, PmemDrive)


class FileDevice(FirecrackerDevice[FileRecord]):
    """A device that is a file or a block device of the host."""

    by_pci = True

    @property
    def file_name(self) -> str:
        """The name of its file in a jail."""
        return f"disk_{self.api_id}"

    def check_file(self, jail: Jail | None) -> None:
        """Refuse a file that the host uses, that cannot be opened, or that a jail cannot have."""
        path, read_only = self.record.file, self.record.read_only
        user = block_devices.user_against(path, read_only)
        if user:
            raise StateError("the host itself uses this disk", option="devices", wanted=path, answer=user)
        qcow2.check_disk(path, read_only, "devices")
        if jail is not None and not read_only:
            jail_files.check_disk(jail, path)

    def provide(self, host: HostResources) -> None:
        own = jail_files.is_volume(self.record.file)
        (host.provide_own_file if own else host.provide_file)(self.record.file, self.file_name, self.record.read_only)

    def path(self, host: HostResources) -> str:
        return host.file_path(self.record.file, self.file_name)

    def withdraw(self, host: HostResources) -> None:
        host.withdraw_file(self.file_name)

    def check_template(self) -> None:
        if not self.record.read_only:
            raise self.only_for_one()
