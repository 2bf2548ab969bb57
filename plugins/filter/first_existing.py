# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter kata.hypervisor.first_existing."""

from __future__ import annotations

DOCUMENTATION = r"""
name: first_existing
short_description: Choose the first file that exists of each kind
version_added: 1.0.0
author:
  - The kata.hypervisor authors (@kata-hypervisor)
description:
  - Takes the results of M(ansible.builtin.stat) in a loop over candidates, and chooses for each kind of file the first candidate that exists.
options:
  _input:
    description: The results of the loop. Each item of the loop is a dictionary with the keys C(kind) and C(path). Skipped results do not count.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Look for the firmware
  ansible.builtin.stat:
    path: "{{ item.path }}"
  loop:
    - {kind: code, path: /usr/share/OVMF/OVMF_CODE_4M.fd}
    - {kind: code, path: /usr/share/OVMF/OVMF_CODE.fd}
    - {kind: variables, path: /usr/share/OVMF/OVMF_VARS_4M.fd}
  register: candidates

- name: Show where the firmware is
  ansible.builtin.debug:
    msg: "{{ candidates.results | kata.hypervisor.first_existing }}"
"""

RETURN = r"""
_value:
  description: The path of each kind that has a file.
  type: dict
  sample:
    code: /usr/share/OVMF/OVMF_CODE_4M.fd
    variables: /usr/share/OVMF/OVMF_VARS_4M.fd
"""

from typing import Any, Callable, Iterable


def first_existing(results: Iterable[dict[str, Any]]) -> dict[str, str]:
    """The path of each kind."""
    found: dict[str, str] = {}
    for result in results:
        if result.get("stat", {}).get("exists"):
            found.setdefault(str(result["item"]["kind"]), str(result["item"]["path"]))
    return found


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"first_existing": first_existing}
