# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter kata.hypervisor.sandbox_items."""

from __future__ import annotations

DOCUMENTATION = r"""
name: sandbox_items
short_description: Give many sandboxes the same options
version_added: 1.0.0
author:
  - The kata.hypervisor authors (@kata-hypervisor)
description:
  - Builds the list for O(kata.hypervisor.kata_sandboxes#module:sandboxes) from sandboxes or their ids, and gives each item the same options.
  - P(kata.hypervisor.wish#filter) is the old name of this filter. It is deprecated.
options:
  _input:
    description: Ids of sandboxes, or sandboxes as M(kata.hypervisor.kata_sandbox_info) returns them.
    type: list
    elements: raw
    required: true
  _options:
    description: The options of every item, as keyword arguments. An option that is V(none) is omitted.
    type: dict
"""

EXAMPLES = r"""
- name: List the sandboxes that run
  kata.hypervisor.kata_sandbox_info:
    states: [started]
  register: info

- name: Pause the sandboxes that run
  kata.hypervisor.kata_sandboxes:
    sandboxes: "{{ info.sandboxes | kata.hypervisor.sandbox_items(state='paused') }}"

- name: Remove two sandboxes
  kata.hypervisor.kata_sandboxes:
    sandboxes: "{{ ['web-1', 'web-2'] | kata.hypervisor.sandbox_items(state='absent') }}"
"""

RETURN = r"""
_value:
  description: One item for each sandbox, with its id and the options.
  type: list
  elements: dict
  sample:
    - {id: web-1, state: absent}
    - {id: web-2, state: absent}
"""

from typing import Any, Callable

from ansible_collections.kata.hypervisor.plugins.filter.merge_sandboxes import sandbox_id


def sandbox_items(sandboxes: Any, **options: Any) -> list[dict[str, Any]]:
    """The items.

    :raises AnsibleFilterError: an item is neither an id nor a sandbox
    """
    given = {name: value for name, value in options.items() if value is not None}
    return [{"id": sandbox_id(sandbox), **given} for sandbox in sandboxes]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"sandbox_items": sandbox_items}
