# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What distributions call the packages of the roles, and where those install their programs. Pure.

To add a distribution, add it to `DISTRIBUTIONS`; `tools/package_names.py` compares the names with what distributions publish.
"""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.kata.hypervisor.plugins.module_utils.architectures import architecture_named

#: Where else QEMU is, and what a role has no name for.
UNKNOWN: dict[str, Any] = {
    "qemu": [],
    "qemu_path": "/usr/bin/qemu-system-{arch}",
    "disk_tools": [],
    "virtiofsd": [],
    "kernel": "",
    "kernel_follow": "",
    "busybox": "",
    "guest_libraries": "",
    "guest_agent_path": "",
    "qemu_img": "",
    "network": [],
    "firmware": {},
}

DEBIAN: dict[str, Any] = {
    **UNKNOWN,
    "qemu": ["qemu-system-{debian_qemu}", "qemu-utils"],
    # What creates and grows volumes. A minimal Debian 13 does not have it.
    "disk_tools": ["e2fsprogs"],
    "virtiofsd": ["virtiofsd"],
    # A package that only depends on the newest kernel, and the dependencies that contain it.
    "kernel": "linux-image-cloud-{debian}",
    "kernel_follow": "^linux-image-[0-9]",
    # A static one, since a guest has no library.
    "busybox": "busybox-static",
    # The dependencies that contain libraries of the guest agent and of socat. Which ones they need changes with each release.
    "guest_libraries": "^z?lib",
    "guest_agent_path": "usr/sbin/qemu-ga",
    "qemu_img": "qemu-utils",
    "network": ["dnsmasq-base", "nftables", "iproute2"],
    "firmware": {
        "seabios": ["seabios"],
        "qboot": ["qemu-system-data"],
        "ovmf": ["ovmf"],
        "aavmf": ["qemu-efi-aarch64"],
    },
}
#: They have no package of virtiofsd, only the older program in a package of QEMU.
DEBIAN_WITHOUT_VIRTIOFSD = {**DEBIAN, "virtiofsd": []}
UBUNTU = {**DEBIAN, "kernel": "linux-image-virtual", "kernel_follow": "^linux-(image|modules)-[0-9]"}
UBUNTU_WITHOUT_VIRTIOFSD = {**UBUNTU, "virtiofsd": []}

ENTERPRISE_LINUX: dict[str, Any] = {
    **UNKNOWN,
    "qemu": ["qemu-kvm-core", "qemu-img"],
    "qemu_path": "/usr/libexec/qemu-kvm",
    "disk_tools": ["e2fsprogs"],
    "virtiofsd": ["virtiofsd"],
    "kernel": "kernel-core",
    "kernel_follow": "^kernel-modules-core$",
    # In EPEL.
    "busybox": "busybox",
    "guest_libraries": "^(lib|glib|pcre2|readline|zlib)|-libs$",
    "guest_agent_path": "usr/bin/qemu-ga",
    "qemu_img": "qemu-img",
    "network": ["dnsmasq", "nftables", "iproute"],
    "firmware": {"seabios": ["seabios-bin"], "ovmf": ["edk2-ovmf"], "aavmf": ["edk2-aarch64"]},
}
FEDORA = {
    **ENTERPRISE_LINUX,
    "qemu": ["qemu-system-{fedora_qemu}-core", "qemu-img"],
    "qemu_path": UNKNOWN["qemu_path"],
    "firmware": {**ENTERPRISE_LINUX["firmware"], "qboot": ["qemu-system-x86-core"]},
}

#: By the name of a distribution and its major version, by its name, or by its family, in lower case. The first of these that is here counts.
DISTRIBUTIONS: dict[str, dict[str, Any]] = {
    "debian 11": DEBIAN_WITHOUT_VIRTIOFSD,
    "debian 12": DEBIAN_WITHOUT_VIRTIOFSD,
    "debian": DEBIAN,
    "ubuntu 22": UBUNTU_WITHOUT_VIRTIOFSD,
    "ubuntu": UBUNTU,
    "fedora": FEDORA,
    "redhat": ENTERPRISE_LINUX,
}
#: The architectures of hosts whose packages are known, and what the packages of QEMU call them.
QEMU_OF = {
    "x86_64": {"debian_qemu": "x86", "fedora_qemu": "x86"},
    "aarch64": {"debian_qemu": "arm", "fedora_qemu": "aarch64"},
}


def names_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The names for a host. What a distribution does not have is empty, and so is a name that depends on an unknown architecture.

    :param facts: the host's facts distribution, distribution_major_version, os_family and architecture, if they were gathered
    """
    name = str(facts.get("distribution", "")).lower()
    keys = (f"{name} {facts.get('distribution_major_version', '')}", name, str(facts.get("os_family", "")).lower())
    table = next((DISTRIBUTIONS[key] for key in keys if key in DISTRIBUTIONS), UNKNOWN)
    machine = str(facts.get("architecture", ""))
    architecture = architecture_named(machine)
    words = {"arch": machine, **({"debian": architecture.debian, **QEMU_OF[machine]} if machine in QEMU_OF else {})}
    return {
        **{key: _filled(value, words) for key, value in table.items()},
        "console_option": architecture.console_option,
    }


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(entry, words) for key, entry in value.items()}
    if isinstance(value, list):
        filled = [_filled(entry, words) for entry in value]
        return filled if all(filled) else []
    try:
        return value.format_map(words)
    except KeyError:
        return ""
