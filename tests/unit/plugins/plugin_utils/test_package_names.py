# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names for each distribution and architecture. `tools/package_names.py` compares them with what distributions publish."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.plugin_utils.package_names import (
    DISTRIBUTIONS,
    QEMU_OF,
    UNKNOWN,
    names_of,
)


def names(distribution: str, version: str, family: str, architecture: str = "x86_64") -> dict[str, Any]:
    return names_of(
        {
            "distribution": distribution,
            "distribution_major_version": version,
            "os_family": family,
            "architecture": architecture,
        }
    )


@pytest.mark.parametrize(
    ("host", "qemu", "path", "kernel"),
    [
        (("Debian", "12", "Debian"), "qemu-system-x86", "/usr/bin/qemu-system-x86_64", "linux-image-cloud-amd64"),
        (
            ("Debian", "13", "Debian", "aarch64"),
            "qemu-system-arm",
            "/usr/bin/qemu-system-aarch64",
            "linux-image-cloud-arm64",
        ),
        (("Ubuntu", "24", "Debian"), "qemu-system-x86", "/usr/bin/qemu-system-x86_64", "linux-image-virtual"),
        (
            ("Ubuntu", "24", "Debian", "aarch64"),
            "qemu-system-arm",
            "/usr/bin/qemu-system-aarch64",
            "linux-image-virtual",
        ),
        (("Fedora", "43", "RedHat"), "qemu-system-x86-core", "/usr/bin/qemu-system-x86_64", "kernel-core"),
        (
            ("Fedora", "43", "RedHat", "aarch64"),
            "qemu-system-aarch64-core",
            "/usr/bin/qemu-system-aarch64",
            "kernel-core",
        ),
        (("Rocky", "9", "RedHat"), "qemu-kvm-core", "/usr/libexec/qemu-kvm", "kernel-core"),
        (("RedHat", "9", "RedHat", "aarch64"), "qemu-kvm-core", "/usr/libexec/qemu-kvm", "kernel-core"),
        # A derivative has the names of its family.
        (("Linux Mint", "22", "Debian"), "qemu-system-x86", "/usr/bin/qemu-system-x86_64", "linux-image-cloud-amd64"),
    ],
)
def test_a_host_has_the_names_of_its_distribution_and_architecture(
    host: tuple[str, ...], qemu: str, path: str, kernel: str
) -> None:
    found = names(*host)
    assert (found["qemu"][0], found["qemu_path"], found["kernel"]) == (qemu, path, kernel)


@pytest.mark.parametrize(
    ("host", "packages"),
    [
        (("Debian", "12", "Debian"), []),
        (("Debian", "13", "Debian"), ["virtiofsd"]),
        (("Ubuntu", "22", "Debian"), []),
        (("Ubuntu", "24", "Debian"), ["virtiofsd"]),
    ],
)
def test_virtiofsd_is_a_package_since_a_release(host: tuple[str, ...], packages: list[str]) -> None:
    assert names(*host)["virtiofsd"] == packages


def test_an_unknown_distribution_has_no_packages_and_the_usual_path_of_qemu() -> None:
    found = names("Arch", "NA", "Archlinux")
    assert (found["qemu"], found["kernel"], found["network"], found["firmware"]) == ([], "", [], {})
    assert (found["disk_tools"], found["qemu_path"]) == ([], "/usr/bin/qemu-system-x86_64")


def test_of_an_unknown_architecture_only_the_names_that_depend_on_it_are_empty() -> None:
    found = names("Debian", "13", "Debian", "s390x")
    assert (found["qemu"], found["kernel"]) == ([], "")
    assert (found["qemu_img"], found["qemu_path"]) == ("qemu-utils", "/usr/bin/qemu-system-s390x")


@pytest.mark.parametrize("key", DISTRIBUTIONS)
@pytest.mark.parametrize("architecture", QEMU_OF)
def test_every_table_is_complete(key: str, architecture: str) -> None:
    table = DISTRIBUTIONS[key]
    assert set(table) == set(UNKNOWN)
    distribution, _, version = key.partition(" ")
    found = names(distribution, version, distribution, architecture)
    assert [name for name, value in found.items() if not value and name != "virtiofsd"] == []
    assert "{" not in str([value for name, value in found.items() if name != "firmware"])


def test_without_facts_nothing_is_known() -> None:
    """A role checks its arguments even where the tags of a run leave its tasks out, and then nothing has gathered the facts."""
    assert names_of({})["qemu"] == [] and names_of({})["kernel"] == ""
