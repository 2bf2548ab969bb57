# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the original, for QEMU before 5.2: the same elements as `cmdline.py`, in its order and its dialect.

Nothing is escaped there. What a device cannot be made from (a missing path or id) is left out without a word, as the original does:
this machine is for comparison, the driver itself refuses such devices.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from typing import Any, Callable

from ....errors import AssetError, ConfigError, Unsupported
from ....options.config import HypervisorConfig
from ....options.devices import (
    MAX_NAME_ID,
    BlockDrive,
    Device,
    NetworkDevice,
    SerialPort,
    VfioDevice,
    VhostUserDevice,
    Volume,
    Vsock,
    make_name_id,
)
from ....options.kernel_params import kernel_params_string
from ....records.layout import socket_path
from ..arguments import CLASSIC, Argument, render
from .arch import ClassicArchitecture, kernel_parameters

RUN_ROOT = "/run/vc/vm"
SHARE_ROOT = "/run/kata-containers/shared/sandboxes"
MEMORY_ID = "dimm1"
SHARED_MEMORY_DIR = "/dev/shm"  # noqa: S108 - it is memory, not a place for temporary files
SERVER = {"server": None, "nowait": None}
MIN_CID, MAX_CID = 3, (1 << 32) - 1
#: Descriptors a child inherits are numbered from here.
FIRST_FD = 3
#: Internetworking models whose NICs exist only with descriptors.
MACVTAP_MODELS = ("bridged", "macvtap")
#: Kinds of interfaces that get a tap of their own, and those that are one.
TAPPED_KINDS = ("veth", "bridged_macvlan", "ipvlan")


@dataclasses.dataclass(frozen=True)
class HostFacts:
    """What the original looks at on the host.

    :param file_size: bytes of a file, None when there is none; of a directory any number
    :param nested: the host is a virtual machine itself
    :param random_id: sixteen random hexadecimal digits
    """

    memory_mb: int
    nested: bool
    file_size: Callable[[str], int | None]
    uuid: str
    random_id: Callable[[], str]


