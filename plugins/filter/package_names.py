# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter kata.hypervisor.package_names."""

from __future__ import annotations

DOCUMENTATION = r"""
name: package_names
short_description: List what a distribution calls the packages that the roles install
version_added: 1.0.0
author:
  - The kata.hypervisor authors (@kata-hypervisor)
description:
  - Finds the names of packages, and the paths of programs, for the distribution and the architecture of a host.
  - A distribution is known by its name and major version, by its name, or by its family. What it does not have is empty.
options:
  _input:
    description: The facts of the host, of which C(distribution), C(distribution_major_version), C(os_family) and C(architecture) are used.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the package of QEMU on this host
  ansible.builtin.debug:
    msg: "{{ (ansible_facts | kata.hypervisor.package_names).qemu | first }}"
"""

RETURN = r"""
_value:
  description: The packages and paths.
  type: dict
  contains:
    qemu:
      description: The packages of QEMU.
      type: list
      elements: str
    qemu_path:
      description: Where they install QEMU.
      type: str
    virtiofsd:
      description: The packages of virtiofsd.
      type: list
      elements: str
    kernel:
      description: The package of the kernel.
      type: str
    kernel_follow:
      description: A regular expression. Dependencies whose names match contain the kernel and its modules.
      type: str
    console_option:
      description: The option of the kernel for the console of a guest.
      type: str
    busybox:
      description: The package of a static busybox.
      type: str
    guest_libraries:
      description: A regular expression. Dependencies whose names match contain the libraries of the guest agent and of socat.
      type: str
    guest_agent_path:
      description: The path of the guest agent in its package.
      type: str
    qemu_img:
      description: The package of qemu-img.
      type: str
    network:
      description: The packages that managed networks need.
      type: list
      elements: str
    firmware:
      description: The packages of each firmware.
      type: dict
  sample:
    qemu: [qemu-system-arm, qemu-utils]
    qemu_path: /usr/bin/qemu-system-aarch64
    virtiofsd: [virtiofsd]
    kernel: linux-image-cloud-arm64
    kernel_follow: "^linux-image-[0-9]"
    console_option: CONFIG_SERIAL_AMBA_PL011_CONSOLE
    busybox: busybox-static
    guest_libraries: "^z?lib"
    guest_agent_path: usr/sbin/qemu-ga
    qemu_img: qemu-utils
    network: [dnsmasq-base, nftables, iproute2]
    firmware: {aavmf: [qemu-efi-aarch64]}
"""

from typing import Any, Callable

from ansible_collections.kata.hypervisor.plugins.plugin_utils.package_names import names_of


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"package_names": names_of}
