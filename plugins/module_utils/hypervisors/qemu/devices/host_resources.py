# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was opened on the host for a device, and the names by which QEMU knows it."""

from __future__ import annotations

import dataclasses

from ....host import network
from .objects import Descriptors, QemuObject


@dataclasses.dataclass
class HostResources:
    """What was opened for a device: descriptors by the name QEMU shall know each by."""

    tap: list[int] = dataclasses.field(default_factory=list)
    vhost: list[int] = dataclasses.field(default_factory=list)
    listener: list[int] = dataclasses.field(default_factory=list)
    socket: list[int] = dataclasses.field(default_factory=list)
    disk: list[int] = dataclasses.field(default_factory=list)
    disk_is_block: bool = False
    size: int = 0

    def descriptors(self) -> list[int]:
        """All of them."""
        return [*self.tap, *self.vhost, *self.listener, *self.socket, *self.disk]

    def by_number(self) -> Descriptors:
        """Their names on a command line: QEMU inherits the numbers."""
        return Descriptors(
            [str(fd) for fd in self.tap],
            [str(fd) for fd in self.vhost],
            "".join(map(str, self.listener)),
            "".join(map(str, self.socket)),
            "".join(f"/dev/fdset/{fd}" for fd in self.disk),
            self.disk_is_block,
            self.size,
        )

    def inherited_files(self, name: str) -> list[QemuObject]:
        """The open files that QEMU shall know by a path, as options of a command line.

        :param name: what QEMU tells of each
        """
        return [QemuObject("fdset", name, "", {"fd": fd, "set": fd, "opaque": name}) for fd in self.disk]

    def by_name(self, device: str) -> tuple[Descriptors, dict[str, int]]:
        """Their names over QMP, and which descriptor each name stands for."""
        taps = {f"{device}-tap{number}": fd for number, fd in enumerate(self.tap)}
        vhosts = {f"{device}-vhost{number}": fd for number, fd in enumerate(self.vhost)}
        listeners = {f"{device}-port": fd for fd in self.listener}
        sockets = {f"{device}-socket": fd for fd in self.socket}
        names = Descriptors(
            list(taps), list(vhosts), "".join(listeners), "".join(sockets), "", self.disk_is_block, self.size
        )
        return names, {**taps, **vhosts, **listeners, **sockets}

    def close(self) -> None:
        """Close our copies; QEMU has its own."""
        network.close_all(self.descriptors())
