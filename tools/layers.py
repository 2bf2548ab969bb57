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


PACKAGES = {
    "errors": Package(0, "the error family"),
    "untrusted": Package(1, "reading what others write: answers with a declared shape, files in directories of others"),
    "host": Package(2, "the machine that this runs on: processes, programs, users, sockets, network, files"),
    "guest": Package(2, "what goes into a guest or is asked of one: agent, disk names, initrds, tiny programs"),
    "records": Package(3, "what is kept on disk of a sandbox: layout, record, lock"),
    "options": Package(4, "what a task may say, declared once: options, device kinds, argument specs"),
    "provisioning": Package(4, "kernels, initrds, images and versions of programs"),
    "delivery": Package(4, "how this code reaches a host: the compiled copy, the program that runs at boot"),
    "hypervisors": Package(5, "the drivers: QEMU, Firecracker, ACRN and the mock"),
    "engine": Package(6, "observe, plan, act: states, steps, planner, operations, converge"),
}

#: Modules without effects: they compute values from values and import nothing that reaches the host.
PURE = (
    "engine/planner.py",
    "engine/states.py",
    "engine/steps.py",
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
    "options/kernel_params.py",
    "options/shown.py",
)
