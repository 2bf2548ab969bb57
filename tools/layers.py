# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The layers of `plugins/module_utils`: the one table that the test of imports and the picture in the docs are made from."""

from __future__ import annotations

from typing import NamedTuple


class Package(NamedTuple):
    """A package of `plugins/module_utils`.

    :param layer: it may import from packages of lower layers only
    :param text: what it holds
    """

    layer: int
    text: str


LAYERS: dict[str, Package] = {
    "errors": Package(0, "the error family"),
    "architectures": Package(0, "what differs between the architectures of hosts and guests"),
    "untrusted": Package(1, "reading what others write: answers with a declared shape, files in directories of others"),
    "host": Package(
        2, "the host: processes, programs, users, systemd, sockets, /proc, network, block devices, atomic files"
    ),
    "records": Package(3, "what is kept on disk of a sandbox: layout, record, lock"),
    "guest": Package(2, "what goes into a guest or is asked of one: agent, disk names, initrds, tiny programs"),
    "options": Package(
        4, "what a task can set, declared once: options, device kinds, kernel parameters, argument specs"
    ),
    "provisioning": Package(4, "kernels, initrds, images and versions of programs"),
    "delivery": Package(4, "how this code reaches a host: the compiled copy, the program that runs at boot"),
    "resources": Package(
        5, "what the host gives one sandbox and takes back: root disk, volumes, addresses and published ports, seed"
    ),
    "hypervisors": Package(
        6, "the interface and its drivers: QEMU, Firecracker, ACRN, mock. No driver imports another"
    ),
    "engine": Package(
        7, "observe, plan, act: states, steps, planner, operations, converge, many sandboxes, templates, autostart"
    ),
}

#: Modules without effects: they compute values from values and import nothing that reaches the host.
PURE = (
    "engine/planner.py",
    "engine/states.py",
    "engine/steps.py",
    "guest/iso9660.py",
    "host/units.py",
    "host/words.py",
    "hypervisors/acrn/command_line.py",
    "hypervisors/firecracker/api/dialect.py",
    "hypervisors/firecracker/api/endpoints.py",
    "hypervisors/firecracker/requests.py",
    "hypervisors/firecracker/vulnerabilities.py",
    "hypervisors/qemu/arguments.py",
    "hypervisors/qemu/command_line.py",
    "hypervisors/qemu/devices/objects.py",
    "hypervisors/qemu/names.py",
    "options/declarations.py",
    "options/identity.py",
    "options/kernel_params.py",
    "options/labels.py",
    "options/network_options.py",
    "options/shown.py",
    "resources/nocloud.py",
    "resources/networks/addresses.py",
    "resources/networks/definition.py",
    "resources/networks/dnsmasq.py",
    "resources/networks/lease.py",
    "resources/networks/nftables.py",
)