class ClassicMachine:
    """A VM as the original builds it: made from a configuration, given devices, turned into a command line.

    :raises ConfigError: an option is missing, contradictory or unknown
    :raises AssetError: QEMU or the image is not there
    """

    def __init__(
        self, sandbox_id: str, config: HypervisorConfig, architecture: ClassicArchitecture, host: HostFacts
    ) -> None:
        config.valid(architecture.max_vcpus)
        self.sandbox_id = sandbox_id
        self.config = copy.deepcopy(config)
        self.architecture = architecture
        self.host = host
        self.machine_type = architecture.machine(config.hypervisor_machine_type)
        image = config.image_asset_path() if not config.initrd_asset_path() else ""
        #: NVDIMMs that the guest has, one for the image on every architecture.
        self.nvdimms = 1 if image else 0
        self.bridges = architecture.bridges(self.machine_type, config.default_bridges)
        self.nested = host.nested and not config.disable_nesting_checks
        self.machine = self._machine()
        self.kernel_command_line = kernel_params_string(kernel_parameters(self.config, architecture))
        self.memory_backend = self._memory_backend()
        self.qmp_socket = self._socket("qmp.sock")
        self.fds: list[int] = []
        #: To be closed after the launch: one a vsock, None where it came without a descriptor.
        self.kept_fds: list[int | None] = []
        self.nics = 0
        self.iothreads: list[Argument] = []
        self.devices = [
            *(self._bridge(number) for number in range(len(self.bridges))),
            *self._console(self._socket("console.sock")),
            *(self._image(image) if image else []),
            *(self._scsi_controller() if config.block_device_driver == "virtio-scsi" else []),
        ]
        self.binary = self._binary()
        self.devices += self._entropy()

    def add_device(self, device: Device) -> None:
        """Add a device to the command line.

        :raises Unsupported: the architecture cannot have it
        """
        if isinstance(device, Volume):
            self.devices += self._virtio_fs(device) if self.config.shared_fs == "virtio-fs" else self._volume(device)
        elif isinstance(device, SerialPort):
            self.devices += self._serial_port(device)
        elif isinstance(device, Vsock):
            self.devices += self._vsock(device)
        elif isinstance(device, BlockDrive):
            self.devices += self._block(device)
        elif isinstance(device, VhostUserDevice):
            self.devices += self._vhost_user(device)
        elif isinstance(device, VfioDevice):
            self.devices += self._vfio(device)
        elif isinstance(device, NetworkDevice):
            self.devices += self._network(device)

    def command_line(self) -> list[str]:
        """The words after the program.

        :raises ConfigError: there are more vCPUs than the maximum
        """
        config = self.config
        if config.num_vcpus > config.default_max_vcpus:
            raise ConfigError(
                f"there are more vCPUs than the maximum of {config.default_max_vcpus}",
                option="vcpus",
                wanted=config.num_vcpus,
                sandbox=self.sandbox_id,
            )
        template = config.boot_to_be_template or config.boot_from_template
        arguments = [
            Argument("name", f"sandbox-{self.sandbox_id}"),
            Argument("uuid", self.host.uuid),
            self.machine,
            Argument("cpu", self.architecture.cpu_model(self.nested, template)),
            Argument("qmp", f"unix:{self.qmp_socket}", dict(SERVER)),
            self._memory(),
            *self.devices,
            Argument("global", "kvm-pit.lost_tick_policy=discard"),
            Argument("vga", "none"),
            *(Argument(name) for name in ("no-user-config", "nodefaults", "nographic", "daemonize")),
            self.memory_backend,
            Argument("numa", "node", {"memdev": MEMORY_ID}),
            *self._realtime(),
            *self._boot(),
            *self.iothreads,
            *([Argument("S"), Argument("incoming", "defer")] if config.boot_from_template else []),
            Argument("pidfile", os.path.join(RUN_ROOT, self.sandbox_id, "pid")),
            Argument("smp", str(config.num_vcpus), self._topology()),
        ]
        return render(arguments, CLASSIC)

    def virtiofsd_command_line(self) -> list[str]:
        """The words after the program for the daemon that serves the shared directory."""
        options = (
            f"vhost_user_socket={self._socket('vhost-fs.sock')}",
            f"source={os.path.join(SHARE_ROOT, self.sandbox_id)}",
            f"cache={self.config.virtio_fs_cache}",
        )
        return [word for option in options for word in ("-o", option)] + ["-d" if self.config.debug else "-f"]

    # --- the machine -------------------------------------------------------------------------------------------------

    def _machine(self) -> Argument:
        options = self.architecture.machine_options(self.machine_type)
        own = self.config.machine_accelerators
        if own:
            options[own[1:] if own.startswith(",") else own] = None
        return Argument("machine", self.machine_type, options)

    def _binary(self) -> str:
        path = self.config.hypervisor_asset_path() or self.architecture.binary(self.machine_type)
        if self.host.file_size(path) is None:
            raise AssetError("there is no QEMU", option="hypervisor_path", wanted=path)
        return path

    def _memory(self) -> Argument:
        slots = self.config.mem_slots % 256
        most = self.architecture.max_memory_mb(self.host.memory_mb, self.config.mem_offset)
        return Argument(
            "m", f"{self.config.memory_size}M", {**({"slots": slots} if slots else {}), "maxmem": f"{most}M"}
        )

    def _topology(self) -> dict[str, Any]:
        most = self.config.default_max_vcpus
        return {"cores": 1, "threads": 1, "sockets": most, "maxcpus": most}

    def _memory_backend(self) -> Argument:
        config = self.config
        path, share = "", False
        if config.boot_to_be_template or config.boot_from_template:
            path, share = config.memory_path, config.boot_to_be_template
        if config.shared_fs == "virtio-fs" or config.file_backed_mem_root_dir:
            if path:
                raise ConfigError("a template can have neither virtio-fs nor file-backed memory", option="shared_fs")
            directory = config.file_backed_mem_root_dir or SHARED_MEMORY_DIR
            if self.host.file_size(directory) is not None:
                path, share = directory, True
        if config.huge_pages:
            path = "/dev/hugepages"
        properties: dict[str, Any] = {"id": MEMORY_ID, "size": f"{config.memory_size}M"}
        if path:
            properties["mem-path"] = path
        if share:
            properties["share"] = True
        if config.mem_prealloc:
            properties["prealloc"] = True
        return Argument("object", "memory-backend-file" if path else "memory-backend-ram", properties)

    def _realtime(self) -> list[Argument]:
        if not self.config.realtime and self.config.mlock:
            return []
        return [Argument("realtime", None, {"mlock": self.config.mlock})]

    def _boot(self) -> list[Argument]:
        config = self.config
        files = (
            ("kernel", config.kernel_asset_path()),
            ("initrd", config.initrd_asset_path()),
            ("append", self.kernel_command_line),
            ("bios", config.firmware_asset_path()),
        )
        return [Argument(name, value) for name, value in files if value]

    def _socket(self, name: str) -> str:
        return socket_path(RUN_ROOT, self.sandbox_id, name)

    # --- devices -----------------------------------------------------------------------------------------------------

    def _virtio(self, kind: str) -> str:
        return f"{kind}-ccw" if self.architecture.ccw else f"{kind}-pci"

    def _modern(self) -> dict[str, Any]:
        return {} if self.architecture.ccw else {"disable-modern": "true" if self.nested else "false"}

    def _rom(self) -> dict[str, Any]:
        return {"devno": ""} if self.architecture.ccw else {"romfile": ""}

    def _pci_rom(self) -> dict[str, Any]:
        return {} if self.architecture.ccw else {"romfile": ""}

    def _bridge(self, number: int) -> Argument:
        bridge = self.bridges[number]
        place = {"bus": self.architecture.root_bus(self.machine_type), "id": bridge.id}
        address = {"addr": f"{bridge.address:x}", **self._pci_rom()}
        if bridge.type == "pcie":
            return Argument("device", "pcie-pci-bridge", {**place, **address})
        return Argument("device", "pci-bridge", {**place, "chassis_nr": number + 1, "shpc": True, **address})

    def _console(self, path: str) -> list[Argument]:
        return [
            Argument("device", self._virtio("virtio-serial"), {**self._modern(), "id": "serial0", **self._rom()}),
            Argument("device", "virtconsole", {"chardev": "charconsole0", "id": "console0"}),
            Argument("chardev", "socket", {"id": "charconsole0", "path": path, **SERVER}),
        ]

    def _image(self, path: str) -> list[Argument]:
        size = self.host.file_size(path)
        if size is None:
            raise AssetError("there is no image", option="image_path", wanted=path)
        if self.architecture.image_as == "virtio-blk":
            return self._block(BlockDrive(path, id=make_name_id("image", self.host.random_id())))
        if size == 0:
            return []
        return [
            Argument("device", "nvdimm", {"id": "nv0", "memdev": "mem0"}),
            Argument("object", "memory-backend-file", {"id": "mem0", "mem-path": path, "size": size}),
        ]

    def _scsi_controller(self) -> list[Argument]:
        thread: dict[str, Any] = {}
        if self.config.enable_iothreads:
            thread = {"iothread": make_name_id("iothread", self.host.random_id())}
            self.iothreads.append(Argument("object", "iothread", {"id": thread["iothread"]}))
        return [
            Argument("device", self._virtio("virtio-scsi"), {"id": "scsi0", **self._modern(), **thread, **self._rom()})
        ]

    def _entropy(self) -> list[Argument]:
        source = {"filename": self.config.entropy_source} if self.config.entropy_source else {}
        return [
            Argument("object", "rng-random", {"id": "rng0", **source}),
            Argument("device", "virtio-rng", {"rng": "rng0", **self._rom()}),
        ]

    def _serial_port(self, port: SerialPort) -> list[Argument]:
        chardev = port.id[:MAX_NAME_ID]
        if not chardev or not port.host_path:
            return []
        name = {"name": port.name} if port.name else {}
        return [
            Argument("device", "virtserialport", {"chardev": chardev, "id": port.device_id, **name}),
            Argument("chardev", "socket", {"id": chardev, "path": port.host_path, **SERVER}),
        ]

    def _vsock(self, vsock: Vsock) -> list[Argument]:
        descriptor = {}
        self.kept_fds.append(vsock.vhost_fd)
        if not MIN_CID <= vsock.context_id <= MAX_CID:
            return []
        if vsock.vhost_fd is not None:
            descriptor = {"vhostfd": self._inherit([vsock.vhost_fd])}
        place = {"id": f"vsock-{vsock.context_id}", "guest-cid": vsock.context_id}
        return [
            Argument("device", self._virtio("vhost-vsock"), {**self._modern(), **descriptor, **place, **self._rom()})
        ]

    def _volume(self, volume: Volume) -> list[Argument]:
        if not volume.mount_tag or not volume.host_path:
            return []
        identifier = make_name_id("extra-9p", volume.mount_tag)
        return [
            Argument(
                "device",
                self._virtio("virtio-9p"),
                {**self._modern(), "fsdev": identifier, "mount_tag": volume.mount_tag, **self._rom()},
            ),
            Argument("fsdev", "local", {"id": identifier, "path": volume.host_path, "security_model": "none"}),
        ]

    def _virtio_fs(self, volume: Volume) -> list[Argument]:
        served = VhostUserDevice(
            self.host.random_id(),
            self._socket("vhost-fs.sock"),
            "vhost-user-fs-pci",
            tag=volume.mount_tag,
            cache_size=self.config.virtio_fs_cache_size,
        )
        return self._vhost_user(served)

    def _block(self, drive: BlockDrive) -> list[Argument]:
        identifier = drive.id[:MAX_NAME_ID]
        if not drive.file or not identifier or not drive.format:
            return []
        return [
            Argument(
                "device",
                "virtio-blk",
                {**self._modern(), "drive": identifier, "scsi": False, "config-wce": False, **self._rom()},
            ),
            Argument(
                "drive",
                None,
                {"id": identifier, "file": drive.file, "aio": "threads", "format": drive.format, "if": "none"},
            ),
        ]

    def _vhost_user(self, served: VhostUserDevice) -> list[Argument]:
        if not self.architecture.vhost_user:
            raise Unsupported(
                f"No vhost-user devices supported on {self.architecture.name}",
                sandbox=self.sandbox_id,
                wanted=served.type,
            )
        chardev = make_name_id("char", served.dev_id)
        if not served.socket_path:
            return []
        arguments = [Argument("chardev", "socket", {"id": chardev, "path": served.socket_path})]
        if served.type == "vhost-user-scsi-pci":
            place = {"id": make_name_id("scsi", served.dev_id), "chardev": chardev}
            arguments.append(Argument("device", served.type, {**place, **self._pci_rom()}))
        elif served.type == "virtio-net-pci" and served.mac_address:
            netdev = make_name_id("net", served.dev_id)
            arguments.append(
                Argument("netdev", None, {"type": "vhost-user", "id": netdev, "chardev": chardev, "vhostforce": None})
            )
            place = {"netdev": netdev, "mac": served.mac_address}
            arguments.append(Argument("device", served.type, {**place, **self._pci_rom()}))
        elif served.type == "vhost-user-blk-pci":
            place = {"logical_block_size": "4096", "size": "512M", "chardev": chardev}
            arguments.append(Argument("device", served.type, {**place, **self._pci_rom()}))
        elif served.type == "vhost-user-fs-pci" and served.tag:
            place = {"chardev": chardev, "tag": served.tag, "cache-size": f"{served.cache_size}M"}
            arguments.append(Argument("device", served.type, place))
        else:
            return []
        return arguments

    def _vfio(self, device: VfioDevice) -> list[Argument]:
        if not device.bdf:
            return []
        ids = {"x-pci-vendor-id": device.vendor_id, "x-pci-device-id": device.device_id}
        given = {name: value for name, value in ids.items() if value and not self.architecture.ccw}
        return [Argument("device", self._virtio("vfio"), {"host": device.bdf, **given, **self._rom()})]

    def _network(self, nic: NetworkDevice) -> list[Argument]:
        if nic.kind in TAPPED_KINDS:
            interface, exists = nic.tap_name, bool(nic.vm_fds) or nic.model not in MACVTAP_MODELS
        elif nic.kind == "macvtap":
            interface, exists = nic.name, bool(nic.vm_fds)
        else:
            return []
        netdev = f"network-{self.nics}"
        self.nics += 1
        if not exists:
            return []
        backend: dict[str, Any] = {"id": netdev}
        if not self.config.disable_vhost_net:
            backend["vhost"] = True
            if nic.vhost_fds:
                backend["vhostfds"] = self._inherit(nic.vhost_fds)
        queues: dict[str, Any] = {}
        if nic.vm_fds:
            backend["fds"] = self._inherit(nic.vm_fds)
            queues = {"mq": True}
            if not self.architecture.ccw:
                queues["vectors"] = 2 * len(nic.vm_fds) + 2
        else:
            backend.update({"ifname": interface, "downscript": "no", "script": "no"})
        frontend = {"driver": self._virtio("virtio-net"), "netdev": netdev, "mac": nic.mac}
        return [
            Argument("netdev", "tap", backend),
            Argument("device", None, {**frontend, **self._modern(), **queues, **self._rom()}),
        ]

    def _inherit(self, descriptors: list[int]) -> str:
        """Let the child inherit descriptors; returns the numbers they have there."""
        first = FIRST_FD + len(self.fds)
        self.fds += descriptors
        return ":".join(str(first + number) for number in range(len(descriptors)))
