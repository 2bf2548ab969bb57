# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HypervisorConfig: every setting of a sandbox's VM, each declared once.

The fields and the validation are those of Kata Containers 1.x; the last group of fields is ours.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from ..errors import ConfigError
from ..host.digests import named_digest
from ..records.layout import clean_path
from .declarations import Cost, Option, option, options_of
from .kernel_params import Param, serialize_params, split_quoted_words

LIVE_VCPUS = {"qemu": Cost.LIVE, "firecracker": Cost.RESTART, "acrn": Cost.RESTART, "mock": Cost.LIVE}
LIVE_MEMORY = {**LIVE_VCPUS, "firecracker": Cost.LIVE}
QEMU = ("qemu", "mock")
QEMU_FIRECRACKER = ("qemu", "firecracker", "mock")
ACRN = ("acrn", "mock")
FIRECRACKER = ("firecracker", "mock")

#: What `HypervisorConfig.valid` fills in for zero and empty.
DEFAULTS: dict[str, Any] = {
    "num_vcpus": 1,
    "memory_size": 2048,
    "default_bridges": 1,
    "block_device_driver": "virtio-scsi",
    "msize_9p": 8192,
}

#: vCPUs of Kata 1.x on amd64; each architecture has its own.
MAX_VCPUS = 240

#: Kata 1.x counts in unsigned 32-bit numbers.
MAX_NUMBER = (1 << 32) - 1

#: The name of an installed image, which `image_path` can be.
ASSET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}(:[A-Za-z0-9][A-Za-z0-9._+-]{0,127})?")

#: The largest uid and gid: the next number means "no change" to chown(2).
MAX_ID = (1 << 32) - 2
ID_OPTIONS = ("jailer_uid", "jailer_gid")

#: QEMU's own limit; Kata 1.x takes the number modulo 256.
MAX_MEMORY_SLOTS = 255

#: The option that names the digest of a file, and the one that names the file; fields have the same names.
DIGESTS = {
    "kernel_digest": "kernel_path",
    "image_digest": "image_path",
    "initrd_digest": "initrd_path",
    "initramfs_digest": "initramfs_path",
    "firmware_digest": "firmware_path",
    "hypervisor_digest": "hypervisor_path",
    "hypervisor_ctl_digest": "hypervisor_ctl_path",
    "jailer_digest": "jailer_path",
}


