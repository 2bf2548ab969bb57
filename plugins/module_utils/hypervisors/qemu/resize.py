# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vCPUs and memory of a running VM: up, down, and what the guest made of it."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import Any

from ...errors import ConfigError, DeadlineExceeded, Unsupported, VmmError
from ...host.units import MIB
from ..base import MemoryResize, VcpuResize
from .command_line import VIRTIO_MEM_BLOCK_MB, VIRTIO_MEM_ID
from .devices.qmp_objects import GUEST_SECONDS, remove_device
from .qmp import QmpClient, QmpError
from .state import QemuState
from .vmm import Vmm, has_agent, plugged_memory_mb, plugged_vcpus

#: Seconds without progress after which the virtio-mem device is asked anew; the guest's driver backs off for long.
KICK_SECONDS = 1.0
PC_ACPI = "/machine/acpi-device"
VIRTIO_MEM_PATH = f"/machine/peripheral/{VIRTIO_MEM_ID}"


def hotplugged_vcpus(qmp: QmpClient) -> list[dict[str, Any]]:
    """`device_add` properties of the vCPUs plugged in since the launch, in the order of their sockets."""
    found = []
    for cpu in qmp.execute("query-hotpluggable-cpus"):
        parent, _slash, identifier = str(cpu.get("qom-path", "")).rpartition("/")
        if parent == "/machine/peripheral":
            found.append({"driver": cpu["type"], "id": identifier, **cpu["props"]})
    return sorted(found, key=_socket)


def _socket(cpu: dict[str, Any]) -> int:
    return int(cpu.get("socket-id", cpu.get("core-id", 0)))


def plug_vcpus(qmp: QmpClient, count: int) -> int:
    """Plug `count` vCPUs into the lowest free sockets; returns how many the VM has then.

    :raises VmmError: there are not enough free sockets, or QEMU refused one
    """
    free = [cpu for cpu in qmp.execute("query-hotpluggable-cpus") if "qom-path" not in cpu]
    free.sort(key=lambda cpu: _socket(cpu["props"]))
    if len(free) < count:
        raise VmmError(
            f"QEMU has {len(free)} free vCPU sockets and {count} are wanted", fix="Recreate it with more max_vcpus."
        )
    _let_guests_see_vcpus(qmp)
    for cpu in free[:count]:
        qmp.execute("device_add", {"driver": cpu["type"], "id": f"cpu-{_socket(cpu['props'])}", **cpu["props"]})
    return plugged_vcpus(qmp)


def _let_guests_see_vcpus(qmp: QmpClient) -> None:
    """Switch a PC's registers for vCPUs to the layout that its ACPI code reads (QEMU's docs/specs/acpi_cpu_hotplug).

    The guest does that when it boots, but QEMU 5.1 to 7.2.0 drop its request under TCG, and it would see no vCPU for ever.
    """
    with contextlib.suppress(QmpError):
        if qmp.execute("qom-get", {"path": PC_ACPI, "property": "cpu-hotplug-legacy"}):
            qmp.execute("qom-set", {"path": PC_ACPI, "property": "cpu-hotplug-legacy", "value": False})


def unplug_vcpus(qmp: QmpClient, count: int) -> int:
    """Unplug the `count` vCPUs in the highest sockets, each when the guest has released it; returns how many the VM has then.

    :raises ConfigError: more than were plugged
    :raises DeadlineExceeded: the guest keeps one
    """
    plugged = hotplugged_vcpus(qmp)
    if count > len(plugged):
        raise ConfigError(
            f"only the {len(plugged)} vCPUs plugged since the start can be unplugged, not {count}",
            option="vcpus",
            fix="Restart it to go below what it booted with (disruption: restart).",
        )
    for cpu in reversed(plugged[len(plugged) - count :]):
        remove_device(qmp, cpu["id"])
    return plugged_vcpus(qmp)


