# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The layers of `plugins/module_utils`: a package imports only from packages with a smaller number.

`tools/diagrams.py` draws this table.
"""

from __future__ import annotations

#: By package: its layer, and what it holds.
LAYERS: dict[str, tuple[int, str]] = {
    "errors": (0, "the error family"),
    "untrusted": (1, "answers and files that others could forge: shapes, limits, access by descriptor"),
    "host": (2, "the host: processes, programs, users, systemd, sockets, /proc, network, block devices, atomic files"),
    "records": (2, "what is kept on disk of a sandbox: layout, record, lock"),
    "guest": (2, "what goes into a guest or is asked of one: agent, disk names, cpio"),
    "options": (3, "what a task can set, declared once: options, device kinds, kernel parameters, argument specs"),
    "provisioning": (3, "kernels, initrds, images and versions of programs"),
    "delivery": (3, "how this code reaches a host: the compiled copy"),
    "hypervisors": (4, "the interface and its drivers: QEMU, Firecracker, ACRN, mock. No driver imports another"),
    "engine": (
        5,
        "observe, plan, act: states, steps, planner, operations, converge, many sandboxes, templates, autostart",
    ),
}
