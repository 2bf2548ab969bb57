# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters from which roles get paths, versions and names."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.kata.hypervisor.plugins.filter.asset_path import asset_path
from ansible_collections.kata.hypervisor.plugins.filter.first_existing import first_existing
from ansible_collections.kata.hypervisor.plugins.filter.kernel_facts import kernel_facts
from ansible_collections.kata.hypervisor.plugins.filter.missing_kernel_options import missing_kernel_options
from ansible_collections.kata.hypervisor.plugins.filter.stable_mac import stable_mac
from ansible_collections.kata.hypervisor.plugins.filter.vmm_version import vmm_version


def test_version_and_architecture_are_filled_in_wherever_they_stand() -> None:
    path = "/srv/{version}/fc-{version}-{arch}.tgz"
    assert asset_path(path, "v1.16.1", "aarch64") == "/srv/v1.16.1/fc-v1.16.1-aarch64.tgz"
    assert asset_path("/srv/{other}", "v1", "x86_64") == "/srv/{other}"


def stat(kind: str, path: str, exists: bool) -> dict:
    return {"item": {"kind": kind, "path": path}, "stat": {"exists": exists}}


def test_the_first_file_that_exists_is_chosen_of_each_kind() -> None:
    results = [
        stat("code", "/absent", False),
        stat("code", "/second", True),
        stat("code", "/third", True),
        stat("variables", "/variables", True),
        stat("microvm", "/nowhere", False),
        {"item": {"kind": "code", "path": "/skipped"}, "skipped": True},
    ]
    assert first_existing(results) == {"code": "/second", "variables": "/variables"}
    assert first_existing([]) == {}


def test_a_kernel_has_the_paths_of_its_files() -> None:
    asset = {
        "version": "6.12",
        "directory": "/assets/mine/6.12",
        "current_directory": "/assets/mine/current",
        "files": {"vmlinuz": "sha256:0"},
    }
    bare = {"path": "/assets/mine/current/vmlinuz", "release": "6.12", "version": "6.12"}
    assert kernel_facts(asset) == bare
    asset["files"] = {"vmlinuz": "", "config": "", "modules/kernel/virtio.ko": ""}
    assert kernel_facts(asset) == {
        **bare,
        "config": "/assets/mine/current/config",
        "modules_directory": "/assets/mine/current/modules",
    }


def test_an_option_counts_when_it_is_built_in_or_a_module() -> None:
    text = "#\nCONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D=n\nCONFIG_AB=y\nCONFIG_E=64\n"
    required = ["CONFIG_E", "CONFIG_A", "CONFIG_B", "CONFIG_C", "CONFIG_D", "CONFIG_AB"]
    assert missing_kernel_options(text, required) == ["CONFIG_C", "CONFIG_D", "CONFIG_E"]
    assert missing_kernel_options("", ["CONFIG_A"]) == ["CONFIG_A"]


def test_a_mac_address_is_stable_local_and_unicast() -> None:
    address = stable_mac("host1/kata0")
    assert address == stable_mac("host1/kata0") != stable_mac("host2/kata0")
    parts = [int(part, 16) for part in address.split(":")]
    assert len(parts) == 6
    assert parts[0] & 0b11 == 0b10


@pytest.mark.parametrize(
    ("name", "output", "version"),
    [
        ("qemu", "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright (c) 2003", "7.2.22"),
        ("firecracker", "Firecracker v1.16.1\n\n2026-11-26 exiting", "1.16.1"),
        ("virtiofsd", "virtiofsd 1.13.2", "1.13.2"),
        ("acrn", "DM version is: 3.2-unstable-4.19", "3.2"),
        ("qemu", "Firecracker v1.16.1", ""),
        ("firecracker", "", ""),
    ],
)
def test_the_version_of_a_program_is_found_in_its_output(name: str, output: str, version: str) -> None:
    assert vmm_version(output, name) == version


def test_the_name_of_the_program_must_be_known() -> None:
    with pytest.raises(AnsibleFilterError, match="must be one of acrn, firecracker, qemu, virtiofsd, not 'xen'"):
        vmm_version("xen 4.17", "xen")
