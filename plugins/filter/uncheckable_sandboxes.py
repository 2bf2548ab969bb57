# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter kata.hypervisor.uncheckable_sandboxes."""

from __future__ import annotations

DOCUMENTATION = r"""
name: uncheckable_sandboxes
short_description: List the sandboxes that check mode cannot check yet
version_added: 1.0.0
author:
  - The kata.hypervisor authors (@kata-hypervisor)
description:
  - In check mode, roles install nothing. A sandbox that needs a VMM, a kernel or an image that is not installed yet can only be predicted.
  - Without a VMM, this concerns the sandboxes that do not exist. Without a kernel or an image, it concerns all sandboxes, since their paths are not known.
  - Sandboxes whose state is C(absent) need none of them.
positional: missing, existing
options:
  _input:
    description: The sandboxes that a host should have, as P(kata.hypervisor.merge_sandboxes#filter) returns them.
    type: list
    elements: dict
    required: true
  missing:
    description: What is not installed yet. Any of V(VMM), V(kernel) and V(image).
    type: list
    elements: str
    required: true
  existing:
    description: The sandboxes that exist on the host, as M(kata.hypervisor.kata_sandbox_info) returns them.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Show what this play will start
  ansible.builtin.debug:
    msg: "{{ sandboxes | kata.hypervisor.uncheckable_sandboxes(['VMM', 'kernel'], info.sandboxes) }}"
"""

RETURN = r"""
_value:
  description: The ids of the sandboxes.
  type: list
  elements: str
  sample: [web-1, web-2]
"""

from typing import Any, Callable, Collection, Iterable

from ansible_collections.kata.hypervisor.plugins.filter.merge_sandboxes import sandbox_id

#: Every sandbox is defined by these, whether it exists or not.
NEEDED_BY_ALL = {"kernel", "image"}


def uncheckable_sandboxes(sandboxes: Any, missing: Collection[str], existing: Iterable[Any] = ()) -> list[str]:
    """The ids of the sandboxes that check mode cannot check.

    :raises AnsibleFilterError: a sandbox has no id
    """
    if not missing:
        return []
    known = set() if NEEDED_BY_ALL & set(missing) else {sandbox_id(sandbox) for sandbox in existing}
    wanted = [sandbox_id(sandbox) for sandbox in sandboxes if sandbox.get("state") != "absent"]
    return [identity for identity in wanted if identity not in known]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"uncheckable_sandboxes": uncheckable_sandboxes}
