# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A device in Firecracker: what each kind can say of its devices, and what is the same for most kinds."""

from __future__ import annotations

from typing import Any, ClassVar, Collection, Generic, TypeVar

from ....errors import Unsupported
from ....options.config import HypervisorConfig
from ....options.device_kinds.base import Device
from ..api import dialect
from ..api.client import ApiClient
from ..api.endpoints import RUNNING, Version, has
from ..device_ids import api_id
from ..host_resources import HostResources
from ..requests import Request
from ..state import FirecrackerState, Jail
from ..vmm import Vmm

Record = TypeVar("Record", bound=Device)


class FirecrackerDevice(Generic[Record]):
    """A device of a Firecracker, and as it is here, of a kind that Firecracker does not have. `kinds.py` has the table.

    :param record: what the task asks for
    """

    #: It can be plugged and unplugged by PCI.
    by_pci: ClassVar[bool] = False
    #: It can take the place of an empty disk.
    by_placeholder: ClassVar[bool] = False
    #: What Firecracker's configuration calls it, where a VM has one, and what it is called in words.
    single: ClassVar[str] = ""
    words: ClassVar[str] = ""
    #: It names other devices, which must be there first.
    comes_last: ClassVar[bool] = False
    #: Fields of its record that may differ in a clone: what it has on the host, and what can be changed once the clone runs.
    on_host: ClassVar[tuple[str, ...]] = ()
    live: ClassVar[tuple[str, ...]] = ()

    def __init__(self, record: Record) -> None:
        self.record = record

    @property
    def identity(self) -> str:
        """The user's id of the device."""
        return self.record.identity

    @property
    def api_id(self) -> str:
        """Its id in the API."""
        return api_id(self.identity)

    # --- what is checked -----------------------------------------------------------------------------------------------

    def complete(self, owner: str, state: FirecrackerState) -> None:
        """Fill in what the task left out, always the same for the same sandbox and device.

        :param owner: name that the VM's taps get
        """

    def check(self, config: HypervisorConfig, version: Version, jail: Jail | None, sockets: Collection[str]) -> None:
        """Refuse a device that Firecracker, this version of it, or the host does not have. Changes nothing.

        :param sockets: paths of those that are this sandbox's
        """
        raise self.unknown()

    def unknown(self, what: str = "") -> Unsupported:
        """The error about a device that Firecracker does not have."""
        what = what or type(self.record).__name__
        return Unsupported(
            f"Firecracker has no device for {what} {self.identity}", option="devices", wanted=self.identity
        )

    def asked_for_by(self, config: HypervisorConfig) -> bool:
        """Whether an option of the VM asks for such a device already."""
        return False

    def check_hot(self, vmm: Vmm) -> None:
        """Return when a VM that runs can take the device. Changes nothing.

        :raises Unsupported: it can neither be plugged in nor take a placeholder's place
        """
        if not (self.by_pci and plugs_by_pci(vmm)):
            raise self.no_hotplug(vmm)

    def no_hotplug(self, vmm: Vmm) -> Unsupported:
        """The error about a device that this VM cannot plug or unplug."""
        return Unsupported(
            f"this VM cannot plug or unplug {type(self.record).__name__} {self.identity} while it runs: Firecracker"
            f" {dialect.shown(vmm.version)} {'with' if vmm.state.pci else 'without'} PCI has no hotplug for it",
            option="devices",
            wanted=self.identity,
            fix="Restart the sandbox (disruption: restart). Disks need Firecracker 1.16 with enable_pci, or placeholder_drives.",
        )

    # --- what it has on the host ---------------------------------------------------------------------------------------

    def provide(self, host: HostResources) -> None:
        """Make what it needs on the host."""
        if self.single:
            host.vmm.state.singles[self.single] = self.identity

    def path(self, host: HostResources) -> str:
        """The path of its file or socket, as Firecracker sees it; empty for none."""
        return ""

    def withdraw(self, host: HostResources) -> None:
        """Remove what `provide` made."""

    # --- what Firecracker is asked -------------------------------------------------------------------------------------

    def requests(self, version: Version, path: str = "") -> list[Request]:
        """The requests that make it.

        :param path: of its file or its socket, as Firecracker sees it
        :raises Unsupported: Firecracker has no such device
        """
        raise self.unknown()

    def placeholder(self, vmm: Vmm) -> int | None:
        """The number of the empty disk whose place it takes; None where it is plugged by itself.

        :raises StateError: all of them are taken
        """
        return None

    def plug(self, vmm: Vmm, host: HostResources, placeholder: int | None) -> None:
        """Plug it into a VM that runs."""
        for request in self.requests(vmm.version, self.path(host)):
            vmm.api().put(request.path, request.body)

    def unplug(self, vmm: Vmm, host: HostResources) -> None:
        """Take it out of a VM that runs.

        :raises Unsupported: this VM cannot let go of it
        """
        if not (self.by_pci and plugs_by_pci(vmm)):
            raise self.no_hotplug(vmm)
        vmm.api().delete(self.requests(vmm.version)[0].path)

    def update(self, vmm: Vmm, host: HostResources) -> None:
        """Change a device that is there into what its record says.

        :raises Unsupported: nothing of it can change while the VM runs
        :raises ApiError: Firecracker refused
        """
        raise self.no_hotplug(vmm)

    # --- snapshots and templates ---------------------------------------------------------------------------------------

    @property
    def file_keeps_time(self) -> bool:
        """Whether its file's time of change is the same after a save."""
        return True

    def network_overrides(self, version: Version, saved: dict[str, Any]) -> list[dict[str, str]]:
        """What of it is elsewhere on the host than it was, for an interface.

        :param saved: its record when the VM was saved
        :raises Unsupported: this version cannot have it elsewhere
        """
        return []

    def vsock_path(self, host: HostResources) -> str:
        """The path of its socket, for a vsock."""
        return ""

    def after_load(self, api: ApiClient) -> None:
        """Bring back what no snapshot keeps."""

    def check_template(self) -> None:
        """Refuse a device that cannot be in a template.

        :raises Unsupported: its clones could not share it
        """

    def only_for_one(self) -> Unsupported:
        """The error about a disk that all clones of a template would write to."""
        return Unsupported(
            "all clones would write to this one disk",
            option="devices",
            wanted=self.identity,
            fix="Plug it into the clones, or have it read_only.",
        )

    def inherit(self, template: Record, state: FirecrackerState) -> None:
        """Fill in what a clone's guest knows from its template.

        :param template: the template's record of the device
        :param state: the clone's
        """

    def as_clones_own(self, owner: str) -> Record:
        """The record of a template's device with what a clone has of its own on the host.

        :param owner: name that the clone's taps get
        """
        return self.record


AnyFirecrackerDevice = FirecrackerDevice[Any]


def plugs_by_pci(vmm: Vmm) -> bool:
    """Whether a VM can plug devices by PCI."""
    return vmm.state.pci and has(vmm.version, "DELETE", "/drives/x", RUNNING[0])
