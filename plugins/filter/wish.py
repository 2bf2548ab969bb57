# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter kata.hypervisor.wish."""

from __future__ import annotations

DOCUMENTATION = r"""
name: wish
short_description: Say the same of many sandboxes
version_added: 1.0.0
author:
  - The kata.hypervisor authors (@kata-hypervisor)
description:
  - Makes of sandboxes, or of their ids, a list for O(kata.hypervisor.kata_sandboxes#module:sandboxes), in which each has the same options.
options:
  _input:
    description: Ids, or what M(kata.hypervisor.kata_sandbox_info) returns.
    type: list
    elements: raw
    required: true
  _options:
    description: The options by name, as keyword arguments. One that is V(none) is left out.
    type: dict
"""

EXAMPLES = r"""
- name: Pause all that run
  kata.hypervisor.kata_sandboxes:
    sandboxes: "{{ info.sandboxes | kata.hypervisor.wish(state='paused') }}"
"""

RETURN = r"""
_value:
  description: The list.
  type: list
  elements: dict
"""

from typing import Any, Callable

from ansible_collections.kata.hypervisor.plugins.filter.merge_sandboxes import sandbox_id


def wish(sandboxes: Any, **options: Any) -> list[dict[str, Any]]:
    """The list.

    :raises AnsibleFilterError: an item is neither an id nor a sandbox
    """
    given = {name: value for name, value in options.items() if value is not None}
    return [{"id": sandbox_id(sandbox), **given} for sandbox in sandboxes]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"wish": wish}
