# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter kata.hypervisor.asset_path."""

from __future__ import annotations

DOCUMENTATION = r"""
name: asset_path
short_description: Fill in the version and the architecture in the path of an asset
version_added: 1.0.0
author:
  - The kata.hypervisor authors (@kata-hypervisor)
description:
  - Replaces C({version}) and C({arch}) in a path. M(kata.hypervisor.kata_asset) does the same in its options O(kata.hypervisor.kata_asset#module:url)
    and O(kata.hypervisor.kata_asset#module:checksum), but not in O(kata.hypervisor.kata_asset#module:src).
positional: version, arch
options:
  _input:
    description: The path.
    type: str
    required: true
  version:
    description: Replaces C({version}).
    type: str
    required: true
  arch:
    description: Replaces C({arch}). The architecture of the host as C(uname -m) prints it.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Install Firecracker from a directory of the controller
  kata.hypervisor.kata_asset:
    name: firecracker
    version: v1.16.1
    src: "{{ '/srv/firecracker-{version}-{arch}.tgz' | kata.hypervisor.asset_path('v1.16.1', ansible_facts['architecture']) }}"
    checksum: sha256:0f2d1e5fcd0b5aa1d4ac4a7ee0d4fdd4df1b0ea7f0b4b9db2c15a0ad2b2e9c41
"""

RETURN = r"""
_value:
  description: The path with the version and the architecture.
  type: str
  sample: /srv/firecracker-v1.16.1-x86_64.tgz
"""

from typing import Any, Callable


def asset_path(path: str, version: str, arch: str) -> str:
    """The path with the version and the architecture filled in."""
    return str(path).replace("{version}", str(version)).replace("{arch}", str(arch))


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"asset_path": asset_path}
