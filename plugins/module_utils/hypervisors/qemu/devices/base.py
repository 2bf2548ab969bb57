# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A device in QEMU: what each kind can say of its devices, and what is the same for most kinds."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Callable, ClassVar, Collection, Generic, Iterator, TypeVar

from ....errors import HypervisorError, NeedsRestart
from ....options.config import HypervisorConfig
from ....options.device_kinds.base import Device
from ..names import DEVICE_PREFIX
from .objects import Descriptors, QemuObject, Slot

if TYPE_CHECKING:
    from ....host.processes import ProcessIdentity
    from ....host.users import Wanted
    from ...base import Context
    from ..machines import Machine
    from ..qmp import QmpClient, QmpError
    from ..vmm import Vmm
    from .host_resources import HostResources

Record = TypeVar("Record", bound=Device)

#: Is called with the daemon that serves a device, as soon as it runs.
Started = Callable[["ProcessIdentity | None"], None]

RESTART = "Restart it with the device in its list (disruption: restart)."


class QemuDevice(Generic[Record]):
    """A device of a QEMU. A class for each kind; `kinds.py` has the table.

    :param record: what the task asks for
    :param config: of the VM
    """

    #: QEMU can change a plugged device: its class has `update`.
    can_update: ClassVar[bool] = False

    def __init__(self, record: Record, config: HypervisorConfig) -> None:
        self.record = record
        self.config = config

    # --- what it is ----------------------------------------------------------------------------------------------------

    @property
    def identity(self) -> str:
        """The user's id of the device."""
        return self.record.identity

    @property
    def frontend_id(self) -> str:
        """The id in QEMU of the object that the guest sees."""
        return DEVICE_PREFIX + self.identity

    @property
    def needs_slot(self) -> bool:
        """Whether it is plugged into a bridge."""
        return True

    @property
    def shares_memory(self) -> bool:
        """Whether another process on the host has to see the guest's memory for it."""
        return False

    @property
    def file_name(self) -> str:
        """What QEMU tells of the open file of a disk: whose it is, and its path. Empty for a device without one."""
        return ""

    def ports(self, hot: bool, root_bus: str) -> str:
        """Which ports it is plugged into: `first` or `last` free one of all, `only` root ports, `none` for the root bus itself.

        :param hot: the VM runs
        """
        return "first" if hot else "last"

    def objects(self, slot: Slot, descriptors: Descriptors | None = None) -> list[QemuObject]:
        """The objects that make it, in order, the one that the guest sees last.

        :param descriptors: names of the open files that QEMU was handed for it
        :raises Unsupported: QEMU, or the machine type, has no such device
        """
        raise NotImplementedError

    def objects_to_remove(self, slot: Slot, descriptors: Descriptors) -> list[QemuObject]:
        """The objects that it may have."""
        return self.objects(slot, descriptors)

    # --- what is checked -----------------------------------------------------------------------------------------------

    def complete(self, context: Context, seed: str) -> None:
        """Fill in what the task left out, always the same for the same sandbox and device.

        :param seed: what makes addresses unique (the VM's UUID)
        """

    def check(self, own_socket: str = "", own: Collection[int] = ()) -> None:
        """Refuse what the host does not have or must not give away. Changes nothing.

        :param own_socket: path of the socket that this sandbox has made for the device before
        :param own: pids of this sandbox's VM, if it runs
        :raises AssetError: a file, directory or daemon is missing
        :raises HostError: a kernel feature or device is missing
        :raises StateError: the host itself uses it
        """
        self.check_host(own_socket, own)
        self.check_user()

    def check_host(self, own_socket: str, own: Collection[int]) -> None:
        """What `check` refuses of this kind."""

    def opened_by_name(self) -> list[Wanted]:
        """What the user that QEMU runs as must be allowed to open; everything else is opened by us and handed over."""
        return []

    def check_user(self) -> None:
        """Refuse what the user that QEMU runs as may not open."""
        wanted = self.opened_by_name() if self.config.vmm_user else []
        if wanted:
            from ....host.users import check_access, user_named

            check_access(user_named(self.config.vmm_user), wanted)

    def check_machine(self, machine: Machine) -> None:
        """Make its objects once, so that what QEMU lacks is refused before anything is touched.

        :raises Unsupported: QEMU, or the machine type, has no such device
        """
        self.objects(Slot.for_machine(machine), Descriptors(socket="0" if self.shares_memory else ""))

    def check_hot(self, memory_is_shared: bool) -> None:
        """Refuse what QEMU cannot add to this VM while it runs.

        :raises NeedsRestart: it would have had to be there, or prepared for, from the start
        """
        if self.shares_memory and not memory_is_shared:
            raise NeedsRestart(
                "this VM's memory is not shared, so no other process can serve a device of it",
                option="devices",
                fix=RESTART,
            )

    def check_named(self, uid: int) -> None:
        """Refuse what `open_named` would refuse. Changes nothing."""
        descriptor = self.open_named(uid)
        if descriptor >= 0:
            os.close(descriptor)

    def check_unplug(self) -> None:
        """Refuse to take out what QEMU cannot take out of a VM that runs.

        :raises Unsupported: it needs a restart
        """

    # --- what is done --------------------------------------------------------------------------------------------------

    def open(self, vmm: Vmm, resources: HostResources, started: Started) -> None:
        """Open or start what it needs on the host.

        :param resources: gets what is opened; the caller closes it when this fails
        """

    def open_named(self, uid: int) -> int:
        """A file for the guest's memory, opened for a QEMU that runs and may not open it by its name; -1 where it may, and for all other devices.

        :param uid: that QEMU runs as
        :raises AssetError: it cannot be opened for that user
        """
        return -1

    @contextlib.contextmanager
    def lent(self, uid: int) -> Iterator[None]:
        """Let a QEMU that runs as a sandbox's own user open what the device is, and nobody after that.

        :param uid: QEMU's
        """
        yield

    def explained(self, error: QmpError) -> HypervisorError:
        """QEMU's refusal to make it, in better words where there are any."""
        return error

    def update(self, qmp: QmpClient) -> None:
        """Change a plugged device into what its record says."""
        raise NotImplementedError


AnyQemuDevice = QemuDevice[Any]
