# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The drivers. One is imported only when it is asked for: a task's payload is compiled anew on the host every time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..options.declarations import HYPERVISORS

if TYPE_CHECKING:
    from .base import Context, Hypervisor


def new_hypervisor(name: str, context: Context) -> Hypervisor:
    """Make the driver of that name for one sandbox.

    The imports are statements, not strings: Ansible ships what it finds by reading.

    :raises ConfigError: no driver has that name
    """
    if name == "qemu":
        from .qemu.driver import QemuHypervisor

        return QemuHypervisor(context)
    if name == "firecracker":
        from .firecracker.driver import FirecrackerHypervisor

        return FirecrackerHypervisor(context)
    if name == "acrn":
        from .acrn.driver import AcrnHypervisor

        return AcrnHypervisor(context)
    if name == "mock":
        from .mock import MockHypervisor

        return MockHypervisor(context)
    raise ConfigError(
        "there is no such hypervisor", option="hypervisor", wanted=name, fix=f"Choose one of {', '.join(HYPERVISORS)}."
    )
