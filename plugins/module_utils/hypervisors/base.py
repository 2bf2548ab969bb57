# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Hypervisor interface: the 23 operations of Kata 1.x, what a driver reports, and what it is given.

The docstrings are the contract. A driver that lacks an operation raises Unsupported with the reason; it never reports success
for an operation that the VMM did not do. Operations are idempotent where their docstring says so.
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any, Callable, NoReturn, Sequence

from ..errors import Unsupported, VmmError
from ..guest.ways import GuestWays
from ..options.config import HypervisorConfig

if TYPE_CHECKING:
    from ..options.device_kinds.base import Device


@dataclasses.dataclass
class Context:
    """What the engine passes to a driver for one sandbox.

    :param sandbox_id: id, already validated
    :param run_dir: directory for sockets, pid file and logs; gone after a reboot
    :param state_dir: directory that outlives a reboot (record, saved state)
    :param checkpoint: stores the driver's `Hypervisor.save` in the record, durably. A driver calls it BEFORE it creates anything on
        the host (a process, a tap, a mount, a jail), with the intention in its state, and again when the thing exists
    :param ending: pids of this sandbox's VM of another hypervisor, which ends before this driver's starts
    :param meminfo: path of the host's meminfo
    :param cpuinfo: path of the host's cpuinfo
    """

    sandbox_id: str
    run_dir: str
    state_dir: str
    checkpoint: Callable[[], None] = lambda: None
    ending: tuple[int, ...] = ()
    meminfo: str = "/proc/meminfo"
    cpuinfo: str = "/proc/cpuinfo"

    @property
    def host_name(self) -> str:
        """See `SandboxLayout.host_name`."""
        from ..records.layout import SandboxLayout

        return SandboxLayout(
            self.sandbox_id, os.path.dirname(os.path.dirname(self.state_dir)), os.path.dirname(self.run_dir)
        ).host_name

    def run_path(self, name: str) -> str:
        """A path in the run directory."""
        return os.path.join(self.run_dir, name)


@dataclasses.dataclass(frozen=True)
class Capabilities:
    """What a driver can do with the installed VMM. Code, errors, facts and docs all use this.

    The first four are Kata 1.x's. `fs_sharing` is positive here (Kata 1.x keeps its negation).
    """

    block_device: bool = False
    block_device_hotplug: bool = False
    block_device_unplug: bool = False
    multi_queue: bool = False
    fs_sharing: bool = False
    pause: bool = False
    save: bool = False
    vcpu_hotplug: bool = False
    vcpu_unplug: bool = False
    memory_grow: bool = False
    memory_shrink: bool = False
    network_hotplug: bool = False
    fs_hotplug: bool = False
    serial_hotplug: bool = False
    vsock_hotplug: bool = False
    vfio_hotplug: bool = False
    vhost_user_hotplug: bool = False
    #: A disk's file and an interface's limits can change while the VM runs.
    device_update: bool = False
    pmem_hotplug: bool = False
    pmem_unplug: bool = False
    #: A persistent memory's limits can change while the VM runs.
    pmem_update: bool = False
    #: A balloon's size can change while the VM runs.
    balloon_update: bool = False
    #: What the metadata service tells can change while the VM runs.
    metadata_update: bool = False
    #: A disk's limits can change while the VM runs.
    disk_limit_update: bool = False
    #: The ports of the host that lead to the guest of a user network can change while the VM runs.
    port_forward_update: bool = False
    #: A disk can grow while the VM runs, and the guest sees its new size.
    disk_resize: bool = False
    #: An agent in the guest can be asked.
    guest_agent: bool = False


#: What a VM can be, as seen from outside. `off`: no VMM process. `failed`: the process is there and says that its guest is lost
#: (panicked, internal error, I/O stopped). `unresponsive`: the process is there and does not answer, or answers nonsense, so nobody knows how
#: its guest is. `reason` says why.
POWER_STATES = ("off", "running", "paused", "failed", "unresponsive")


