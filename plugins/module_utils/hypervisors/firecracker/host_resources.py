# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a VM's devices have on the host: files in a jail, taps, sockets."""

from __future__ import annotations

import os

from ...host import network
from ...options.config import HypervisorConfig
from ...options.device_kinds.net import NetworkDevice
from . import jail_files
from .vmm import Vmm


class HostResources:
    """Gives a VM what its devices need on the host (files in a jail, taps, sockets); each thing is written down before it is made."""

    def __init__(self, vmm: Vmm, config: HypervisorConfig) -> None:
        self.vmm = vmm
        self.config = config

    def own_path(self, name: str) -> str:
        """A file of the VM's own, as Firecracker sees it."""
        return f"/{name}" if self.vmm.state.jail else self.vmm.context.run_path(name)

    def provide_file(self, source: str, name: str, read_only: bool = True, shared: bool = False) -> str:
        """Let the VM have a file of the host's; returns its path as Firecracker sees it.

        :param shared: it is the same file for many VMs
        """
        jail = self.vmm.state.jail
        if jail is None:
            return source
        process = self.vmm.state.process
        jail_files.bring(jail, source, name, read_only, shared, process.pid if process else 0)
        return f"/{name}"

    def provide_own_file(self, source: str, name: str, read_only: bool = False) -> str:
        """Let the VM have a file that was made for it, such as its root disk: one that it writes to belongs to the jail's user from now on.

        Its directory is closed to all others. Returns its path as Firecracker sees it.
        """
        jail = self.vmm.state.jail
        if jail is not None:
            jail_files.give(jail, source, read_only)
        return self.provide_file(source, name, read_only)

    def provide_socket(self, name: str) -> str:
        """A path for a socket that Firecracker will make; returns its path as Firecracker sees it."""
        state = self.vmm.state
        if state.jail is not None:
            state.vsock = state.jail.path(name)
            return f"/{name}"
        path = name if os.path.isabs(name) else self.vmm.context.run_path(name)
        if path not in state.sockets:
            state.sockets.append(path)
            state.vsock = path
            self.vmm.context.checkpoint()
        return path

    def file_path(self, source: str, name: str) -> str:
        """The path of a file that was provided, as Firecracker sees it."""
        return self.own_path(name) if self.vmm.state.jail else source

    def withdraw_file(self, name: str) -> None:
        """Remove a file that was provided."""
        if self.vmm.state.jail is not None:
            jail_files.drop(self.vmm.state.jail, name)

    def provide_tap(self, net: NetworkDevice) -> None:
        """Make a tap that stays, since Firecracker opens it by its name; one that is there is the user's."""
        state = self.vmm.state
        if self.config.network_namespace:
            return
        owner = (state.jail.uid, state.jail.gid) if state.jail else (os.geteuid(), os.getegid())

        def announce(name: str) -> None:
            state.taps.append(name)
            self.vmm.context.checkpoint()

        network.provide_tap(net.tap_name, owner, net.mtu, net.bridge, announce)

    def withdraw_tap(self, name: str) -> None:
        """Remove a tap that was made here."""
        state = self.vmm.state
        if name in state.taps:
            network.remove_tap(name)
            state.taps.remove(name)
            self.vmm.context.checkpoint()
