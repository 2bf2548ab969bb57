# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SCSI addresses and memory blocks; names of a guest's disks, and names that are cut, are not made here."""

from __future__ import annotations

from typing import Any

from adapters.answer import Answer
from adapters.fields import Fields, unknown_operation
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import Unsupported
from ansible_collections.kata.hypervisor.plugins.module_utils.guest.disks import scsi_id_lun
from ansible_collections.kata.hypervisor.plugins.module_utils.options.devices import align_memory

#: What the drivers have no use for, and why.
NOT_MADE = {
    "virt_drive_name": "a guest names its disks by itself",
    "make_name_id": "ids are unique and never cut",
}


def run(given: dict[str, Any]) -> Answer:
    line = Fields(given)
    operation = line.text("op")
    if operation in ("scsi_id_lun", "scsi_address"):
        scsi_id, lun = scsi_id_lun(line.number("index"))
        return Answer({"id": scsi_id, "lun": lun} if operation == "scsi_id_lun" else f"{scsi_id}:{lun}")
    if operation == "calc_hotplug_mem":
        return Answer(align_memory(line.number("mem_mb"), line.number("block_mb")))
    if operation in NOT_MADE:
        raise Unsupported(NOT_MADE[operation], wanted=operation)
    raise unknown_operation(operation)
