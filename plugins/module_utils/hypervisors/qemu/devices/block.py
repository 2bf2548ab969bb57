# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks in QEMU."""

from __future__ import annotations

import dataclasses
from typing import Any

from ....errors import ConfigError, HypervisorError, StateError, Unsupported
from ....guest.disks import scsi_id_lun
from ....host import qcow2
from ....host.users import Wanted
from ....options.device_kinds.base import RateLimit
from ....options.device_kinds.block import BlockDrive
from ...base import Context
from ..qmp import QmpClient, QmpError
from ..vmm import Vmm
from . import qmp_objects
from .base import Started
from .disks import FileDevice
from .host_resources import HostResources
from .objects import Descriptors, QemuObject, Slot

#: The caches of disks by block_device_cache_direct and block_device_cache_noflush.
CACHES = {(False, False): "writeback", (True, False): "none", (False, True): "unsafe", (True, True): "none-unsafe"}


class Block(FileDevice[BlockDrive]):
    """A disk, or with the driver nvdimm a file in the guest's memory."""

    can_update = True

    @property
    def driver(self) -> str:
        """How it reaches the guest."""
        return self.record.driver or self.config.block_device_driver

    @property
    def memory_type(self) -> str:
        return "nvdimm" if self.driver == "nvdimm" else ""

    @property
    def image_format(self) -> str:
        return self.record.format

    @property
    def needs_slot(self) -> bool:
        # SCSI disks sit on a controller of their own.
        return self.driver not in ("virtio-scsi", "nvdimm")

    def complete(self, context: Context, seed: str) -> None:
        config = self.config
        if not self.record.cache and config.block_device_cache_set:
            cache = CACHES[config.block_device_cache_direct, config.block_device_cache_noflush]
            self.record = dataclasses.replace(self.record, cache=cache)

    def opened_by_name(self) -> list[Wanted]:
        # A managed disk belongs to root, and QEMU gets it opened. The user of the VMM needs no access to files that a task does not name.
        return [] if self.record.managed and not self.memory_type else super().opened_by_name()

    def open(self, vmm: Vmm, resources: HostResources, started: Started) -> None:
        if self.memory_type:
            super().open(vmm, resources, started)
            return
        drive = self.record
        resources.disk = [qcow2.open_disk(drive.file, drive.read_only, "devices")]
        qcow2.check_open_image(resources.disk[0], drive.file, drive.format, "devices")
        resources.disk_is_block = qcow2.is_block(resources.disk[0])

    def objects(self, slot: Slot, descriptors: Descriptors | None = None) -> list[QemuObject]:
        descriptors = descriptors or Descriptors()
        if self.memory_type:
            return self.memory_objects(slot, descriptors)
        drive = self.record
        backend = [self._node(descriptors), *self._limiter()]
        front: dict[str, Any] = {"drive": backend[-1].id}
        if drive.serial:
            front["serial"] = drive.serial
        if drive.cache:
            front["write-cache"] = "off" if drive.cache == "writethrough" else "on"
        if self.driver == "virtio-scsi":
            scsi_id, lun = scsi_id_lun(drive.index)
            front = {"bus": "scsi0.0", "scsi-id": scsi_id, "lun": lun, **front}
            return [*backend, QemuObject("device", self.frontend_id, "scsi-hd", front)]
        if self.driver == "virtio-blk":
            front.update(slot.properties())
            return [*backend, QemuObject("device", self.frontend_id, f"virtio-blk-{slot.transport}", front)]
        raise Unsupported(
            f"the qemu driver attaches no disk by {self.driver}",
            option="devices",
            wanted=drive.id,
            fix="Choose virtio-blk or virtio-scsi.",
        )

    def objects_to_remove(self, slot: Slot, descriptors: Descriptors) -> list[QemuObject]:
        # A change of limits that was killed half-way may have left a limiter.
        return self._with_limits().objects(slot, descriptors)

    def _with_limits(self) -> Block:
        """The disk as it would be with limits."""
        return Block(dataclasses.replace(self.record, rate_limit=self.record.rate_limit or RateLimit()), self.config)

    @property
    def _node_id(self) -> str:
        """The id in QEMU of the disk itself, without its limits."""
        return f"node-{self.record.id}"

    def _node(self, descriptors: Descriptors) -> QemuObject:
        drive = self.record
        block = descriptors.block if descriptors.file else drive.file.startswith("/dev/")
        properties: dict[str, Any] = {
            "read-only": drive.read_only,
            "discard": "unmap" if drive.discard else "ignore",
            "file": {"driver": "host_device" if block else "file", "filename": descriptors.file or drive.file},
        }
        if drive.io_engine:
            properties["file"]["aio"] = {"sync": "threads", "async": "io_uring"}[drive.io_engine]
        if drive.cache:
            properties["cache"] = {
                "direct": drive.cache.startswith("none"),
                "no-flush": drive.cache.endswith("unsafe"),
            }
        if drive.format not in ("raw", "qcow2"):
            raise ConfigError("the format of a disk must be raw or qcow2", option="devices", wanted=drive.format)
        if drive.format != "raw":
            # Whatever the header names is not opened.
            properties["backing"] = None
        return QemuObject("blockdev", self._node_id, drive.format, properties)

    def _limiter(self) -> list[QemuObject]:
        """What stands between the guest and a disk with limits: the limits, and a filter that keeps them."""
        drive = self.record
        if drive.rate_limit is None:
            return []
        filtered = {"throttle-group": f"limits-{drive.id}", "file": self._node_id, "read-only": drive.read_only}
        filtered["discard"] = "unmap" if drive.discard else "ignore"
        return [
            QemuObject("object", f"limits-{drive.id}", "throttle-group", {"limits": limits(drive.rate_limit)}),
            QemuObject("blockdev", f"limited-{drive.id}", "throttle", filtered),
        ]

    def explained(self, error: QmpError) -> HypervisorError:
        if "lock" not in error.answer:
            return error
        return StateError(
            "another device of this sandbox, or another process, has this file open",
            option="devices",
            wanted=self.record.file,
            answer=error.answer,
            fix="Give each a file of its own, or attach it read_only in both.",
        )

    def update(self, qmp: QmpClient) -> None:
        """Give a plugged disk the limits of its record, or none. The guest sees nothing of it.

        :raises Unsupported: it is another file than the one that is plugged
        :raises VmmError: QEMU refused
        """
        drive = self.record
        plugged = {
            node["node-name"]: node.get("file") for node in qmp.execute("query-named-block-nodes", {"flat": True})
        }
        path = str(plugged.get(self._node_id))
        if path.startswith("/dev/fdset/"):
            names = qmp_objects.descriptor_sets(qmp).get(int(path.rpartition("/")[2]), [])
            path = drive.file if self.file_name in names else ""
        if path != drive.file:
            raise Unsupported(
                "only the limits of a plugged disk can change",
                option="devices",
                wanted=drive.file,
                fix="Unplug it first.",
            )
        front = f"/machine/peripheral/{self.frontend_id}"
        wanted, known = self._limiter(), self._with_limits()._limiter()
        limited = qmp.execute("qom-get", {"path": front, "property": "drive"}) == known[-1].id
        if wanted and limited:
            group = {"path": f"/objects/{wanted[0].id}", "property": "limits", "value": wanted[0].properties["limits"]}
            qmp.execute("qom-set", group)
        elif wanted:
            qmp_objects.plug(qmp, wanted)
            qmp.execute("qom-set", {"path": front, "property": "drive", "value": wanted[-1].id})
        else:
            if limited:
                # Only then: QEMU 7.2 does not survive being told the node that it has.
                qmp.execute("qom-set", {"path": front, "property": "drive", "value": self._node_id})
            for one in reversed(known):
                qmp_objects.discard(qmp, one)


def limits(limit: RateLimit) -> dict[str, int]:
    """A rate limit as QEMU's ThrottleLimits: a maximum is what may go through in one second, after a quiet one.

    All are said, since what is not said stays as it is.
    """
    found = {}
    for name, rate, burst in (("bps", limit.bandwidth, limit.bandwidth_burst), ("iops", limit.ops, limit.ops_burst)):
        found[f"{name}-total"] = rate
        found[f"{name}-total-max"] = rate + burst if burst else 0
    return found