@dataclasses.dataclass
class HypervisorConfig:
    """The configuration of one sandbox's VM.

    Numbers are counts unless a unit is given. Zero and empty mean "not given"; `valid` fills in the defaults of Kata 1.x.
    """

    num_vcpus: int = option(0, "vcpus", "cpus", "num_vcpus", "default_vcpus", type="int", unit="count", cost=LIVE_VCPUS)
    default_max_vcpus: int = option(
        0, "max_vcpus", "default_max_vcpus", "default_maxvcpus", type="int", unit="count", only=QEMU
    )
    memory_size: int = option(
        0, "memory_mb", "memory", "memory_size", "default_memory", type="int", unit="MiB", cost=LIVE_MEMORY
    )
    default_bridges: int = option(0, "bridges", "default_bridges", type="int", unit="count", only=QEMU)
    msize_9p: int = option(0, "msize_9p", type="int", unit="bytes", only=QEMU)
    mem_slots: int = option(0, "memory_slots", "mem_slots", type="int", unit="count", only=QEMU)
    mem_offset: int = option(0, "memory_offset_mb", "memory_offset", "mem_offset", type="int", unit="MiB", only=QEMU)
    virtio_fs_cache_size: int = option(
        0, "virtio_fs_cache_size_mb", "virtio_fs_cache_size", type="int", unit="MiB", only=QEMU
    )
    kernel_params: list[Param] = option(list, "kernel_params", type="list", elements="str")  # noqa: RUF009
    hypervisor_params: list[Param] = option(list)  # noqa: RUF009
    kernel_path: str = option("", "kernel_path", "kernel", type="path")
    image_path: str = option("", "image_path", "image", type="path")
    initrd_path: str = option("", "initrd_path", "initrd", type="path", only=QEMU_FIRECRACKER)
    firmware_path: str = option("", "firmware_path", "firmware", type="path", only=QEMU)
    machine_accelerators: str = option("", "machine_accelerators", only=QEMU)
    hypervisor_path: str = option("", "hypervisor_path", "path", type="path")
    hypervisor_ctl_path: str = option("", "hypervisor_ctl_path", "ctlpath", type="path", only=ACRN)
    jailer_path: str = option("", "jailer_path", type="path", only=FIRECRACKER)
    jailer: str = option("", "jailer", choices=("auto", "none"), only=FIRECRACKER)
    block_device_driver: str = option(
        "",
        "block_device_driver",
        choices=("virtio-scsi", "virtio-blk", "virtio-mmio", "nvdimm"),
        only=QEMU_FIRECRACKER,
    )
    hypervisor_machine_type: str = option("", "machine_type", only=QEMU)
    memory_path: str = option("")
    devices_state_path: str = option("")
    #: The sandbox's own writable disk, which takes the place of the image, and its format: qcow2 (on top of the image) or raw (a copy of it).
    root_disk_path: str = option("")
    root_disk_format: str = option("")
    entropy_source: str = option("", "entropy_source", type="path", default="/dev/urandom", only=QEMU)
    shared_fs: str = option("", "shared_fs", choices=("virtio-9p", "virtio-fs"), only=QEMU)
    virtio_fs_daemon: str = option("", "virtio_fs_daemon", type="path", only=QEMU)
    virtio_fs_cache: str = option("", "virtio_fs_cache", choices=("none", "auto", "always"), only=QEMU)
    block_device_cache_set: bool = option(False, "block_device_cache_set", type="bool", only=QEMU)
    block_device_cache_direct: bool = option(False, "block_device_cache_direct", type="bool", only=QEMU)
    block_device_cache_noflush: bool = option(False, "block_device_cache_noflush", type="bool", only=QEMU)
    #: Carried as Kata 1.x has it; no driver reads it. So are `guest_hook_path` and `vm_id`.
    disable_block_device_use: bool = option(False)
    enable_iothreads: bool = option(False, "enable_iothreads", type="bool", only=QEMU)
    debug: bool = option(False, "debug", "enable_debug", type="bool")
    mem_prealloc: bool = option(False, "memory_prealloc", "enable_mem_prealloc", type="bool", only=QEMU)
    huge_pages: bool = option(False, "huge_pages", "enable_hugepages", type="bool", only=QEMU_FIRECRACKER)
    file_backed_mem_root_dir: str = option("", "file_mem_backend", type="path", only=QEMU)
    realtime: bool = option(False, "realtime", type="bool", only=QEMU)
    mlock: bool = option(False, "mlock", type="bool", only=QEMU)
    disable_nesting_checks: bool = option(False, "disable_nesting_checks", type="bool", only=QEMU)
    use_vsock: bool = option(False, "use_vsock", type="bool", default={"firecracker": True}, only=QEMU_FIRECRACKER)
    hotplug_vfio_on_root_bus: bool = option(False, "hotplug_vfio_on_root_bus", type="bool", only=QEMU)
    boot_to_be_template: bool = option(False)
    boot_from_template: bool = option(False)
    disable_vhost_net: bool = option(False, "disable_vhost_net", type="bool", only=QEMU)
    guest_hook_path: str = option("")
    vm_id: str = option("")

    # Beyond Kata 1.x.
    accelerator: str = option("", "accelerator", choices=("auto", "kvm", "tcg"), default="auto", only=QEMU)
    cpu_model: str = option("", "cpu_model", only=QEMU)
    #: The user that QEMU runs as, where that is not the task's own.
    vmm_user: str = option("", "vmm_user", only=QEMU)
    #: The template that the VM is cloned from; the engine replaces it by the paths above.
    template: str = option("", "template", only=QEMU_FIRECRACKER)
    max_memory_mb: int = option(0, "max_memory_mb", type="int", unit="MiB", only=QEMU_FIRECRACKER)
    memory_hotplug: str = option(
        "", "memory_hotplug", choices=("virtio-mem", "pc-dimm", "balloon", "none"), only=QEMU_FIRECRACKER
    )
    #: What follows when the guest restarts itself.
    on_reboot: str = option("", "on_reboot", choices=("restart", "stop"), only=QEMU)
    #: Ports of a PCI Express root, each for one device that is plugged in later.
    root_ports: int = option(0, "root_ports", type="int", unit="count", only=QEMU)
    image_driver: str = option(
        "", "image_driver", choices=("virtio-blk", "virtio-scsi", "virtio-pmem", "nvdimm"), only=QEMU
    )
    image_format: str = option("", "image_format", choices=("raw", "qcow2"), only=QEMU)
    #: An initrd that loads modules that the kernel needs to mount the image's root file system. Used with image_path, unlike initrd_path.
    initramfs_path: str = option("", "initramfs_path", "initramfs", type="path", only=QEMU)
    #: What starts the guest: the boot loader of its disk, which the firmware starts, or kernel_path.
    boot: str = option("", "boot", choices=("auto", "firmware", "kernel"), only=QEMU)
    #: The template of the firmware's variables. With it, firmware_path is a flash memory (pflash), not a ROM.
    firmware_vars_path: str = option("", "firmware_vars_path", type="path", only=QEMU)
    #: Digests of files, see `boot_files.check_digests`. The aliases are those of Kata's annotations.
    kernel_digest: str = option("", "kernel_digest", "kernel_hash", cost=Cost.LIVE)
    image_digest: str = option("", "image_digest", "image_hash", cost=Cost.LIVE)
    initrd_digest: str = option("", "initrd_digest", "initrd_hash", cost=Cost.LIVE, only=QEMU_FIRECRACKER)
    initramfs_digest: str = option("", "initramfs_digest", cost=Cost.LIVE, only=QEMU)
    firmware_digest: str = option("", "firmware_digest", "firmware_hash", cost=Cost.LIVE, only=QEMU)
    hypervisor_digest: str = option("", "hypervisor_digest", "hypervisor_hash", cost=Cost.LIVE)
    hypervisor_ctl_digest: str = option("", "hypervisor_ctl_digest", "hypervisorctl_hash", cost=Cost.LIVE, only=ACRN)
    jailer_digest: str = option("", "jailer_digest", "jailer_hash", cost=Cost.LIVE, only=FIRECRACKER)
    enable_pci: bool = option(False, "enable_pci", type="bool", only=FIRECRACKER)
    smt: bool = option(False, "smt", type="bool", only=FIRECRACKER)
    cpu_template: str = option("", "cpu_template", choices=("C3", "T2", "T2A", "T2CL", "T2S", "V1N1"), only=FIRECRACKER)
    #: A file that says which features of the host's CPU the guest is shown; takes the place of cpu_template.
    cpu_config_path: str = option("", "cpu_config_path", type="path", only=FIRECRACKER)
    track_dirty_pages: bool = option(False, "track_dirty_pages", type="bool", only=FIRECRACKER)
    entropy_device: bool = option(False, "entropy_device", type="bool", only=FIRECRACKER)
    console_rate_limit: int = option(0, "console_rate_limit", type="int", unit="bytes", only=FIRECRACKER)
    vmm_metrics: bool = option(False, "vmm_metrics", type="bool", only=FIRECRACKER)
    vmm_log_level: str = option(
        "", "vmm_log_level", choices=("error", "warning", "info", "debug", "trace"), only=FIRECRACKER
    )
    mmds_size_limit: int = option(0, "mmds_size_limit", type="int", unit="bytes", only=FIRECRACKER)
    #: How many placeholder disks a VM starts with, which are replaced by others while it runs.
    placeholder_drives: int = option(0, "placeholder_drives", type="int", unit="count", only=FIRECRACKER)
    allow_vulnerable_vmm: bool = option(False, "allow_vulnerable_vmm", type="bool", only=FIRECRACKER)
    jailer_uid: int = option(0, "jailer_uid", type="int", only=FIRECRACKER)
    jailer_gid: int = option(0, "jailer_gid", type="int", only=FIRECRACKER)
    chroot_base_dir: str = option("", "chroot_base_dir", type="path", only=FIRECRACKER)
    network_namespace: str = option("", "network_namespace", type="path", only=FIRECRACKER)
    jailer_cgroups: list[Param] = option(list, "jailer_cgroups", type="list", elements="str", only=FIRECRACKER)  # noqa: RUF009
    jailer_limits: list[Param] = option(list, "jailer_limits", type="list", elements="str", only=FIRECRACKER)  # noqa: RUF009
    supervisor: str = option("", "supervisor", choices=("auto", "systemd", "none"), default="auto")
    #: Properties of the VMM's systemd unit, such as MemoryMax=2G.
    unit_properties: list[Param] = option(list, "unit_properties", type="list", elements="str")  # noqa: RUF009
    autostart: bool = option(False, "autostart", type="bool", cost=Cost.LIVE)
    #: A post-launched VM of the host's ACRN scenario, which ACRN 2.7 and later know by its name, and 2.5 and earlier by its UUID.
    vm_name: str = option("", "vm_name", only=ACRN)
    vm_uuid: str = option("", "vm_uuid", only=ACRN)
    cpu_affinity: list[Param] = option(list, "cpu_affinity", type="list", elements="str", only=ACRN)  # noqa: RUF009

    @property
    def boots_firmware(self) -> bool:
        """Whether the firmware starts the guest from its disk. If `boot` is empty, as in Kata 1.x, a kernel does."""
        is_template = self.boot_to_be_template or self.boot_from_template
        alone = self.image_path and not self.kernel_path and not self.initrd_path and not is_template
        return self.boot == "firmware" or (self.boot == "auto" and bool(alone))

    @property
    def reboots(self) -> bool:
        """Whether a guest that restarts itself goes on. What begins from a template cannot: it has no kernel to start from."""
        return self.on_reboot != "stop" and not (self.boot_to_be_template or self.boot_from_template)

    # --- the validation of Kata 1.x -----------------------------------------------------------------------------------

    def valid(self, max_vcpus: int = MAX_VCPUS) -> None:
        """Check what Kata 1.x checks, in its order, and fill in its defaults once everything has passed.

        No file is read.

        :param max_vcpus: what the architecture can have, the default of `default_max_vcpus`
        :raises ConfigError: a path is missing, or the template settings contradict each other
        """
        if not self.kernel_path and not self.boots_firmware:
            raise ConfigError("a sandbox needs a guest kernel", option="kernel_path", fix="Set kernel_path.")
        if not self.image_path and not self.initrd_path:
            raise ConfigError(
                "a sandbox needs an image or an initrd", option="initrd_path", fix="Set image_path or initrd_path."
            )
        self.check_template_config()
        for name, value in DEFAULTS.items():
            setattr(self, name, getattr(self, name) or value)
        self.default_max_vcpus = self.default_max_vcpus or max_vcpus

    def check_template_config(self) -> None:
        """Check the settings of a VM that becomes a template, or comes from one.

        :raises ConfigError: both are asked for, or a path is missing
        """
        if self.boot_to_be_template and self.boot_from_template:
            raise ConfigError("a VM cannot become a template and come from one", option="template")
        if self.boot_to_be_template or self.boot_from_template:
            if not self.memory_path:
                raise ConfigError("a template needs a path for its memory", option="memory_path")
            if self.boot_from_template and not self.devices_state_path:
                raise ConfigError(
                    "a VM from a template needs the path of its devices' state", option="devices_state_path"
                )

    # --- our own, stricter one ---------------------------------------------------------------------------------------

    def check_values(self) -> None:
        """Check each option by itself.

        :raises ConfigError: one has a value of another type, out of its range, or could inject another option
        """
        for declared in options_of(type(self)):
            if declared.type == "list":
                continue  # It holds pairs here; they were words.
            value = getattr(self, declared.attribute)
            # Nearly all options of a sandbox are unset, which is always valid.
            if value is not getattr(type(self), declared.attribute):
                checked_value(declared, value)
        for param in self.kernel_params:
            _check_kernel_param(param)

    def check_consistent(self) -> None:
        """Check everything that can be checked without the host. Changes nothing. Zero and empty mean "not given".

        :raises ConfigError: an option is missing, contradictory, out of its range, or could inject another option
        """
        self.check_values()
        # Which hypervisor it is, is not known here; `valid` refuses an empty `boot` without a kernel.
        if dataclasses.replace(self, boot=self.boot or "auto").boots_firmware:
            self._check_firmware_boot()
        elif not self.kernel_path:
            raise ConfigError("a sandbox needs a guest kernel", option="kernel_path", fix="Set kernel_path.")
        if self.firmware_vars_path and not self.firmware_path:
            raise ConfigError(
                "a firmware's variables must be set together with its code",
                option="firmware_vars_path",
                wanted=self.firmware_vars_path,
                fix="Set firmware_path to the code that these variables belong to.",
            )
        if self.firmware_vars_path and (self.boot_to_be_template or self.boot_from_template):
            raise ConfigError(
                "a template and its clones cannot have variables of a firmware",
                option="firmware_vars_path",
                wanted=self.firmware_vars_path,
                fix="Omit firmware_vars_path for templates.",
            )
        image, initrd = self.image_path, self.initrd_path
        if image and initrd:
            raise ConfigError(
                "a sandbox boots from an image or from an initrd, not both", option="image_path", wanted=image
            )
        if not image and not initrd:
            raise ConfigError(
                "a sandbox needs an image or an initrd", option="initrd_path", fix="Set image_path or initrd_path."
            )
        if self.default_max_vcpus and self.num_vcpus > self.default_max_vcpus:
            raise ConfigError(
                f"there are more vCPUs than the maximum of {self.default_max_vcpus}",
                option="vcpus",
                wanted=self.num_vcpus,
                fix="Lower vcpus or raise max_vcpus.",
            )
        if self.max_memory_mb and self.memory_size > self.max_memory_mb:
            raise ConfigError(
                f"there is more memory than the maximum of {self.max_memory_mb} MiB",
                option="memory_mb",
                wanted=self.memory_size,
                fix="Lower memory_mb or raise max_memory_mb.",
            )
        if self.mem_slots > MAX_MEMORY_SLOTS:
            raise ConfigError(f"there are at most {MAX_MEMORY_SLOTS}", option="memory_slots", wanted=self.mem_slots)
        self.check_template_config()

    def _check_firmware_boot(self) -> None:
        """Check a sandbox whose firmware starts the boot loader of its disk.

        :raises ConfigError: it has no disk, or an option that such a guest would not see
        """
        if not self.image_path:
            raise ConfigError(
                "a sandbox that its firmware boots needs an image", option="image_path", fix="Set image_path."
            )
        if self.boot_to_be_template or self.boot_from_template:
            raise ConfigError(
                "a template must boot from a kernel", option="boot", wanted=self.boot, fix="Set kernel_path."
            )
        for name, value in (
            ("kernel_path", self.kernel_path),
            ("initrd_path", self.initrd_path),
            ("initramfs_path", self.initramfs_path),
            ("kernel_params", serialize_params(self.kernel_params)),
        ):
            if value:
                raise ConfigError(
                    f"{name} must be omitted or empty if the boot loader of the image starts the guest, which has its own",
                    option=name,
                    wanted=value,
                    fix=f"Omit {name}, or set kernel_path and boot: kernel."
                    if name != "kernel_path"
                    else "Set boot: kernel, or an empty kernel_path.",
                )


