# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Vsocks in QEMU, which the host's kernel serves (vhost)."""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Any, Collection

from ....errors import HostError
from ....options.device_kinds.vsock import Vsock
from ..vmm import Vmm
from .base import QemuDevice, Started
from .host_resources import HostResources
from .objects import Descriptors, QemuObject, Slot

VHOST_VSOCK_DEVICE = "/dev/vhost-vsock"
VHOST_VSOCK_SET_GUEST_CID = 0x4008AF60


class VhostVsock(QemuDevice[Vsock]):
    """A vsock with a CID of the host's."""

    def check_host(self, own_socket: str, own: Collection[int]) -> None:
        if not os.path.exists(VHOST_VSOCK_DEVICE):
            raise HostError(
                f"the host has no {VHOST_VSOCK_DEVICE}",
                option="devices",
                wanted=self.record.id,
                fix="Load the module vhost_vsock.",
            )

    def open(self, vmm: Vmm, resources: HostResources, started: Started) -> None:
        resources.vhost = [_reserve_cid(self.record.context_id)]

    def objects(self, slot: Slot, descriptors: Descriptors | None = None) -> list[QemuObject]:
        front: dict[str, Any] = {"guest-cid": self.record.context_id, **slot.properties()}
        if descriptors and descriptors.vhost:
            front["vhostfd"] = descriptors.vhost[0]
        return [QemuObject("device", self.frontend_id, f"vhost-vsock-{slot.transport}", front)]


def _reserve_cid(cid: int) -> int:
    """An open vhost-vsock that holds a guest CID.

    :raises HostError: the device is missing, or another guest has the CID
    """
    try:
        descriptor = os.open(VHOST_VSOCK_DEVICE, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(descriptor, VHOST_VSOCK_SET_GUEST_CID, struct.pack("Q", cid))
        except OSError:
            os.close(descriptor)
            raise
        return descriptor
    except OSError as error:
        raise HostError(
            "the vsock CID cannot be had", option="devices", wanted=cid, answer=str(error), fix="Choose another cid."
        ) from error
