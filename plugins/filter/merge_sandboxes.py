# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter kata.hypervisor.merge_sandboxes."""

from __future__ import annotations

DOCUMENTATION = r"""
name: merge_sandboxes
short_description: Merge lists of sandboxes by id
version_added: 1.0.0
author:
  - The kata.hypervisor authors (@kata-hypervisor)
description:
  - Merges lists of sandboxes into one list with one entry for each id. An option of a later list replaces the same option of an earlier one.
  - Ids are compared as text, so C(id=1) and C(id="1") are the same sandbox.
options:
  _input:
    description: Lists of sandboxes. An entry may itself be a list.
    type: list
    elements: raw
    required: true
"""

EXAMPLES = r"""
- name: Add to the sandboxes of a group those of the host
  ansible.builtin.set_fact:
    sandboxes: "{{ [group_sandboxes, host_sandboxes] | kata.hypervisor.merge_sandboxes }}"
"""

RETURN = r"""
_value:
  description: The merged list, in the order in which the ids first appear.
  type: list
  elements: dict
"""

from typing import Any, Callable

from ansible.errors import AnsibleFilterError


def sandbox_id(sandbox: Any) -> str:
    """The id of a sandbox, or an id itself, as text.

    :raises AnsibleFilterError: it is neither
    """
    identity = sandbox.get("id") if isinstance(sandbox, dict) else sandbox
    if isinstance(identity, bool) or not isinstance(identity, (str, int, float)):
        raise AnsibleFilterError(f"This must be a sandbox with an id, or the id of one: {sandbox!r}")
    return str(identity)


def merge_sandboxes(lists: Any) -> list[dict[str, Any]]:
    """The merged list.

    :raises AnsibleFilterError: an entry is not a dictionary with an id
    """
    merged: dict[str, dict[str, Any]] = {}
    for entry in lists:
        for sandbox in entry if isinstance(entry, (list, tuple)) else [entry]:
            if not isinstance(sandbox, dict):
                raise AnsibleFilterError(f"This must be a dictionary that describes a sandbox: {sandbox!r}")
            identity = sandbox_id(sandbox)
            merged[identity] = {**merged.get(identity, {}), **sandbox, "id": identity}
    return list(merged.values())


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"merge_sandboxes": merge_sandboxes}