@dataclasses.dataclass
class Observed:
    """The state of a VM now, read from the VMM and the host and not from the record.

    :param power: one of POWER_STATES
    :param vmm_status: the state as the VMM reports it
    :param pid: of the VMM, if it runs
    :param vcpus: vCPUs plugged, or 0 when off
    :param vcpus_online: vCPUs the guest uses, None if unknown
    :param memory_mb: MiB the guest was given (boot memory and what is plugged), or 0 when off
    :param min_vcpus: the fewest vCPUs that this run of the VM can be resized to, 0 where there is no such limit; of a saved VM, once it is restored
    :param min_memory_mb: the least memory that this run of the VM can be resized to, likewise
    :param devices: ids of the devices that are plugged
    :param outdated: ids of devices whose settings in the VMM differ from what the driver set last, where the VMM reports them
    :param leftovers: files, sockets, processes, mounts or interfaces of a VM that is gone; cleanup removes them
    :param reason: why the VM is in this state, as a text for users
    :param ended_by_guest: whether the VM ended because its guest shut down or rebooted, and not by a crash
    :param thread_ids: the host's thread of each vCPU; None where the driver reports it only when asked (`get_thread_ids`)
    :param autostart: whether the host starts the sandbox after a reboot; set by the engine, not by the driver
    """

    power: str = "off"
    vmm_status: str = ""
    pid: int | None = None
    vcpus: int = 0
    vcpus_online: int | None = None
    memory_mb: int = 0
    min_vcpus: int = 0
    min_memory_mb: int = 0
    devices: list[str] = dataclasses.field(default_factory=list)
    outdated: list[str] = dataclasses.field(default_factory=list)
    leftovers: list[str] = dataclasses.field(default_factory=list)
    reason: str = ""
    autostart: bool = False
    ended_by_guest: bool = False
    thread_ids: dict[int, int] | None = None


@dataclasses.dataclass
class VcpuResize:
    """The result of a vCPU resize.

    :param old: vCPUs before
    :param new: vCPUs after, read back from the VMM
    :param online: vCPUs the guest uses, None if unknown
    :param how: hotplug, unplug, guest-offline, guest-online or none
    """

    old: int
    new: int
    online: int | None = None
    how: str = "none"


@dataclasses.dataclass
class MemoryResize:
    """The result of a memory resize, in MiB; `new` is the size after it, `how` is virtio-mem, pc-dimm, balloon or none."""

    old_mb: int
    new_mb: int
    how: str = "none"
    device: Any = None


#: What `resize_disk` calls the root disk. A device's id can be the same word; the root disk is meant then.
ROOT_DISK = "root"


@dataclasses.dataclass
class DiskResize:
    """The result of the growth of a disk: MiB before and after it, the latter read back."""

    old_mb: int
    new_mb: int


