# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk names, SCSI addresses, ids and memory blocks."""

from __future__ import annotations

from typing import Any

from adapters.answer import Answer
from ansible_collections.kata.hypervisor.plugins.module_utils.devices import align_memory, make_name_id
from ansible_collections.kata.hypervisor.plugins.module_utils.disks import scsi_address, scsi_id_lun, virtio_disk_name


def run(given: dict[str, Any]) -> Answer:
    operation = given["op"]
    if operation == "virt_drive_name":
        return Answer(virtio_disk_name(given["index"]))
    if operation == "scsi_address":
        return Answer(scsi_address(given["index"]))
    if operation == "scsi_id_lun":
        scsi_id, lun = scsi_id_lun(given["index"])
        return Answer({"id": scsi_id, "lun": lun})
    if operation == "make_name_id":
        return Answer(make_name_id(given["type"], given["id"], given["max"]))
    return Answer(align_memory(given["mem_mb"], given["block_mb"]))
