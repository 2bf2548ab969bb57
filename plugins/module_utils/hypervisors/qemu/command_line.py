# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration to command line. Pure: nothing of the host is read here, nothing is started.

A function an element of the machine; `command_line` puts them in order.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError
from ...host.units import MIB
from ...options.config import HypervisorConfig
from ...options.kernel_params import Param, serialize_params
from .arguments import SERVER_SOCKET, Argument, Dialect, Scalar, render
from .bridges import ROOT_PORT, Bridge
from .kernel_params import kernel_parameters
from .machines import X86_64, Machine
from .names import AGENT_PORT, channel_port

if TYPE_CHECKING:
    from .devices.objects import QemuObject

#: What a bridge without a hotplug controller of its own must reserve, or the guest cannot place a hot-added device behind it.
BRIDGE_WINDOW = {"io-reserve": 4096, "mem-reserve": MIB, "pref64-reserve": MIB}
#: QEMU confines itself: no new privileges, no programs, no scheduling of others, no obsolete system calls.
SECCOMP = {"obsolete": "deny", "elevateprivileges": "deny", "spawn": "deny", "resourcecontrol": "deny"}
MEMORY_ID = "dimm1"
VIRTIO_MEM_ID = "vmem0"
#: MiB that a virtio-mem device's size, and what is plugged of it, are a multiple of.
VIRTIO_MEM_BLOCK_MB = 2
BALLOON_ID = "balloon0"
#: Drivers that put the image into the guest's memory map, and what its length must be a multiple of, bytes.
IMAGE_AS_MEMORY = ("nvdimm", "virtio-pmem")
IMAGE_MEMORY_BLOCK = 2 * MIB
#: The ids of the root image, or of the root disk, in QEMU: what the guest has, what it is read from, and the image below a root disk.
IMAGE_DEVICE, IMAGE_NODE, BASE_NODE = "image0", "image", "image-base"
#: A SCSI id that the disks of tasks, which count from 0, do not come to.
IMAGE_SCSI_ID = 255
#: The nodes of a firmware that is a flash memory.
FLASH_CODE, FLASH_VARS = "firmware-code", "firmware-vars"


@dataclasses.dataclass
class VmPlan:
    """All that a command line is made from, resolved.

    :param sandbox_id: shown as the guest's name
    :param accelerator: kvm or tcg
    :param host_khz: the host's TSC frequency, kHz
    :param monitor_fds: listening sockets for the two monitors (control, observers)
    :param console_fd: listening socket of the serial console
    :param console_log: file that keeps what the guest prints
    :param agent_fd: listening socket of the guest agent's port
    :param events: QEMU takes commands from this path with `.in`, and writes events to this path with `.out`; empty for none
    :param channels: for each port for data, the path of its two pipes without their ending
    :param image_partitioned: the image starts with a partition table
    :param image_size: bytes
    :param image_fd: the image, opened; -1 where QEMU opens it by its path
    :param firmware_fds: the firmware's code and the sandbox's copy of its variables, opened
    :param firmware_vars: path of that copy
    :param root_disk_fd: the root disk, opened; likewise
    :param becomes: uid and gid that QEMU takes before the guest runs, `UID:GID`; empty where it has them from its start
    :param reads_privately: this QEMU opens a file for reading only whose pages the guest gets as copies
    :param run_with: this QEMU takes that with -run-with; -runas is deprecated from 9.1 on
    :param image_mapped: the guest can map the image instead of reading it
    :param incoming: the state comes from elsewhere
    :param hotplugged_vcpus: properties of the vCPUs plugged in before (a restore needs the same)
    :param objects: of the devices that are there from the start
    :param shared_memory: other processes serve some of them
    :param generation_id: the guest can be told that it is a copy of another one
    :param dimms: slot, size and address (bytes) of the memory modules plugged in before
    """

    sandbox_id: str
    uuid: str
    config: HypervisorConfig
    machine: Machine
    accelerator: str
    pidfile: str
    console_log: str
    bridges: list[Bridge]
    monitor_fds: tuple[int, int] = (-1, -1)
    console_fd: int = -1
    agent_fd: int = -1
    events: str = ""
    channels: tuple[str, ...] = ()
    host_khz: int = 0
    image_partitioned: bool = False
    image_size: int = 0
    image_fd: int = -1
    firmware_fds: tuple[int, int] = (-1, -1)
    firmware_vars: str = ""
    root_disk_fd: int = -1
    becomes: str = ""
    run_with: bool = False
    reads_privately: bool = False
    image_mapped: bool = False
    incoming: bool = False
    hotplugged_vcpus: list[dict[str, Scalar]] = dataclasses.field(default_factory=list)
    dimms: list[dict[str, int]] = dataclasses.field(default_factory=list)
    objects: list[QemuObject] = dataclasses.field(default_factory=list)
    shared_memory: bool = False
    generation_id: bool = False


