# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares the VM that the driver gives today's QEMU with the recorded one: `todays_qemu.py PATH...`, as `run.py` is called.

The original wrote for a QEMU that is gone, so its words are only compared with the classic dialect's (run.py). What they mean is compared
here: how much memory and of which kind, which files are booted, which disks, shares and interfaces the guest has. Prints one line per file,
and ends with 1 when a VM differs in what todays_qemu.toml does not list.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys
import traceback
from typing import Any, Iterable, Iterator

import run
from adapters.answer import attempt
from adapters.fields import Fields
from adapters.go_config import config_from_go
from adapters.qemu_cmdline import device_of, host_of
from adapters.qemu_meaning import meaning

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu import bridges
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.arguments import MODERN
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.cloning import check_template
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.command_line import VmPlan, command_line
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.devices.objects import (
    Descriptors,
    QemuObject,
    Slot,
    objects_for,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.machines import Machine, machine_named
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import ASSET_FIELDS, HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.options.devices import (
    BlockDrive,
    Device,
    NetworkDevice,
    VhostUserDevice,
    Volume,
)

#: Interfaces that are a tap to QEMU.
TAPPED = ("veth", "bridged_macvlan", "ipvlan", "macvtap")
#: CPUs of the host, which the lines do not tell.
HOST_CPUS = 2


def todays_command_line(
    sandbox: str, config: HypervisorConfig, machine_type: str, devices: Iterable[Device], image_size: int, host_mb: int
) -> list[str]:
    """What the driver would run for the same wish, on KVM, with an image made as Kata's are: partitioned, and mapped where it can be.

    :param image_size: bytes
    :param host_mb: MiB
    :raises HypervisorError: it refuses the wish
    """
    machine = machine_named(machine_type)
    config = dataclasses.replace(config, kernel_params=list(config.kernel_params))
    for kind, field in ASSET_FIELDS.items():
        setattr(config, field, config.asset_path(kind))
    config.default_max_vcpus = config.default_max_vcpus or max(config.num_vcpus, HOST_CPUS)
    config.valid(machine.architecture.max_vcpus)
    config.check_consistent()
    is_template = config.boot_to_be_template or config.boot_from_template
    config.image_driver = "nvdimm" if "nvdimm" in machine.image_drivers and not is_template else "virtio-blk"
    if is_template:
        check_template(config)
    config.memory_hotplug = (*machine.memory, "none")[0]
    config.max_memory_mb = min(2 * config.memory_size, max(host_mb, config.memory_size))
    devices = list(devices)
    places = bridges.make_bridges(config.default_bridges, machine.bridge_type) if machine.has_bridges else []
    shared = config.shared_fs == "virtio-fs" or any(isinstance(device, VhostUserDevice) for device in devices)
    plan = VmPlan(
        sandbox,
        "{UUID}",
        config,
        machine,
        "kvm",
        "/run/pid",
        "/run/console.log",
        places,
        host_khz=2000000,
        image_partitioned=True,
        image_size=-(-image_size // (2 << 20)) * (2 << 20),
        image_mapped=config.image_driver == "nvdimm",
        incoming=config.boot_from_template,
        parts=[part for device in devices for part in _parts(device, config, machine)],
        shared_memory=shared,
    )
    return command_line(plan, MODERN)


def _parts(device: Device, config: HypervisorConfig, machine: Machine) -> list[QemuObject]:
    descriptors = Descriptors()
    if isinstance(device, NetworkDevice):
        kind = "tap" if device.kind in TAPPED else device.kind
        device = dataclasses.replace(device, kind=kind, id=device.name, queues=max(len(device.vm_fds), 1))
        descriptors.tap = ["9"] * device.queues
        descriptors.vhost = [] if config.disable_vhost_net else ["9"] * device.queues
    elif isinstance(device, Volume):
        device = dataclasses.replace(device, id=device.mount_tag)
        descriptors.socket = "8" if config.shared_fs == "virtio-fs" else ""
    elif isinstance(device, BlockDrive):
        device = dataclasses.replace(device, driver="virtio-blk")
    return objects_for(device, Slot.for_machine(machine), config.block_device_driver, descriptors)


def differences(line: dict[str, Any]) -> list[str]:
    """What the VM for a line's wish is not as the recorded one, each `today.MACHINE_TYPE.FACT`.

    With a comma in a value, which the original does not escape, it is `today.commas`.
    """
    given = Fields(line["input"])
    recorded = meaning(line["output"]["argv"])
    config, host = config_from_go(given.table("config").values), host_of(given, {})
    role = "clone" if config.boot_from_template else "template" if config.boot_to_be_template else ""
    what = ".".join(filter(None, ("today", recorded["machine_type"], role)))
    if any("," in text for text in texts_in([given.text("sandbox_id"), given.items("devices"), path_values(config)])):
        what = "today.commas"
    devices = filter(None, map(device_of, given.tables("devices")))
    size = host.file_size(config.image_asset_path()) or 0
    argv, failure = attempt(
        todays_command_line, given.text("sandbox_id"), config, recorded["machine_type"], devices, size, host.memory_mb
    )
    if failure:
        return [f"{what}: expected a VM, got {failure!r}"]
    ours = meaning(argv)
    return [
        f"{what}.{fact}: expected {recorded[fact]!r}, got {ours[fact]!r}"
        for fact in recorded
        if recorded[fact] != ours[fact]
    ]


def texts_in(value: Any) -> Iterator[str]:
    """All texts in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from texts_in(one)


def path_values(config: HypervisorConfig) -> list[Any]:
    """What of a configuration becomes a part of an option."""
    paths = (
        config.memory_path,
        config.entropy_source,
        config.file_backed_mem_root_dir,
        config.image_path,
        config.machine_accelerators,
    )
    return [*paths, dict(config.custom_assets)]


def check_line(line: dict[str, Any]) -> list[str]:
    """`differences`, or the crash of a comparison, or the error of a line that cannot be read."""
    try:
        return differences(line)
    except HypervisorError as error:
        return [f"today: the line cannot be read: {error}"]
    except Exception:
        return [run.CRASH + traceback.format_exc(limit=-4)]


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare recorded VMs with those of today's QEMU.")
    parser.add_argument(
        "paths", nargs="+", type=pathlib.Path, metavar="PATH", help="a .jsonl file, or a folder of them"
    )
    deviations = run.load_deviations("todays_qemu.toml")
    failed = False
    for path, _named in run.find_files(parser.parse_args().paths):
        if not path.stem.startswith("qemu_cmdline"):
            continue
        tally = run.Tally()
        for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            if "argv" in (line["output"] or {}):
                tally.count(line["id"], check_line(line), deviations)
        print(
            f"{path.name}, today's QEMU: {tally.passed} alike, {len(tally.failures)} failed, {tally.deviating} deviating"
        )
        for failure in tally.failures:
            print(f"  {failure}")
        failed = failed or bool(tally.failures)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
