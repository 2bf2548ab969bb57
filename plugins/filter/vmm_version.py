# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter kata.hypervisor.vmm_version."""

from __future__ import annotations

DOCUMENTATION = r"""
name: vmm_version
short_description: Find the version in what a VMM prints about itself
version_added: 1.0.0
author:
  - The kata.hypervisor authors (@kata-hypervisor)
description:
  - Finds the version in the output of a program that was run with C(--version) (C(-v) for ACRN's device model).
positional: name
options:
  _input:
    description: The output of the program.
    type: str
    required: true
  name:
    description: Which program it is.
    type: str
    choices: [acrn, firecracker, qemu, virtiofsd]
    required: true
"""

EXAMPLES = r"""
- name: Get the version of QEMU
  ansible.builtin.command:
    argv: [qemu-system-x86_64, --version]
  register: answer
  changed_when: false

- name: Show the version of QEMU
  ansible.builtin.debug:
    msg: "{{ answer.stdout | kata.hypervisor.vmm_version('qemu') }}"
"""

RETURN = r"""
_value:
  description: The version. Empty if the output is not that of the program.
  type: str
  sample: 7.2.22
"""

import re
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

PATTERNS = {
    "acrn": r"([0-9]+\.[0-9.]+)",
    "firecracker": r"Firecracker v?([0-9.]+)",
    "qemu": r"QEMU emulator version ([0-9.]+)",
    "virtiofsd": r"virtiofsd ([0-9.]+)",
}


def vmm_version(output: str, name: str) -> str:
    """The version in the output; empty if there is none.

    :raises AnsibleFilterError: there is no such program
    """
    if name not in PATTERNS:
        raise AnsibleFilterError(f"The name of the program must be one of {', '.join(PATTERNS)}, not {name!r}")
    found = re.search(PATTERNS[name], str(output))
    return found[1] if found else ""


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"vmm_version": vmm_version}