def command_line(plan: VmPlan, dialect: Dialect) -> list[str]:
    """The words after the program."""
    config = plan.config
    arguments = [
        Argument("name", None, {"guest": plan.sandbox_id, "debug-threads": True}),
        Argument("uuid", plan.uuid),
        machine(plan),
        Argument("cpu", cpu_model(plan)),
        *monitors(plan),
        memory(plan),
        *main_memory(plan),
        *smp(plan),
        *bridge_devices(plan),
        *serial_console(plan),
        *agent_channel(plan),
        *data_channels(plan),
        *flash(plan),
        *image(plan),
        *scsi_controller(plan),
        *entropy(plan),
        *virtio_mem(plan),
        *balloon(plan),
        *panic_notifier(plan),
        *generation_id(plan),
        *[one.argument() for one in plan.objects],
        Argument("rtc", None, {"base": "utc"}),
        *timer(plan),
        Argument("vga", "none"),
        Argument("display", "none"),
        Argument("no-user-config"),
        Argument("nodefaults"),
        *([] if config.reboots else [Argument("no-reboot")]),
        Argument("overcommit", None, {"mem-lock": config.realtime and config.mlock}),
        *user(plan),
        *boot(plan),
        *([Argument("incoming", "defer")] if plan.incoming else []),
        Argument("S"),
        Argument("pidfile", plan.pidfile),
        *plugged_before(plan),
    ]
    return render(arguments, dialect)


def machine(plan: VmPlan) -> Argument:
    """-machine: type, accelerator, memory backend, and the user's own words."""
    properties: dict[str, Scalar | None] = {
        **plan.machine.options,
        "accel": plan.accelerator,
        "memory-backend": MEMORY_ID,
    }
    if plan.accelerator == "kvm":
        properties["kernel-irqchip"] = True
    image_is_nvdimm = image_driver(plan.config) == "nvdimm" and plan.config.image_path
    has_nvdimms = plan.config.mem_offset or any(one.type == "nvdimm" for one in plan.objects)
    if image_is_nvdimm or (has_nvdimms and "nvdimm" in plan.machine.image_drivers):
        properties["nvdimm"] = True
    if plan.config.firmware_vars_path:
        properties.update({"pflash0": FLASH_CODE, "pflash1": FLASH_VARS})
    for word in filter(None, (word.strip() for word in plan.config.machine_accelerators.split(","))):
        key, _equals, value = word.partition("=")
        properties[key] = value or "on"
    return Argument("machine", plan.machine.name, properties)


def cpu_model(plan: VmPlan) -> str:
    """-cpu: the user's model, else all that the accelerator can give."""
    return plan.config.cpu_model or ("host" if plan.accelerator == "kvm" else plan.machine.architecture.cpu)


def timer(plan: VmPlan) -> list[Argument]:
    """A PC's timer under KVM does not make up for ticks that the guest has missed."""
    if plan.accelerator != "kvm" or plan.machine.architecture is not X86_64:
        return []
    return [Argument("global", None, {"kvm-pit.lost_tick_policy": "discard"})]


def monitors(plan: VmPlan) -> list[Argument]:
    """Two monitors, since QEMU serves one client on each: one to control, one to look."""
    arguments = []
    for name, descriptor in zip(("control", "observer"), plan.monitor_fds):
        arguments.append(Argument("chardev", "socket", {"id": name, "fd": descriptor, **SERVER_SOCKET}))
        arguments.append(Argument("mon", None, {"chardev": name, "mode": "control"}))
    if plan.events:
        # A pipe may be two files as well. What QEMU reads there switches events on; what it writes tells how the VM ended, though nobody listens.
        arguments += [
            Argument("chardev", "pipe", {"id": "events", "path": plan.events}),
            Argument("mon", None, {"chardev": "events", "mode": "control"}),
        ]
    return arguments