def check_memory(state: QemuState, memory_mb: int, block_mb: int) -> None:
    """Refuse a size that this VM cannot come to while it runs, whatever its guest does. Pure.

    :param block_mb: MiB that a module's size is a multiple of; QEMU would take any size, and the guest refuse it
    :raises ConfigError: it is more than its maximum, or no multiple of what memory is moved in
    :raises Unsupported: it is less than what it booted with
    """
    if memory_mb > state.max_memory_mb:
        raise ConfigError(
            f"this VM can grow to {state.max_memory_mb} MiB",
            option="memory_mb",
            wanted=memory_mb,
            fix="Recreate it with more max_memory_mb, or restart it (disruption: restart).",
        )
    if state.memory_hotplug == "balloon":
        return
    difference = memory_mb - state.boot_memory_mb
    if difference < 0:
        raise Unsupported(
            f"a running VM cannot have less than the {state.boot_memory_mb} MiB it booted with",
            option="memory_mb",
            wanted=memory_mb,
            fix="Restart it (disruption: restart).",
        )
    step = block_mb if state.memory_hotplug == "pc-dimm" else VIRTIO_MEM_BLOCK_MB
    if difference % step:
        near = state.boot_memory_mb + difference // step * step
        raise ConfigError(
            f"{state.memory_hotplug} moves memory in steps of {step} MiB beside the {state.boot_memory_mb} MiB that the VM booted with",
            option="memory_mb",
            wanted=memory_mb,
            fix=f"Give {near} or {near + step}.",
        )


