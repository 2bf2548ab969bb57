# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry of drivers: one entry each. A driver is imported only when it is needed, since imports take most of a task's time.

To add a hypervisor, add its package and its entry here; `docs/architecture.md` has all steps. The imports are statements, since Ansible reads
them to find the modules that it ships.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

from ..errors import ConfigError

if TYPE_CHECKING:
    from .base import Context, Hypervisor


def _qemu() -> type[Hypervisor]:
    from .qemu.driver import QemuHypervisor

    return QemuHypervisor


def _firecracker() -> type[Hypervisor]:
    from .firecracker.driver import FirecrackerHypervisor

    return FirecrackerHypervisor


def _acrn() -> type[Hypervisor]:
    from .acrn.driver import AcrnHypervisor

    return AcrnHypervisor


def _mock() -> type[Hypervisor]:
    from .mock import MockHypervisor

    return MockHypervisor


#: The class of each driver, by the hypervisor's name.
DRIVERS: dict[str, Callable[[], type[Hypervisor]]] = {
    "qemu": _qemu,
    "firecracker": _firecracker,
    "acrn": _acrn,
    "mock": _mock,
}

#: The names that a task may choose from.
HYPERVISORS = tuple(DRIVERS)


def driver_class(name: str) -> type[Hypervisor]:
    """The driver of that name.

    :raises ConfigError: no driver has that name
    """
    if name not in DRIVERS:
        raise ConfigError(
            "the hypervisor does not exist",
            option="hypervisor",
            wanted=name,
            fix=f"Choose one of {', '.join(HYPERVISORS)}.",
        )
    return DRIVERS[name]()


def new_hypervisor(name: str, context: Context) -> Hypervisor:
    """A driver of that name for one sandbox.

    :raises ConfigError: no driver has that name
    """
    return driver_class(name)(context)
