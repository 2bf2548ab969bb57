# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cloud image made of Debian's packages boots by its own boot loader, and its cloud-init applies the seed: UEFI, real guests.

Each boot takes about a minute without KVM, so there are two of them. SeaBIOS starts the image in the test of the page about cloud images.
"""

from __future__ import annotations

import pathlib
import re
import shutil
from typing import Any, Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import VmmError
from tests.support.cloud_image import cloud_image
from tests.support.guest_assets import Assets
from tests.support.lab import removed_afterwards
from tests.support.qemu_lab import QemuLab

CODE, VARS = pathlib.Path("/usr/share/OVMF/OVMF_CODE_4M.fd"), pathlib.Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP0p6AqC0x1k9i2g7Wm4t1S4v5n1c2Qm3l0bq2x9y9zW tester@example.org"
VARIABLE = "/sys/firmware/efi/efivars/KataProof-5f4b3c2d-1a2b-4c3d-8e4f-0123456789ab"
#: What the guest sees, on its console.
SCRIPT = f"""#!/bin/sh
exec >/dev/ttyS0 2>&1
echo "proof: name=$(hostname) fqdn=$(hostname -f) mib=$(df --output=size -BM / | tail -n1 | tr -d ' M')"
echo "proof: address=$(ip -o -4 address show eth0 | tr -s ' ' | cut -d' ' -f4)"
echo "proof: key=$(cat /home/debian/.ssh/authorized_keys)"
echo "proof: kept=$(tail -c 4 {VARIABLE} 2>/dev/null)"
printf '\\007\\000\\000\\000kept' >{VARIABLE}
[ -d /sys/firmware/efi ] && echo "proof: firmware=uefi"
echo "proof: $(ls /sys/class/net | tr '\\n' ' ')end"
"""
DONE = {"cloud_init": True, "timeout": 900}


@pytest.fixture(scope="module")
def image() -> pathlib.Path:
    """The cloud image, from the cache or made now: a minute."""
    if shutil.which("mmdebstrap") is None:
        pytest.skip("mmdebstrap is not here")
    return cloud_image()


@pytest.fixture
def cloud_lab(assets: Assets) -> Iterator[QemuLab]:
    with removed_afterwards(QemuLab(assets)) as made:
        yield made


def start(lab: QemuLab, image: pathlib.Path, **options: Any) -> dict[str, Any]:
    """Start a sandbox from the image and wait until its user script has ended."""
    return lab.run(
        "cloud",
        **{
            "state": "started",
            "image_path": str(image),
            "image_format": "qcow2",
            "root_disk_mb": 3072,
            "memory_mb": 512,
            "accelerator": "tcg",
            "network": "user",
            "hostname": "web-1.example.org",
            "ssh_keys": [KEY],
            "user_data": SCRIPT,
            "wait_for": DONE,
            **options,
        },
    )


def proofs(lab: QemuLab) -> dict[str, str]:
    """What the guest printed last about each thing."""
    words = re.findall(r"proof: (.*)", lab.console("cloud"))
    found = dict(re.findall(r"(\w+)=([^ \r]*)", " ".join(words)))
    found["key"] = next(line[4:].strip() for line in reversed(words) if line.startswith("key="))
    return found


@pytest.mark.long
def test_uefi_keeps_its_variables_and_a_changed_seed_is_applied_at_the_next_start(
    cloud_lab: QemuLab, image: pathlib.Path
) -> None:
    if not CODE.exists():
        pytest.skip("Debian's package ovmf is not here")
    template = VARS.read_bytes()
    firmware = {"firmware_path": str(CODE), "firmware_vars_path": str(VARS)}
    start(cloud_lab, image, **firmware)
    seen = proofs(cloud_lab)
    assert (seen["name"], seen["fqdn"], seen["address"]) == ("web-1", "web-1.example.org", "10.0.2.15/24")
    assert (seen["firmware"], seen["kept"], seen["key"]) == ("uefi", "", KEY)
    # The image has a root partition of 1100 MiB, which cloud-init has grown to the end of the disk.
    assert 2700 < int(seen["mib"]) < 3072
    copy = cloud_lab.root / "state/sandboxes/cloud/firmware-vars.fd"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert copy.read_bytes() != template
    changed = {"hostname": "web-2", "user_data": SCRIPT + "exit 3\n", "disruption": "restart", "stop_timeout": 120}
    with pytest.raises(VmmError, match="with errors") as caught:
        start(cloud_lab, image, **firmware, **changed)
    assert "Failed to run module scripts-user" in caught.value.answer
    seen = proofs(cloud_lab)
    assert (seen["name"], seen["firmware"], seen["kept"], seen["key"]) == ("web-2", "uefi", "kept", KEY)
    assert VARS.read_bytes() == template
    cloud_lab.run("cloud", state="absent", stop_timeout=0)
    assert not copy.parent.exists()