def resize_virtio_mem(qmp: QmpClient, state: QemuState, memory_mb: int, timeout: float = GUEST_SECONDS) -> MemoryResize:
    """Ask the guest, through its virtio-mem device, for a size, and wait until it has it or has stopped moving.

    :raises DeadlineExceeded: the guest took another size; the text names it
    """
    old = plugged_memory_mb(qmp, state)
    wanted = memory_mb - state.boot_memory_mb

    def ask(size_mb: int) -> None:
        qmp.execute("qom-set", {"path": VIRTIO_MEM_PATH, "property": "requested-size", "value": size_mb * MIB})

    def taken() -> int:
        return int(qmp.execute("qom-get", {"path": VIRTIO_MEM_PATH, "property": "size"}) // MIB)

    ask(wanted)
    deadline = time.monotonic() + timeout
    size, moved = taken(), time.monotonic()
    while size != wanted and time.monotonic() < deadline:
        time.sleep(0.02)
        now = taken()
        if now != size:
            size, moved = now, time.monotonic()
        elif time.monotonic() - moved > KICK_SECONDS:
            ask(size)
            ask(wanted)
            moved = time.monotonic()
    new = plugged_memory_mb(qmp, state)
    if size != wanted:
        raise DeadlineExceeded(
            f"the guest has {new} MiB after {timeout:g} s, not the {memory_mb} MiB asked for",
            option="memory_mb",
            wanted=memory_mb,
            answer=f"virtio-mem size {size} MiB of {wanted} MiB requested",
            fix="To grow, the guest needs the virtio_mem driver (or use memory_hotplug pc-dimm); to shrink, it must have that much free.",
        )
    return MemoryResize(old, new, "virtio-mem")


def resize_balloon(qmp: QmpClient, memory_mb: int, timeout: float = GUEST_SECONDS) -> MemoryResize:
    """Have the balloon leave the guest `memory_mb` MiB, and wait until it does or the guest has stopped moving.

    :raises DeadlineExceeded: the guest kept another size; the text names it
    """

    def left() -> int:
        return int(qmp.execute("query-balloon")["actual"] // MIB)

    old = left()
    qmp.execute("balloon", {"value": memory_mb * MIB})
    deadline = time.monotonic() + timeout
    new = left()
    while new != memory_mb and time.monotonic() < deadline:
        time.sleep(0.02)
        new = left()
    if new != memory_mb:
        # A guest that cannot do without more is not pressed on.
        qmp.execute("balloon", {"value": new * MIB})
        raise DeadlineExceeded(
            f"the guest has {new} MiB after {timeout:g} s, not the {memory_mb} MiB asked for",
            option="memory_mb",
            wanted=memory_mb,
            answer=f"the balloon leaves it {new} MiB",
            fix="The guest needs the virtio_balloon driver, and that much free memory to give it back.",
        )
    return MemoryResize(old, new, "balloon")


@dataclasses.dataclass(frozen=True)
class Dimm:
    """A memory module that was plugged in; `slot` names it."""

    slot: int
    size_mb: int


def dimms(qmp: QmpClient) -> list[Dimm]:
    """The memory modules of ours that are plugged in, in the order of their slots."""
    found = []
    for device in qmp.execute("query-memory-devices"):
        data = device.get("data") or {}
        if device.get("type") == "dimm" and data.get("id") == f"dimmmem{data.get('slot')}":
            found.append(Dimm(int(data["slot"]), int(data["size"]) // MIB))
    return sorted(found, key=lambda dimm: dimm.slot)


def described_dimms(qmp: QmpClient) -> list[dict[str, Any]]:
    """What a VM that takes over this one's memory must be started with: slot, size and address of each module."""
    wanted = {f"dimmmem{dimm.slot}" for dimm in dimms(qmp)}
    modules = [device["data"] for device in qmp.execute("query-memory-devices") if device["data"].get("id") in wanted]
    return [{"slot": int(data["slot"]), "size": int(data["size"]), "addr": int(data["addr"])} for data in modules]


def described_files(qmp: QmpClient) -> dict[str, dict[str, int]]:
    """Where the files lie that are in the guest's memory map, by their devices: what a VM that takes its state over must say."""
    found = {}
    for device in qmp.execute("query-memory-devices"):
        data = device["data"]
        if "id" not in data:
            continue  # All of ours have one.
        if device["type"] == "nvdimm":
            found[data["id"]] = {"addr": int(data["addr"]), "slot": int(data["slot"])}
        elif device["type"] == "virtio-pmem":
            found[data["id"]] = {"memaddr": int(data["memaddr"])}
    return found


def resize_dimms(qmp: QmpClient, state: QemuState, memory_mb: int) -> MemoryResize:
    """Plug one memory module of the missing size, or unplug those that can be, last first.

    :raises Unsupported: no modules make up the difference
    """
    old = plugged_memory_mb(qmp, state)
    if memory_mb > old:
        _plug_dimm(qmp, memory_mb - old, state.shared_memory)
    for dimm in surplus_dimms(qmp, state, memory_mb):
        remove_device(qmp, f"dimmmem{dimm.slot}")
        qmp.execute("object-del", {"id": f"mem{dimm.slot}"})
    return MemoryResize(old, plugged_memory_mb(qmp, state), "pc-dimm")


def _plug_dimm(qmp: QmpClient, size_mb: int, shared: bool) -> None:
    used = {(device.get("data") or {}).get("slot") for device in qmp.execute("query-memory-devices")}
    slot = next(number for number in range(len(used) + 1) if number not in used)
    with contextlib.suppress(QmpError):
        # A backend without a module is what an attempt that was killed half-way left.
        qmp.execute("object-del", {"id": f"mem{slot}"})
    # Other processes that serve the VM's devices must see this memory too.
    backend = {"qom-type": "memory-backend-memfd", "share": True} if shared else {"qom-type": "memory-backend-ram"}
    qmp.execute("object-add", {**backend, "id": f"mem{slot}", "size": size_mb * MIB})
    try:
        qmp.execute("device_add", {"driver": "pc-dimm", "id": f"dimmmem{slot}", "memdev": f"mem{slot}"})
    except VmmError:
        qmp.execute("object-del", {"id": f"mem{slot}"})
        raise


def surplus_dimms(qmp: QmpClient, state: QemuState, memory_mb: int) -> list[Dimm]:
    """The modules to unplug for a VM that shall have so much memory, last first.

    :raises Unsupported: no whole modules make up the difference
    """
    plugged = dimms(qmp)
    surplus = state.boot_memory_mb + sum(dimm.size_mb for dimm in plugged) - memory_mb
    chosen: list[Dimm] = []
    for dimm in reversed(plugged):
        if sum(one.size_mb for one in chosen) < surplus:
            chosen.append(dimm)
    if sum(one.size_mb for one in chosen) != max(surplus, 0):
        sizes = ", ".join(str(dimm.size_mb) for dimm in plugged) or "none"
        raise Unsupported(
            f"only whole modules can be unplugged, last first; plugged are {sizes} (MiB)",
            option="memory_mb",
            wanted=memory_mb,
            fix="Restart it (disruption: restart), or use memory_hotplug virtio-mem.",
        )
    return chosen


def resize_vcpus(vmm: Vmm, vcpus: int, maximum: int) -> VcpuResize:
    """Bring the VM to `vcpus`: plug, unplug, or have the guest stop and start using those that are plugged.

    :raises ConfigError: more than the VM was made for
    :raises Unsupported: fewer, under TCG and without a guest agent: QEMU's TCG does not survive the removal of a vCPU
    """
    qmp, state = vmm.qmp(), vmm.state
    plugged = plugged_vcpus(qmp)
    old = plugged - vmm.offline_vcpus()
    if vcpus > maximum:
        raise ConfigError(
            f"this VM has room for {maximum} vCPUs",
            option="vcpus",
            wanted=vcpus,
            fix="Recreate it with more max_vcpus.",
        )
    if vcpus == old:
        return VcpuResize(old, old)
    if vcpus < old and vmm.unplugs_vcpus() and not state.offline_vcpus:
        return VcpuResize(old, unplug_vcpus(qmp, old - vcpus), how="unplug")
    how = "guest-offline" if vcpus < old else "guest-online"
    if vcpus > plugged:
        plugged, how = plug_vcpus(qmp, vcpus - plugged), "hotplug"
    if not has_agent(qmp):
        if how == "hotplug" and not state.offline_vcpus:
            return VcpuResize(old, plugged, how=how)
        raise Unsupported(
            f"this VM cannot come from {old} to {vcpus} vCPUs without an agent in the guest: "
            + (
                "its machine type gives no vCPU back"
                if state.keeps_vcpus
                else "QEMU does not survive the removal of a vCPU under TCG"
            ),
            option="vcpus",
            wanted=vcpus,
            fix="Run the QEMU guest agent in the guest, or restart it (disruption: restart).",
        )
    online = _use_vcpus(vmm, vcpus)
    # Those that the guest does not take are offline too, so that no later task takes them for vCPUs in use.
    state.offline_vcpus, state.offline_since = plugged - online, time.time_ns() // 1000
    if online != vcpus:
        vmm.context.checkpoint()
        raise DeadlineExceeded(
            f"the guest uses {online} vCPUs, not {vcpus}",
            option="vcpus",
            wanted=vcpus,
            fix="Restart it with that number (state: restarted). Without KVM, newer Linux kernels take no vCPUs while they run (docs/resize.md).",
        )
    return VcpuResize(old, vcpus, online, how)


def _use_vcpus(vmm: Vmm, vcpus: int) -> int:
    """Have the guest use that many of its vCPUs; it may take a moment to see those that were just plugged. Returns how many it uses."""
    from ...guest.agent import GuestAgent, set_online_vcpus

    deadline = time.monotonic() + GUEST_SECONDS
    with GuestAgent(vmm.agent_way(), GUEST_SECONDS) as agent:
        online = set_online_vcpus(agent, vcpus)
        while online != vcpus and time.monotonic() < deadline:
            time.sleep(0.1)
            online = set_online_vcpus(agent, vcpus)
    return online