def checked_value(declared: Option, value: Any, least: int = 0) -> Any:
    """A validated value of an option. Paths are normalized.

    :param least: the smallest number
    :raises ConfigError: it has another type, is out of range, or could inject another option
    """
    problem = ""
    if declared.type == "int":
        most = MAX_ID if declared.name in ID_OPTIONS else MAX_NUMBER
        if isinstance(value, bool) or not isinstance(value, int):
            problem = "must be an integer"
        elif not least <= value <= most:
            problem = f"this must be at least {least}" if value < least else f"this must be at most {most}"
    elif declared.type == "bool":
        if not isinstance(value, bool):
            problem = "this must be true or false"
    elif declared.type == "list":
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            problem = "this must be a list of words"
    elif not isinstance(value, str):
        problem = "this must be text"
    elif not value:
        return value
    elif declared.type == "path":
        if declared.name == "image_path" and ASSET_NAME.fullmatch(value):
            return value
        return clean_path(value, declared.name)
    elif declared.name in DIGESTS:
        return named_digest(value, declared.name)
    elif declared.choices and value not in declared.choices:
        problem = f"this must be one of {', '.join(declared.choices)}"
    elif not value.isprintable():
        problem = "this must not have a line break or another character that cannot be printed"
    if problem:
        raise ConfigError(problem, option=declared.name, wanted=value)
    return value


def _check_kernel_param(param: Param) -> None:
    """Refuse a parameter that is not one word of the kernel's command line."""
    word = f"{param.key}={param.value}"
    problem = ""
    if not param.key or "=" in param.key:
        problem = "a kernel parameter needs a name without an equals sign"
    elif not word.isprintable():
        problem = "a kernel parameter must not have line breaks or control characters"
    elif split_quoted_words(word) != [word]:
        problem = "a kernel parameter must be one word: blanks are only possible between double quotes"
    elif word.count('"') % 2:
        # The kernel takes all parameters after it for a part of it.
        problem = "a kernel parameter must end the double quotes that it begins"
    elif b"\xa0" in word.encode():
        # Linux splits at bytes, and takes this one for a blank (lib/ctype.c); it is the end of a and grave accent in UTF-8.
        problem = "a kernel parameter must be one word, and the kernel takes a byte of this character for a blank"
    if problem:
        raise ConfigError(problem, option="kernel_params", wanted=word)
