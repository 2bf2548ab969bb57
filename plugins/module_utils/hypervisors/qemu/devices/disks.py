# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What disks and persistent memory share: a file of the host, which QEMU reads as blocks or has in the guest's memory."""

from __future__ import annotations

import os
from typing import Any, Collection, TypeVar

from ....errors import AssetError, ConfigError, NeedsRestart, StateError, Unsupported
from ....guest.disks import size_of
from ....host import block_devices, qcow2
from ....host.users import Wanted, denied, is_own_uid, may_use, own_user
from ....options.device_kinds.block import BlockDrive
from ....options.device_kinds.pmem import PmemDrive
from ..vmm import Vmm
from .base import QemuDevice, Started
from .host_resources import HostResources
from .objects import Descriptors, QemuObject, Slot

#: QEMU's devices that put a file into the guest's memory map, and what the file's length is a multiple of, bytes.
MEMORY_FRONTS = {"nvdimm": "nvdimm", "virtio-pmem": "virtio-pmem-pci"}
MEMORY_BLOCK = 2 << 20

FileRecord = TypeVar("FileRecord", BlockDrive, PmemDrive)


class FileDevice(QemuDevice[FileRecord]):
    """A device that is a file or a block device of the host."""

    @property
    def memory_type(self) -> str:
        """How the file is in the guest's memory: a key of MEMORY_FRONTS, or empty where it is not."""
        raise NotImplementedError

    @property
    def image_format(self) -> str:
        """The format in which the file is read."""
        return "raw"

    @property
    def file_name(self) -> str:
        return f"{self.identity} {self.record.file}"

    def check_host(self, own_socket: str, own: Collection[int]) -> None:
        self._check_file(own)
        if self.memory_type:
            self._check_length()

    def _check_file(self, own: Collection[int]) -> None:
        """Refuse a file that cannot be opened, that names other files, or that the host itself uses."""
        path, read_only = self.record.file, self.record.read_only
        user = block_devices.in_use_by(path)
        if user:
            raise StateError(
                "the host itself uses this disk",
                option="devices",
                wanted=path,
                answer=user,
                fix="Release it on the host first.",
            )
        # A block device that was open for writing is looked at anew by udev, so whether it can be written to is only asked.
        block = qcow2.is_block_device(path)
        if block and not read_only and not os.access(path, os.W_OK):
            raise AssetError(
                "this disk cannot be opened",
                option="devices",
                wanted=path,
                answer="it cannot be written to",
                fix="Set read_only.",
            )
        descriptor = qcow2.open_disk(path, read_only or block, "devices")
        try:
            qcow2.check_open_image(descriptor, path, "raw" if self.memory_type else self.image_format, "devices")
            block_devices.check_free(block_devices.Use(path, not read_only, f"device {self.record.id}"), own)
        finally:
            os.close(descriptor)

    def _check_length(self) -> None:
        size = size_of(self.record.file)
        if not size or size % MEMORY_BLOCK:
            raise ConfigError(
                f"a file in the guest's memory must be a multiple of 2 MiB long, and this has {size} bytes",
                option="devices",
                wanted=self.record.file,
                fix="Lengthen it with truncate.",
            )

    def opened_by_name(self) -> list[Wanted]:
        return [Wanted("devices", self.record.file, "r" if self.record.read_only else "rw")]

    def check_hot(self, memory_is_shared: bool) -> None:
        if self.memory_type and not self.config.mem_offset:
            fix = "Give memory_offset_mb, as much as such files will need and 1024 for each, and restart it (disruption: restart)."
            raise NeedsRestart(
                "this VM has no room for files in its memory",
                option="memory_offset_mb",
                wanted=self.record.file,
                fix=fix,
            )
        super().check_hot(memory_is_shared)

    def check_unplug(self) -> None:
        if self.memory_type:
            raise Unsupported(
                "QEMU takes no file out of a running guest's memory",
                option="devices",
                wanted=self.identity,
                fix="Restart it (disruption: restart).",
            )

    def open(self, vmm: Vmm, resources: HostResources, started: Started) -> None:
        resources.size = size_of(self.record.file)

    def open_named(self, uid: int) -> int:
        record = self.record
        if not self.memory_type or not is_own_uid(uid):
            return -1
        modes = "r" if record.read_only else "rw"
        if may_use(own_user("", uid), record.file, modes):
            return -1
        from ....host import id_mapped_mounts

        try:
            return id_mapped_mounts.open_for(record.file, uid, record.read_only)
        except OSError as error:
            raise AssetError(
                f"QEMU opens a file for the guest's memory by itself, and the sandbox's own user ({uid}) may not {denied(modes)} this",
                option="devices",
                wanted=record.file,
                answer=f"no ID-mapped mount of it: {error}",
                fix="Restart it with the device in its list (disruption: restart), let that user use the file and the directories above it,"
                " or run QEMU as root (vmm_user: root).",
            ) from error

    def memory_objects(self, slot: Slot, descriptors: Descriptors) -> list[QemuObject]:
        """A file in the guest's memory map: what the guest writes is in the file, and the host's page cache is the only one."""
        record, kind = self.record, self.memory_type
        if kind not in slot.memory:
            raise Unsupported(f"this machine type has no {kind}", option="devices", wanted=record.id)
        if kind == "virtio-pmem" and record.read_only:
            fix = "Use type block with driver nvdimm, or leave read_only out."
            raise Unsupported("QEMU's virtio-pmem cannot be read-only", option="devices", wanted=record.id, fix=fix)
        if record.rate_limit:
            raise Unsupported("QEMU cannot limit a file in the guest's memory", option="devices", wanted=record.id)
        if self.image_format != "raw":
            raise ConfigError("a file in the guest's memory is raw", option="devices", wanted=self.image_format)
        backend: dict[str, Any] = {
            "mem-path": descriptors.file or record.file,
            "size": descriptors.size,
            "share": not record.read_only,
        }
        front: dict[str, Any] = {"memdev": f"file-{record.id}"}
        if record.read_only:
            backend["readonly"] = front["unarmed"] = True
        if kind == "virtio-pmem":
            front.update(slot.properties())
        return [
            QemuObject("object", f"file-{record.id}", "memory-backend-file", backend),
            QemuObject("device", self.frontend_id, MEMORY_FRONTS[kind], front),
        ]
