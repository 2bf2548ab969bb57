# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter kata.hypervisor.sandbox_steps."""

from __future__ import annotations

DOCUMENTATION = r"""
name: sandbox_steps
short_description: Divide sandboxes into the steps in which they are started
version_added: 1.0.0
author:
  - The kata.hypervisor authors (@kata-hypervisor)
description:
  - Sorts sandboxes by their C(order) (0 where it is not given) and gives each the defaults that it does not set itself.
  - The sandboxes of one step can be started side by side; the next step follows when all of them are ready.
options:
  _input:
    description: Sandboxes, as P(kata.hypervisor.merge_sandboxes#filter) returns them.
    type: list
    elements: dict
    required: true
  defaults:
    description: Options of every sandbox that does not set them. A sandbox that is to be absent gets none.
    type: dict
    default: {}
  found:
    description:
      - Options that count less than O(defaults), such as the paths of a kernel and an image that roles installed. Empty ones are ignored.
      - A sandbox with an image or an initrd of its own gets no other one of these, and one with C(boot=firmware) no kernel either.
    type: dict
    default: {}
  qemu_user:
    description: The C(vmm_user) of sandboxes whose hypervisor is QEMU. It counts less than O(defaults). Empty for none.
    type: str
    default: ""
  state:
    description: The state of all of them. Empty leaves it to each.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Start the sandboxes step by step
  kata.hypervisor.kata_sandboxes:
    sandboxes: "{{ item.sandboxes }}"
  loop: "{{ sandboxes | kata.hypervisor.sandbox_steps(defaults={'memory_mb': 512}) }}"
"""

RETURN = r"""
_value:
  description: The steps, in their order.
  type: list
  elements: dict
  contains:
    order:
      description: The order that the sandboxes of this step have.
      type: int
    sandboxes:
      description: The sandboxes, for O(kata.hypervisor.kata_sandboxes#module:sandboxes).
      type: list
      elements: dict
"""

from typing import Any, Callable

from ansible.errors import AnsibleFilterError

DEFAULT_HYPERVISOR = "qemu"


def sandbox_steps(
    sandboxes: Any,
    defaults: dict[str, Any] | None = None,
    found: dict[str, Any] | None = None,
    qemu_user: str = "",
    state: str = "",
) -> list[dict[str, Any]]:
    """The steps, each a dictionary of `order` and `sandboxes`.

    :raises AnsibleFilterError: an order is not an integer
    """
    defaults = defaults or {}
    found = {name: value for name, value in (found or {}).items() if value}
    steps: dict[int, list[dict[str, Any]]] = {}
    for sandbox in sandboxes:
        try:
            order = int(sandbox.get("order", 0))
        except (TypeError, ValueError) as problem:
            raise AnsibleFilterError(
                f"The order of sandbox {sandbox.get('id')} must be an integer, not {sandbox['order']!r}"
            ) from problem
        known: dict[str, Any] = {}
        if "absent" not in (state, sandbox.get("state")):
            own = {**defaults, **sandbox}
            usable = {name: value for name, value in found.items() if name not in _replaced(own)}
            if qemu_user and own.get("hypervisor", DEFAULT_HYPERVISOR) == "qemu":
                usable["vmm_user"] = qemu_user
            known = {**usable, **defaults}
        options = {**known, **sandbox, **({"state": state} if state else {})}
        options.pop("order", None)
        steps.setdefault(order, []).append(options)
    return [{"order": order, "sandboxes": steps[order]} for order in sorted(steps)]


def _replaced(own: dict[str, Any]) -> set[str]:
    """The options of what a sandbox boots that a role's must not be added to, given its own options."""
    replaced: set[str] = set()
    if own.get("image_path") or own.get("image"):
        replaced |= {"image_path", "initrd_path"}
    if own.get("initrd_path") or own.get("initrd"):
        replaced |= {"image_path", "initramfs_path", "initrd_path"}
    if own.get("kernel"):
        replaced.add("kernel_path")
    if own.get("boot") == "firmware":
        replaced |= {"kernel_path", "initrd_path", "initramfs_path"}
    return replaced


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"sandbox_steps": sandbox_steps}
