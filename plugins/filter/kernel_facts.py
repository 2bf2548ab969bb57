# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter kata.hypervisor.kernel_facts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: kernel_facts
short_description: List the paths of a kernel that kata_asset installed
version_added: 1.0.0
author:
  - The kata.hypervisor authors (@kata-hypervisor)
description:
  - Finds the kernel, its configuration and its modules among the files of a version that M(kata.hypervisor.kata_asset) installed as C(vmlinuz),
    C(config) and C(modules).
options:
  _input:
    description: What M(kata.hypervisor.kata_asset) returned.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Install a kernel
  kata.hypervisor.kata_asset:
    name: mine
    version: "6.12"
    src: /srv/vmlinuz
    remote_src: true
    checksum: sha256:0f2d1e5fcd0b5aa1d4ac4a7ee0d4fdd4df1b0ea7f0b4b9db2c15a0ad2b2e9c41
    files: [{dest: vmlinuz}]
  register: asset

- name: Show where the kernel is
  ansible.builtin.debug:
    msg: "{{ (asset | kata.hypervisor.kernel_facts).path }}"
"""

RETURN = r"""
_value:
  description: The version and the paths, which lead through the link to the version in use. C(config) and C(modules_directory) only where it has them.
  type: dict
  sample:
    path: /var/lib/kata-hypervisor/assets/mine/current/vmlinuz
    release: "6.12"
    version: "6.12"
"""

from typing import Any, Callable


def kernel_facts(asset: dict[str, Any]) -> dict[str, str]:
    """The version and the paths of a kernel."""
    directory, version = str(asset["current_directory"]), str(asset["version"])
    facts = {"path": f"{directory}/vmlinuz", "release": version, "version": version}
    if "config" in asset["files"]:
        facts["config"] = f"{directory}/config"
    if any(path.startswith("modules/") for path in asset["files"]):
        facts["modules_directory"] = f"{directory}/modules"
    return facts


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"kernel_facts": kernel_facts}
