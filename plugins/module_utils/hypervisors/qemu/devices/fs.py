# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shared directories in QEMU: a virtiofsd serves each, or with shared_fs virtio-9p QEMU itself."""

from __future__ import annotations

import dataclasses
import os
from typing import Collection

from ....errors import AssetError, NeedsRestart, Unsupported
from ....host.programs import version_text
from ....host.sockets import connected_socket, remove_socket
from ....host.users import FIRST_UID, Wanted, denied, may_use, own_user
from ....options.device_kinds.fs import Volume
from ....records.layout import socket_path
from ...base import Context
from ...common.scope import scope_command
from ..vmm import Vmm
from . import virtiofsd
from .base import RESTART, QemuDevice, Started
from .host_resources import HostResources
from .objects import Descriptors, QemuObject, Slot, vhost_user_fs


class Fs(QemuDevice[Volume]):
    """A directory of the host."""

    @property
    def by_9p(self) -> bool:
        """Whether QEMU serves it by itself."""
        return self.config.shared_fs == "virtio-9p"

    @property
    def shares_memory(self) -> bool:
        return not self.by_9p

    @property
    def _modes(self) -> str:
        return "rx" if self.record.read_only else "rwx"

    def complete(self, context: Context, seed: str) -> None:
        if os.path.isdir(self.record.host_path):
            # A virtiofsd in C takes no link for a directory.
            self.record = dataclasses.replace(self.record, host_path=os.path.realpath(self.record.host_path))

    def check_host(self, own_socket: str, own: Collection[int]) -> None:
        if not os.path.isdir(self.record.host_path):
            raise AssetError("the directory does not exist to share", option="devices", wanted=self.record.host_path)
        if not self.by_9p:
            # The daemon of QEMU's own cannot do everything; which one it is, it says itself.
            self._daemon_arguments(self.record.id)

    def opened_by_name(self) -> list[Wanted]:
        return [Wanted("devices", self.record.host_path, self._modes)] if self.by_9p else []

    def check_user(self) -> None:
        super().check_user()
        # QEMU opens the files of a 9p share by name, all the time.
        unusable = (
            not self.config.vmm_user
            and self.by_9p
            and os.geteuid() == 0
            and not may_use(own_user("", FIRST_UID), self.record.host_path, self._modes)
        )
        if unusable:
            raise AssetError(
                f"QEMU serves a 9p share as the sandbox's own user, who may not {denied(self._modes)} this",
                option="devices",
                wanted=self.record.host_path,
                fix="Share it with shared_fs virtio-fs, let others use it (chmod), or run QEMU as root (vmm_user: root).",
            )

    def check_hot(self, memory_is_shared: bool) -> None:
        if self.by_9p:
            raise NeedsRestart(
                "a 9p share can only be added while the VM is off",
                option="devices",
                wanted=self.record.id,
                fix=RESTART,
            )
        super().check_hot(memory_is_shared)

    def check_unplug(self) -> None:
        if self.by_9p:
            raise Unsupported(
                "a 9p share can only be removed while the VM is off",
                option="devices",
                wanted=self.identity,
                fix="Restart it (disruption: restart).",
            )

    def open(self, vmm: Vmm, resources: HostResources, started: Started) -> None:
        if self.by_9p:
            return
        name = f"fs-{self.record.id}"
        path = socket_path(vmm.context.run_dir, f"{name}.sock")
        wrapper = scope_command(vmm.context, self.config, name)
        argv = self._daemon_arguments(path)
        remove_socket(path)
        log = os.path.join(os.path.dirname(path), f"virtiofsd-{self.record.id}.log")
        virtiofsd.start(argv, path, log, started, wrapper=wrapper)
        resources.socket = [connected_socket(path)]

    def _daemon_arguments(self, path: str) -> list[str]:
        """The command line of the daemon that serves the share at a socket.

        :raises AssetError: there is no daemon
        :raises Unsupported: it cannot share like that
        """
        daemon = virtiofsd.find_daemon(self.config.virtio_fs_daemon)
        volume = self.record
        return virtiofsd.arguments(
            daemon, version_text(daemon), path, volume.host_path, self.config.virtio_fs_cache, volume.read_only
        )

    def objects(self, slot: Slot, descriptors: Descriptors | None = None) -> list[QemuObject]:
        volume, descriptors = self.record, descriptors or Descriptors()
        if descriptors.socket:
            return vhost_user_fs(volume.id, volume.mount_tag, descriptors, "", slot)
        # mapped-xattr: what a guest calls root owns nothing of the host's.
        export = QemuObject(
            "fsdev", f"fs-{volume.id}", "local", {"path": volume.host_path, "security_model": "mapped-xattr"}
        )
        if volume.read_only:
            export.properties["readonly"] = True
        front = {"fsdev": export.id, "mount_tag": volume.mount_tag, **slot.properties()}
        return [export, QemuObject("device", self.frontend_id, f"virtio-9p-{slot.transport}", front)]
