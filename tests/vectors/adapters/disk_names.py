# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk names, SCSI addresses, ids and memory blocks."""

from __future__ import annotations

from typing import Any

from adapters.answer import Answer
from adapters.fields import Fields, unknown_operation
from ansible_collections.kata.hypervisor.plugins.module_utils.guest.disks import (
    scsi_address,
    scsi_id_lun,
    virtio_disk_name,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.options.devices import align_memory, make_name_id


def run(given: dict[str, Any]) -> Answer:
    line = Fields(given)
    operation = line.text("op")
    if operation == "virt_drive_name":
        return Answer(virtio_disk_name(line.number("index")))
    if operation == "scsi_address":
        return Answer(scsi_address(line.number("index")))
    if operation == "scsi_id_lun":
        scsi_id, lun = scsi_id_lun(line.number("index"))
        return Answer({"id": scsi_id, "lun": lun})
    if operation == "make_name_id":
        return Answer(make_name_id(line.text("type"), line.text("id"), line.number("max")))
    if operation == "calc_hotplug_mem":
        return Answer(align_memory(line.number("mem_mb"), line.number("block_mb")))
    raise unknown_operation(operation)
