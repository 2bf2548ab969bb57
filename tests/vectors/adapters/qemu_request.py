# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recorded requests in today's words, and the recorded host as a directory, so that the QEMU driver itself prepares each VM."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from typing import Any, Iterator
from unittest import mock

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.guest import disks
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.base import Context
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import (
    cloning,
    machines,
    preparation,
    start,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import command_line as cmdline
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.devices.kinds import device_for
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.devices.objects import QemuObject
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.driver import QemuHypervisor
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.machines import MACHINES, Architecture
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.base import Device
from ansible_collections.kata.hypervisor.plugins.module_utils.records import layout

#: Go's names of architectures.
ARCHITECTURES: dict[str, Architecture] = {
    "amd64": machines.X86_64,
    "arm64": machines.AARCH64,
    "ppc64le": machines.PPC64LE,
    "s390x": machines.S390X,
}
#: The machine type of a request that names none, as Kata 1.x understands it.
MACHINE_TYPES = {"amd64": "pc", "arm64": "virt", "ppc64le": "pseries", "s390x": "s390-ccw-virtio"}
#: CPUs of the host, where a line does not say.
HOST_CPUS = 2
#: A QEMU of today, where the recorded host has a QEMU.
QEMU = "#!/bin/sh\necho QEMU emulator version 7.2.0\n"
#: The field of each kind of file that can take the place of a configured one.
ASSET_FIELDS = {
    "kernel": "kernel_path",
    "image": "image_path",
    "initrd": "initrd_path",
    "hypervisor": "hypervisor_path",
    "hypervisorctl": "hypervisor_ctl_path",
    "jailer": "jailer_path",
    "firmware": "firmware_path",
}
#: Files that Kata 1.x does not look at, so that the lines do not say whether they are there.
UNSEEN = ("kernel_path", "initrd_path", "firmware_path", "entropy_source")
PATHS = (*UNSEEN, "image_path", "hypervisor_path", "file_backed_mem_root_dir", "memory_path", "devices_state_path")
#: An image of Kata's is as long as a multiple of this, bytes.
IMAGE_BLOCK = 2 << 20
LARGEST_FILE = 1 << 40


def architecture_of(goarch: str) -> Architecture:
    """The architecture of that name.

    :raises ConfigError: there is none
    """
    if goarch not in ARCHITECTURES:
        raise ConfigError(
            "there is no such architecture", wanted=goarch, fix=f"The architectures are {', '.join(ARCHITECTURES)}."
        )
    return ARCHITECTURES[goarch]


class RecordedHost:
    """The host that a line was recorded on, below a directory of its own.

    :param root: the directory
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.meminfo = self._write("meminfo", "")

    def _write(self, name: str, text: str) -> str:
        path = os.path.join(self.root, name)
        pathlib.Path(path).write_text(text, encoding="ascii")
        return path

    def set_memory(self, kb: int) -> None:
        """The host's memory, kB."""
        self._write("meminfo", f"MemTotal: {kb} kB\n")

    def path(self, recorded: str) -> str:
        """Where a recorded path is."""
        usual = recorded.startswith("/") and recorded.isprintable() and ".." not in recorded.split("/")
        return f"{self.root}{recorded}" if usual else recorded

    def recorded(self, text: str) -> str:
        """A text with the recorded paths in the place of ours."""
        return text.replace(self.root, "")

    def make(self, recorded: str, content: str | int) -> None:
        """Make a file with that text or length, or a directory (`dir`). What cannot be there is not."""
        path = self.path(recorded)
        if not path.startswith(f"{self.root}/"):
            return
        with contextlib.suppress(OSError, ValueError):
            os.makedirs(path if content == "dir" else os.path.dirname(path), exist_ok=True)
            if isinstance(content, int):
                with open(path, "wb") as stream:
                    stream.truncate(min(max(content, 0), LARGEST_FILE))
            elif content != "dir":
                pathlib.Path(path).write_text(content, encoding="ascii")

    def make_qemu(self, recorded: str) -> None:
        """Make a QEMU."""
        self.make(recorded, QEMU)
        with contextlib.suppress(OSError, ValueError):
            os.chmod(self.path(recorded), 0o755)

    def make_image(self, recorded: str, mapped: bool) -> None:
        """Give an image what Kata's have: a length in blocks, a partition, and a header where the guest maps it."""
        path = self.path(recorded)
        if not os.path.isfile(path) or not os.path.getsize(path):
            return
        start = disks.DAX_OFFSET if mapped else 0
        size = start - (-os.path.getsize(path) // IMAGE_BLOCK) * IMAGE_BLOCK
        with open(path, "r+b") as stream:
            stream.truncate(size)
            if mapped:
                stream.seek(disks.DAX_BLOCK)
                stream.write(disks.DAX_SIGNATURE)
            stream.seek(start + 450)
            stream.write(b"\x83")
            stream.seek(start + 510)
            stream.write(b"\x55\xaa")

    def context(self, sandbox: str) -> Context:
        """The directories of a sandbox.

        :raises ConfigError: the id cannot name one
        """
        places = layout.SandboxLayout(sandbox, f"{self.root}/state", f"{self.root}/run")
        return Context(sandbox, places.run_dir, places.state_dir, meminfo=self.meminfo)

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """QEMU is looked for on this host alone."""
        with (
            mock.patch.object(machines, "DIRECTORIES", (f"{self.root}/usr/bin",)),
            mock.patch.object(machines, "NATIVE_BINARIES", ()),
        ):
            yield


def todays_config(
    config: HypervisorConfig, assets: dict[str, str], goarch: str, host: RecordedHost, host_cpus: int = 0
) -> HypervisorConfig:
    """A recorded configuration as a task would say it today.

    A file that takes the place of a configured one is the option's. Two words are left out: that the agent is reached over vsock, since a vsock is a
    device today, which the line lists too; and the window of virtio-fs, which QEMU does not have.
    """
    fields = {ASSET_FIELDS[kind]: path for kind, path in assets.items() if kind in ASSET_FIELDS and path}
    config = dataclasses.replace(config, **fields)  # type: ignore[arg-type]
    machine_type = config.hypervisor_machine_type or MACHINE_TYPES[goarch]
    machine = MACHINES.get(machine_type)
    template = config.boot_to_be_template or config.boot_from_template
    mapped = machine is not None and "nvdimm" in machine.image_drivers and not template
    for field in UNSEEN:
        host.make(getattr(config, field), 1)
    host.make_image(config.image_path, mapped)
    return dataclasses.replace(
        config,
        **{field: host.path(getattr(config, field)) for field in PATHS},
        kernel_params=list(config.kernel_params),
        hypervisor_machine_type=machine_type,
        image_driver=("nvdimm" if mapped else "virtio-blk") if config.image_path else "",
        default_max_vcpus=config.default_max_vcpus or max(config.num_vcpus, host_cpus or HOST_CPUS),
        use_vsock=False,
        virtio_fs_cache_size=0,
        supervisor="none",
        vmm_user="root" if os.geteuid() == 0 else "",
    )


def prepared(config: HypervisorConfig, context: Context) -> QemuHypervisor:
    """A driver that has checked and completed the configuration, and begins from a KVM host with as many huge pages as the VM needs.

    :raises HypervisorError: the driver refuses it
    """
    driver = QemuHypervisor(context)
    driver.config, version = preparation.prepare(dataclasses.replace(config, huge_pages=False), context)
    driver.config.huge_pages = config.huge_pages
    if config.boot_to_be_template or config.boot_from_template:
        cloning.check_template(driver.config)
    driver.vmm.state.qemu_version = list(version)
    driver.vmm.state.accelerator = "kvm"
    driver.vmm.state.uuid = "{UUID}"
    return driver


def command_line(driver: QemuHypervisor, devices: list[Device], objects: list[QemuObject]) -> list[str]:
    """The command line of a prepared VM, program first.

    :raises HypervisorError: it cannot be built
    """
    config, state = driver.config, driver.vmm.state
    state.shared_memory = config.shared_fs == "virtio-fs" or any(
        device_for(device, config).shares_memory for device in devices
    )
    fds = (3, 4, 5, 6)
    words = start.command_line(driver.vmm, config, fds, objects)
    if not config.boot_from_template:
        return words
    state.boot_vcpus, state.boot_memory_mb = config.num_vcpus, cmdline.boot_memory_mb(config)
    state.max_memory_mb = config.max_memory_mb
    return start.command_line(driver.vmm, config, fds, objects, {})


def own_options(config: HypervisorConfig) -> dict[str, Any]:
    """What of a request a VM must show as it was given: the user's machine options and kernel parameters."""
    return {
        "machine": [word for word in config.machine_accelerators.split(",") if word],
        "kernel": [f"{one.key}={one.value}" if one.value else one.key for one in config.kernel_params],
    }