class Hypervisor:
    """One sandbox's VM, driven through one VMM. Subclasses implement; the engine and the modules only know this class.

    A driver object is cheap, holds no host resources between operations other than open sockets, and can be created again from
    its saved state at any time: `driver = new_hypervisor(type, context); driver.load(state, config)`.
    """

    #: The name that tasks use, and the name for people.
    name = ""
    title = ""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.config = HypervisorConfig()

    @staticmethod
    def capability_columns() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
        """The VMs of this hypervisor whose capabilities differ: by a name for people, the driver's state and the fields of the configuration.

        `docs/capabilities.md` is generated from these.
        """
        return {"all": ({}, {})}

    @staticmethod
    def host_facts(paths: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Facts of this hypervisor's programs on the host, for `kata_host_info`: `hypervisor`, `path`, `version`, `usable`, `reason`.

        :param paths: the programs to examine; if empty, those in the usual places
        """
        return []

    def explain(self, error: VmmError) -> None:
        """If an operation failed because the VMM ended, add the reason of that to the error."""

    def unsupported(self, operation: str, reason: str = "", fix: str = "") -> NoReturn:
        """Raise the error for an operation that this driver does not support."""
        why = f": {reason}" if reason else ""
        raise Unsupported(
            f"the {self.name} driver cannot do {operation}{why}",
            sandbox=self.context.sandbox_id,
            wanted=operation,
            fix=fix,
        )

    # --- lifecycle -------------------------------------------------------------------------------------------------

    def create_sandbox(self, config: HypervisorConfig) -> None:
        """Validate `config` and prepare everything that needs no process. Nothing runs afterwards.

        Fills in the configuration's defaults on a copy of its own. Checks binaries, assets, socket path lengths and free memory,
        so that bad input fails before anything on the host has changed.

        :raises ConfigError: an option is missing, contradictory or impossible
        :raises AssetError: a kernel, image, initrd or binary cannot be used
        :raises HostError: the host lacks memory, a device or a feature
        """
        self.unsupported("create_sandbox")

    def check_start(self) -> None:
        """Refuse a start that other processes of the host prevent at this moment, as `start_sandbox` would. Devices must be added. Changes nothing.

        :raises HypervisorError: what `start_sandbox` would raise
        """

    def start_sandbox(self, timeout: float) -> None:
        """Launch the VMM and let the guest run. Returns when the VMM reports that the VM runs.

        On failure everything that was started or created is removed again.

        :param timeout: seconds for the VMM to answer
        :raises LaunchError: the VMM ended; with exit code, argv and the end of its log
        :raises DeadlineExceeded: it did not answer in time
        """
        self.unsupported("start_sandbox")

    def stop_sandbox(self, timeout: float, force: bool = False) -> None:
        """End the VM and wait until its process has ended. The guest is asked first. Idempotent: a VM that does not run is success.

        :param timeout: seconds the guest gets to shut down by itself; the further steps have limits of their own
        :param force: skip asking the guest
        """
        self.unsupported("stop_sandbox")

    def pause_sandbox(self) -> None:
        """Stop the vCPUs. Idempotent. The state is verified before it returns."""
        self.unsupported("pause_sandbox")

    def resume_sandbox(self) -> None:
        """Let the vCPUs run again. Idempotent. The state is verified before it returns."""
        self.unsupported("resume_sandbox")

    def check_save(self) -> None:
        """Refuse to save a VM that runs as `save_sandbox` would, as far as that can be known. Changes nothing.

        :raises HypervisorError: what `save_sandbox` would raise
        """

    def save_sandbox(self, destination: str, timeout: float) -> None:
        """Write the VM's memory and device state below the directory `destination`, paused first. The VM stays paused.

        The file appears there complete or not at all.

        :param timeout: seconds
        """
        self.unsupported("save_sandbox")

    def check_restore(self, source: str) -> None:
        """Refuse to restore what `restore_sandbox` would refuse, as far as that can be known. Changes nothing.

        :raises HypervisorError: what `restore_sandbox` would raise
        """

    def restore_sandbox(self, source: str, timeout: float) -> None:
        """Start a new VMM from what `save_sandbox` wrote. The VM is paused afterwards; `resume_sandbox` continues it."""
        self.unsupported("restore_sandbox")

    def disconnect(self) -> None:
        """Close connections to the VMM. Idempotent."""

    def cleanup(self) -> None:
        """Remove everything on the host that belongs to this VM: leftover process, sockets, mounts, taps, jail, run directory.

        Idempotent, works from the saved state alone, and never touches the user's files (kernels, images, disks).
        """
        self.unsupported("cleanup")

    def adopt(self) -> None:
        """Find the processes and files of this sandbox's VM without a saved state, to remove them after its record was lost. Changes nothing."""

    def check(self) -> None:
        """Return when the VM is healthy (running or paused); raise VmmError or StateError with the reason otherwise."""
        self.unsupported("check")

    # --- devices and sizes -----------------------------------------------------------------------------------------

    def add_device(self, device: Device) -> None:
        """Add a device to the VM of the next start. A VM that runs now does not get it. Unknown kinds are refused, never ignored.

        The device is checked as far as possible. If the sandbox's VM still runs, it ends before that start, so what it holds counts as free.
        """
        self.unsupported(f"add_device {type(device).__name__}")

    def check_device(self, device: Device) -> None:
        """Refuse a device that `hotplug_add_device` would refuse, as far as that can be known. Changes nothing.

        :raises HypervisorError: what `hotplug_add_device` would raise
        """

    def hotplug_add_device(self, device: Device) -> Any:
        """Add a device to a running VM. If that fails, host resources are released. Idempotent by the device's id."""
        self.unsupported(f"hotplug_add_device {type(device).__name__}")

    def hotplug_remove_device(self, device: Device) -> Any:
        """Remove a device from a running VM, and release its host resources. If the VM no longer has the device, this is a success.

        :raises DeadlineExceeded: the guest does not release it; it may do so later
        """
        self.unsupported(f"hotplug_remove_device {type(device).__name__}")

    def check_update(self, device: Device) -> None:
        """Refuse a change that `update_device` would refuse, as far as that can be known. Changes nothing.

        :raises HypervisorError: what `update_device` would raise
        """

    def update_device(self, device: Device) -> None:
        """Change a device of a running VM to its recorded settings: a disk's file and limits, an interface's limits.

        :raises Unsupported: the VMM cannot change this setting of the device
        """
        self.unsupported(f"update_device {type(device).__name__}")

    def resize_memory(self, memory_mb: int, block_mb: int = 0, probe: bool = False) -> MemoryResize:
        """Bring the VM's memory to `memory_mb` MiB, in blocks of `block_mb` MiB (0: the driver's own)."""
        self.unsupported("resize_memory")

    def check_resize_memory(self, memory_mb: int) -> None:
        """Refuse a size that `resize_memory` would refuse, as far as that can be known. Changes nothing.

        :raises HypervisorError: what `resize_memory` would raise
        """

    def resize_vcpus(self, vcpus: int) -> VcpuResize:
        """Bring the VM to `vcpus` vCPUs."""
        self.unsupported("resize_vcpus")

    def resize_disk(self, identity: str, size_mb: int) -> DiskResize:
        """Grow a disk of a running VM to `size_mb` MiB, its file on the host too, and tell the guest. The file system on it grows in the guest.

        Idempotent: if a task was killed between the two, the next call tells the guest. A disk is never made smaller.

        :param identity: `ROOT_DISK`, or a device's id
        :raises ConfigError: the disk is larger
        :raises Unsupported: this disk cannot grow while the VM runs, such as a block device of the host
        :raises StateError: the VM does not have this disk
        """
        self.unsupported("resize_disk")

    def check_resize_disk(self, identity: str, size_mb: int) -> None:
        """Refuse a size that `resize_disk` would refuse, as far as that can be known. Changes nothing.

        :raises HypervisorError: what `resize_disk` would raise
        """

    # --- facts -----------------------------------------------------------------------------------------------------

    def observe(self) -> Observed:
        """The state of the VM now. It does not raise for a VM that is off, incomplete or broken. Changes nothing."""
        self.unsupported("observe")

    def get_sandbox_console(self) -> str:
        """Path of the console's unix socket on the host (empty where the VMM has none)."""
        return ""

    def console_log(self) -> str:
        """Path of the file that keeps what the guest printed (empty where there is none)."""
        return ""

    def guest_ways(self) -> GuestWays:
        """The ports that lead into the guest, whether the VM runs or not. A program of the guest may listen there, or none."""
        return GuestWays()

    def guest_facts(self) -> dict[str, Any]:
        """What the guest reports through its agent: os, host_name, interfaces. Empty if no agent answers."""
        return {}

    def details(self) -> dict[str, Any]:
        """Facts of the VM that only this driver has, by name, for its user."""
        return {}

    def vmm_log(self) -> str:
        """Path of the VMM's own log (empty where there is none)."""
        return ""

    def capabilities(self) -> Capabilities:
        """What this driver can do with this configuration and this VMM."""
        return Capabilities()

    def why_not(self, capability: str) -> str:
        """Why the VM does not have a capability, as a text for users; may be empty."""
        return ""

    def hypervisor_config(self) -> HypervisorConfig:
        """The configuration in force, defaults filled in."""
        return self.config

    def get_thread_ids(self) -> dict[int, int]:
        """Host thread ids of the vCPUs, by vCPU number. Empty when the VM is off."""
        return {}

    def pid(self) -> int:
        """Process id of the VMM, 0 when it does not run. Never the pid of another process that reused the number."""
        return 0

    # --- state -----------------------------------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        """The driver's persistent state, JSON-able, enough to find and to remove everything that it created."""
        return {}

    def load(self, state: dict[str, Any], config: HypervisorConfig) -> None:
        """Load a state from `save` and the configuration that it was saved with. They replace the current ones."""
        self.config = config

    def to_grpc(self) -> bytes:
        """The state as the bytes by which a VM is handed to another process (the VM cache of Kata 1.x)."""
        self.unsupported("to_grpc")

    def from_grpc(self, config: HypervisorConfig, payload: bytes) -> None:
        """Take over a VM from the bytes of `to_grpc`."""
        self.unsupported("from_grpc")