def boot_memory_mb(config: HypervisorConfig) -> int:
    """MiB that the VM has from its start; a balloon holds what of it the guest shall not have yet."""
    return max(config.memory_size, config.max_memory_mb) if config.memory_hotplug == "balloon" else config.memory_size


def grows(plan: VmPlan) -> bool:
    """Can memory be added to what the VM has from its start?"""
    config = plan.config
    return config.memory_hotplug in plan.machine.memory and config.max_memory_mb > config.memory_size


def memory(plan: VmPlan) -> Argument:
    """-m: what it boots with, and the room for what comes beside it."""
    config = plan.config
    room = 0
    if grows(plan):
        # Devices in the hotplug region are aligned to 1 GiB at worst, so each gets that much room beside its size.
        room = config.max_memory_mb - config.memory_size + 1024
    if config.image_path and image_driver(config) in IMAGE_AS_MEMORY:
        room += plan.image_size // MIB + 1024
    room += sum(one.properties["size"] // MIB + 1024 for one in plan.objects if one.type == "memory-backend-file")
    properties: dict[str, Scalar] = {}
    size = boot_memory_mb(config)
    if room or config.mem_offset:
        properties = {"slots": config.mem_slots, "maxmem": f"{size + room + config.mem_offset}M"}
    return Argument("m", f"{size}M", properties)


def main_memory(plan: VmPlan) -> list[Argument]:
    """The memory backend that the guest boots with."""
    config = plan.config
    properties: dict[str, Scalar] = {"id": MEMORY_ID, "size": boot_memory_mb(config) * MIB}
    kind = "memory-backend-ram"
    if config.boot_to_be_template or config.boot_from_template:
        kind = "memory-backend-file"
        properties["mem-path"] = config.memory_path
        properties["share"] = config.boot_to_be_template
        if config.boot_from_template:
            properties.update(_copied(plan))
    elif config.huge_pages:
        kind = "memory-backend-file"
        properties["mem-path"] = "/dev/hugepages"
        properties["share"] = plan.shared_memory or bool(config.file_backed_mem_root_dir)
    elif config.file_backed_mem_root_dir:
        kind = "memory-backend-file"
        properties["mem-path"] = config.file_backed_mem_root_dir
        properties["share"] = True
    elif plan.shared_memory:
        kind = "memory-backend-memfd"
        properties["share"] = True
    if config.mem_prealloc:
        properties["prealloc"] = True
    return [Argument("object", kind, properties)]


def smp(plan: VmPlan) -> list[Argument]:
    """-smp: a socket a vCPU, so that each can be plugged by itself."""
    config = plan.config
    most = config.default_max_vcpus if plan.machine.vcpu_hotplug else config.num_vcpus
    return [
        Argument("smp", str(config.num_vcpus), {"cores": 1, "threads": 1, "sockets": most, "maxcpus": most}),
    ]


def bridge_devices(plan: VmPlan) -> list[Argument]:
    """The bridges and root ports that hot-added devices go behind."""
    arguments = []
    for number, bridge in enumerate(plan.bridges):
        properties: dict[str, Scalar] = {"bus": plan.machine.root_bus, "id": bridge.id, "addr": f"{bridge.address:x}"}
        if bridge.type == "pci":
            properties.update({"chassis_nr": number + 1, "shpc": True, **BRIDGE_WINDOW})
            arguments.append(Argument("device", "pci-bridge", properties))
        elif bridge.type == ROOT_PORT:
            properties.update({"chassis": number + 1, "slot": number + 1})
            arguments.append(Argument("device", ROOT_PORT, properties))
        else:
            arguments.append(Argument("device", "pcie-pci-bridge", properties))
    return arguments


def virtio(plan: VmPlan, kind: str) -> str:
    """The name of a virtio device on this machine's transport."""
    return f"{kind}-{plan.machine.transport}"


def serial_console(plan: VmPlan) -> list[Argument]:
    """The machine's own serial line: a socket to talk to, and a log that keeps what was printed while nobody listened."""
    return [
        Argument(
            "chardev",
            "socket",
            {
                "id": "console",
                "fd": plan.console_fd,
                **SERVER_SOCKET,
                "logfile": plan.console_log,
                "logappend": True,
            },
        ),
        Argument("serial", "chardev:console"),
    ]


def agent_channel(plan: VmPlan) -> list[Argument]:
    """The port that the QEMU guest agent listens on."""
    return [
        Argument("chardev", "socket", {"id": "agent", "fd": plan.agent_fd, **SERVER_SOCKET}),
        Argument("device", virtio(plan, "virtio-serial"), {"id": "serial0"}),
        Argument(
            "device", "virtserialport", {"bus": "serial0.0", "chardev": "agent", "id": "agent0", "name": AGENT_PORT}
        ),
    ]


def data_channels(plan: VmPlan) -> list[Argument]:
    """Ports for data, beside the agent's. A pipe is never closed, so a program of the guest can wait for a byte without asking again and again."""
    arguments = []
    for number, path in enumerate(plan.channels):
        name = f"channel{number}"
        arguments += [
            Argument("chardev", "pipe", {"id": name, "path": path}),
            Argument(
                "device",
                "virtserialport",
                {"bus": "serial0.0", "chardev": name, "id": f"port-{name}", "name": channel_port(number)},
            ),
        ]
    return arguments


def flash(plan: VmPlan) -> list[Argument]:
    """A firmware in flash memory: its code, which all sandboxes share and none can write to, and this sandbox's copy of its variables."""
    if not plan.config.firmware_vars_path:
        return []
    arguments = []
    for node, path, descriptor, read_only in (
        (FLASH_CODE, plan.config.firmware_path, plan.firmware_fds[0], True),
        (FLASH_VARS, plan.firmware_vars, plan.firmware_fds[1], False),
    ):
        name = path
        if descriptor >= 0:
            name = f"/dev/fdset/{descriptor}"
            arguments.append(
                Argument("add-fd", None, {"fd": descriptor, "set": descriptor, "opaque": f"{node} {path}"})
            )
        file = {"driver": "file", "filename": name, "read-only": read_only}
        arguments.append(Argument("blockdev", "raw", {"node-name": node, "read-only": read_only, "file": file}))
    return arguments


def image_driver(config: HypervisorConfig) -> str:
    """How the image reaches the guest."""
    return config.image_driver or "virtio-blk"


def image(plan: VmPlan) -> list[Argument]:
    """The root image, read-only: many sandboxes share one file. Its format is told, never probed. With a root disk, the guest has that one instead."""
    config = plan.config
    if not config.image_path or config.initrd_path:
        return []
    driver = image_driver(config)
    if driver in IMAGE_AS_MEMORY:
        return _image_as_memory(plan, driver)
    nodes = _root_disk(plan) if config.root_disk_path else _image_node(plan, IMAGE_NODE)
    # The firmware tries this disk first.
    first = {"bootindex": 0} if config.boots_firmware else {}
    if driver == "virtio-scsi":
        disk = Argument(
            "device",
            "scsi-hd",
            {"id": IMAGE_DEVICE, "drive": IMAGE_NODE, "bus": "scsi0.0", "scsi-id": IMAGE_SCSI_ID, "lun": 0, **first},
        )
        return [*nodes, *_scsi_bus(plan), disk]
    return [*nodes, Argument("device", virtio(plan, "virtio-blk"), {"id": IMAGE_DEVICE, "drive": IMAGE_NODE, **first})]


def _image_node(plan: VmPlan, name: str) -> list[Argument]:
    """The image as a node that nobody writes to."""
    config = plan.config
    file, handed = _file(config.image_path, plan.image_fd, "image")
    file["read-only"] = True
    node = Argument("blockdev", config.image_format or "raw", {"node-name": name, "read-only": True, "file": file})
    if node.head != "raw":
        # Whatever the header names is not opened.
        node.properties["backing"] = None
    return [*handed, node]


def _root_disk(plan: VmPlan) -> list[Argument]:
    """The root disk, which the guest writes to. Below one in the format qcow2 lies the image; whatever its header names is not opened."""
    config = plan.config
    file, handed = _file(config.root_disk_path, plan.root_disk_fd, "root")
    node = Argument(
        "blockdev",
        config.root_disk_format,
        {"node-name": IMAGE_NODE, "discard": "unmap", "file": {**file, "discard": "unmap"}},
    )
    if config.root_disk_format != "qcow2":
        return [*handed, node]
    node.properties["backing"] = BASE_NODE
    return [*_image_node(plan, BASE_NODE), *handed, node]


def _file(path: str, descriptor: int, what: str) -> tuple[dict[str, Any], list[Argument]]:
    """A file of a node, and the argument that hands its descriptor to QEMU.

    :param descriptor: -1 where QEMU opens the file by its path
    """
    if descriptor < 0:
        return {"driver": "file", "filename": path}, []
    handed = Argument("add-fd", None, {"fd": descriptor, "set": descriptor, "opaque": f"{what} {path}"})
    return {"driver": "file", "filename": f"/dev/fdset/{descriptor}"}, [handed]


def _image_as_memory(plan: VmPlan, driver: str) -> list[Argument]:
    """An image in the guest's memory map: the host's page cache is the guest's. What a guest writes never reaches the file.

    :raises ConfigError: its format or its length will not do
    """
    config = plan.config
    if (config.image_format or "raw") != "raw":
        raise ConfigError(f"an image on {driver} must be raw", option="image_format", wanted=config.image_format)
    if plan.image_size % IMAGE_MEMORY_BLOCK:
        raise ConfigError(
            f"an image on {driver} must be a multiple of 2 MiB long, and this has {plan.image_size} bytes",
            option="image_path",
            wanted=config.image_path,
            fix="Lengthen it with truncate, or choose image_driver virtio-blk.",
        )
    backend = {"id": "image-memory", "mem-path": config.image_path, "size": plan.image_size, "share": False}
    front: dict[str, Scalar] = {"id": "image0", "memdev": "image-memory"}
    if driver == "nvdimm":
        backend["readonly"] = True
        front["unarmed"] = True
    else:
        backend.update(_copied(plan))
    name = "nvdimm" if driver == "nvdimm" else "virtio-pmem-pci"
    return [Argument("object", "memory-backend-file", backend), Argument("device", name, front)]


def _copied(plan: VmPlan) -> dict[str, Scalar]:
    """What has a file opened for reading only that the guest writes copies of. A QEMU that its guest took over cannot write to it then."""
    return {"readonly": True, "rom": "off"} if plan.reads_privately else {}


def scsi_controller(plan: VmPlan) -> list[Argument]:
    """The controller that SCSI disks are plugged into, where the image has not brought it already."""
    if plan.config.block_device_driver != "virtio-scsi" or (
        plan.config.image_path and image_driver(plan.config) == "virtio-scsi"
    ):
        return []
    return _scsi_bus(plan)


def _scsi_bus(plan: VmPlan) -> list[Argument]:
    properties: dict[str, Scalar] = {"id": "scsi0"}
    if plan.config.enable_iothreads:
        properties["iothread"] = "iothread0"
    iothread = [Argument("object", "iothread", {"id": "iothread0"})] if plan.config.enable_iothreads else []
    return [*iothread, Argument("device", virtio(plan, "virtio-scsi"), properties)]


def entropy(plan: VmPlan) -> list[Argument]:
    """Randomness for the guest."""
    if not plan.config.entropy_source:
        return []
    return [
        Argument("object", "rng-random", {"id": "rng0", "filename": plan.config.entropy_source}),
        Argument("device", virtio(plan, "virtio-rng"), {"id": "rng-device0", "rng": "rng0"}),
    ]


def virtio_mem(plan: VmPlan) -> list[Argument]:
    """The device that memory grows and shrinks with, empty at the start."""
    if plan.config.memory_hotplug != "virtio-mem" or not grows(plan):
        return []
    size = (plan.config.max_memory_mb - plan.config.memory_size) * MIB
    backend: dict[str, Scalar] = {"id": "vmem-backend0", "size": size}
    if plan.shared_memory:
        backend["share"] = True
    return [
        Argument("object", "memory-backend-memfd" if plan.shared_memory else "memory-backend-ram", backend),
        Argument("device", "virtio-mem-pci", {"id": VIRTIO_MEM_ID, "memdev": "vmem-backend0", "requested-size": 0}),
    ]


def balloon(plan: VmPlan) -> list[Argument]:
    """The device by which the guest gives memory back; it takes it again by itself before it would have to kill a program."""
    if plan.config.memory_hotplug != "balloon":
        return []
    return [Argument("device", virtio(plan, "virtio-balloon"), {"id": BALLOON_ID, "deflate-on-oom": True})]


def plugged_before(plan: VmPlan) -> list[Argument]:
    """What was plugged in while the VM ran and must be there again to take its state over."""
    arguments = []
    for cpu in plan.hotplugged_vcpus:
        arguments.append(
            Argument("device", str(cpu["driver"]), {key: value for key, value in cpu.items() if key != "driver"})
        )
    for dimm in plan.dimms:
        backend = f"mem{dimm['slot']}"
        kind, shared = ("memory-backend-memfd", {"share": True}) if plan.shared_memory else ("memory-backend-ram", {})
        arguments.append(Argument("object", kind, {"id": backend, "size": dimm["size"], **shared}))
        place = {"id": f"dimm{backend}", "memdev": backend, "slot": dimm["slot"], "addr": dimm["addr"]}
        arguments.append(Argument("device", "pc-dimm", place))
    return arguments


def panic_notifier(plan: VmPlan) -> list[Argument]:
    """Where the machine has a device for it, a panic is told from a reboot."""
    return [Argument("device", plan.machine.panic_device, {"id": "panic0"})] if plan.machine.panic_device else []


def generation_id(plan: VmPlan) -> list[Argument]:
    """A new number in each clone of a template, at which its kernel draws new randomness (QEMU's docs/specs/vmgenid)."""
    if not plan.generation_id or not plan.machine.generation_id:
        return []
    return [Argument("device", "vmgenid", {"id": "generation0", "guid": "auto"})]


def root_parameters(plan: VmPlan) -> list[Param]:
    """Where the guest finds its root file system."""
    if not plan.config.image_path or plan.config.initrd_path or plan.config.boots_firmware:
        return []
    disk, separator = {"virtio-blk": ("vda", ""), "virtio-scsi": ("sda", "")}.get(
        image_driver(plan.config), ("pmem0", "p")
    )
    device = f"/dev/{disk}{separator}1" if plan.image_partitioned else f"/dev/{disk}"
    mapped = [Param("rootflags", "dax")] if plan.image_mapped else []
    mode = Param("rw" if plan.config.root_disk_path else "ro")
    return [Param("root", device), *mapped, mode, Param("rootfstype", "ext4"), Param("rootwait")]


def kernel_parameters_of(plan: VmPlan) -> list[Param]:
    """All parameters of the guest's kernel; the user's own come last and win."""
    config = plan.config
    parameters = kernel_parameters(
        plan.machine.architecture, plan.accelerator, plan.host_khz, config.debug, config.reboots
    )
    if plan.machine.reboot:
        parameters = [Param("reboot", plan.machine.reboot) if one.key == "reboot" else one for one in parameters]
    if config.default_max_vcpus:
        parameters.append(Param("nr_cpus", str(config.default_max_vcpus)))
    return parameters + root_parameters(plan) + config.kernel_params


def kernel_command_line(plan: VmPlan) -> str:
    """The guest kernel's command line.

    :raises ConfigError: it is longer than a guest starts with
    """
    architecture = plan.machine.architecture
    line = " ".join(serialize_params(kernel_parameters_of(plan), "="))
    if len(line.encode()) > architecture.max_command_line:
        raise ConfigError(
            f"the kernel command line has {len(line.encode())} bytes, and a guest starts with {architecture.max_command_line} at most",
            option="kernel_params",
        )
    return line


def user(plan: VmPlan) -> list[Argument]:
    """What QEMU may still do. One that becomes another user by itself cannot be denied to; it has no privileges after that."""
    if not plan.becomes:
        return [Argument("sandbox", "on", dict(SECCOMP))]
    filters = {name: value for name, value in SECCOMP.items() if name != "elevateprivileges"}
    become = Argument("run-with", None, {"user": plan.becomes}) if plan.run_with else Argument("runas", plan.becomes)
    return [Argument("sandbox", "on", filters), become]


def boot(plan: VmPlan) -> list[Argument]:
    """Kernel, initrd, command line and firmware."""
    config = plan.config
    rom = [Argument("bios", config.firmware_path)] if config.firmware_path and not config.firmware_vars_path else []
    # A clone's kernel is in its memory already; QEMU would keep another copy.
    if config.boot_from_template or config.boots_firmware:
        return rom
    arguments = [Argument("kernel", config.kernel_path)]
    initrd = config.initrd_path or config.initramfs_path
    if initrd:
        arguments.append(Argument("initrd", initrd))
    arguments.append(Argument("append", kernel_command_line(plan)))
    return arguments + rom
