# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real firmware starts what is on a disk: a boot sector that prints a line on the serial port, and UEFI that finds nothing to start.

Guests with a boot loader and a system are in `test_cloud_images.py`.
"""

from __future__ import annotations

import pathlib
import shutil
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, HypervisorError
from tests.support.qemu_lab import QemuLab

OVMF, AAVMF = pathlib.Path("/usr/share/OVMF"), pathlib.Path("/usr/share/AAVMF")
#: By machine type: code, variables, the program that runs it and the package of the firmware.
UEFI = {
    "q35": (OVMF / "OVMF_CODE_4M.fd", OVMF / "OVMF_VARS_4M.fd", "qemu-system-x86_64", "ovmf"),
    "pc": (OVMF / "OVMF_CODE_4M.fd", OVMF / "OVMF_VARS_4M.fd", "qemu-system-x86_64", "ovmf"),
    "virt": (AAVMF / "AAVMF_CODE.fd", AAVMF / "AAVMF_VARS.fd", "qemu-system-aarch64", "qemu-efi-aarch64"),
}
#: Real mode at 0x7c00: write the text at 0x7c18 to the serial port at 0x3f8, and halt.
PROGRAM = bytes.fromhex("31c0 8ed8 baf803 be187c ac 84c0 7403 ee ebf8 f4 ebfd").ljust(0x18, b"\0")
#: What OVMF prints on the serial port when it has tried everything.
NOTHING_TO_START = (
    "BdsDxe: No bootable option or device was found|UEFI Interactive Shell|Press any key to enter the Boot Manager Menu"
)


def disk(lab: QemuLab, text: bytes = b"the boot sector ran\r\n") -> str:
    """A disk with a boot sector."""
    sector = (PROGRAM + text).ljust(510, b"\0") + b"\x55\xaa"
    return lab.file("disk", content=sector + bytes((1 << 20) - len(sector)))


def start(lab: QemuLab, **options: Any) -> dict[str, Any]:
    return lab.run(**{"state": "started", "memory_mb": 128, "accelerator": "tcg", **options})


@pytest.mark.parametrize("machine", ["q35", "pc"])
@pytest.mark.parametrize("driver", ["virtio-blk", "virtio-scsi"])
def test_seabios_starts_the_boot_sector_of_the_image(lab: QemuLab, machine: str, driver: str) -> None:
    # A disk without a boot sector that comes first on its bus is not in the way.
    other = {"id": "data", "type": "block", "file": lab.file("data", 1 << 20)}
    ran = {"console": "the boot sector ran", "timeout": 120}
    options = {"machine_type": machine, "image_driver": driver, "devices": [other]}
    made = start(lab, image_path=disk(lab), wait_for=ran, **options)
    assert made["sandbox"]["state"] == "started"
    assert not start(lab)["changed"]


@pytest.mark.parametrize("machine", UEFI)
def test_uefi_is_saved_and_restored_with_its_variables(lab: QemuLab, machine: str) -> None:
    code, variables, program, package = UEFI[machine]
    if not variables.exists() or not shutil.which(program):
        pytest.skip(f"Debian's package {package} or {program} is not here")
    options = {"firmware_path": str(code), "firmware_vars_path": str(variables), "image_path": disk(lab)}
    options["machine_type"] = machine
    copy = lab.root / "state/sandboxes/web/firmware-vars.fd"
    predicted = lab.check(state="started", memory_mb=128, accelerator="tcg", **options)
    assert predicted["changed"] and not copy.exists()
    start(lab, wait_for={"console": NOTHING_TO_START, "timeout": 240}, **options)
    written, template = copy.read_bytes(), variables.read_bytes()
    assert len(written) == len(template) and written != template
    lab.run(state="saved")
    assert lab.facts()["state"] == "saved" and copy.read_bytes() == written
    start(lab)
    assert lab.facts()["state"] == "started"
    lab.run(state="restarted", stop_timeout=0, wait_for={"console": NOTHING_TO_START, "timeout": 240})
    assert variables.read_bytes() == template


def test_a_copy_of_other_variables_is_refused_before_anything_changes(lab: QemuLab) -> None:
    options = {
        "firmware_path": lab.file("code", 64 << 10),
        "firmware_vars_path": lab.file("vars", 8 << 10),
        "image_path": disk(lab),
    }
    lab.run(state="present", memory_mb=128, accelerator="tcg", **options)
    copy = lab.root / "state/sandboxes/web/firmware-vars.fd"
    copy.write_bytes(bytes(4 << 10))
    for run in (lab.check, lab.run):
        with pytest.raises(ConfigError, match="variables of another firmware") as caught:
            run(state="started")
        assert caught.value.option == "firmware_vars_path"
    assert copy.stat().st_size == 4 << 10


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"machine_type": "microvm"}, "machine_type"),
        ({"kernel_params": ["quiet"]}, "kernel_params"),
        ({"boot": "kernel"}, "kernel_path"),
        ({"image_format": "qcow2"}, "image_path"),
        ({"hypervisor": "firecracker"}, "kernel_path"),
        ({"hypervisor": "firecracker", "boot": "firmware"}, "boot"),
    ],
)
def test_what_cannot_boot_is_refused_before_anything_changes(
    lab: QemuLab, options: dict[str, Any], option: str
) -> None:
    for run in (lab.check, lab.run):
        with pytest.raises(HypervisorError) as caught:
            run(state="started", memory_mb=128, image_path=disk(lab), **options)
        assert caught.value.option == option
    assert not (lab.root / "state/sandboxes/web").exists()
