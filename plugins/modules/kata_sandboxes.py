#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_sandboxes
short_description: Run many VM sandboxes of a host in one task
version_added: 1.0.0
description:
  - Creates, changes and removes a list of sandboxes in one task, several at a time. Each item has the options of M(kata.hypervisor.kata_sandbox).
  - If one sandbox fails, the others are still changed. Each has its own result. The task fails if any sandbox failed.
  - Items with invalid options fail the task before anything is changed.
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.sandbox_options.items
  - kata.hypervisor.directories
  - kata.hypervisor.attributes
  - kata.hypervisor.attributes.actiongroup_kata
options:
  parallel:
    description:
      - How many sandboxes are changed at the same time.
      - Sandboxes whose guests were asked to shut down do not count while they wait for O(sandboxes[].stop_timeout), so all of them wait together.
    type: int
    default: 8
seealso:
  - module: kata.hypervisor.kata_sandbox
  - module: kata.hypervisor.kata_sandbox_info
"""

EXAMPLES = r"""
- name: Start three sandboxes with common options
  kata.hypervisor.kata_sandboxes:
    sandboxes: "{{ [{'id': 'web-0'}, {'id': 'web-1'}, {'id': 'db', 'memory_mb': 1024}] | map('combine', common) }}"
  vars:
    common:
      image: debian-12
      root_disk_mb: 10240
      network: default

- name: Pause one sandbox and remove another one
  kata.hypervisor.kata_sandboxes:
    sandboxes:
      - id: web-0
        state: paused
      - id: web-1
        state: absent
"""

RETURN = r"""
sandboxes:
  description: One result for each item, in the same order.
  returned: when all items have valid options
  type: list
  elements: dict
  contains:
    id:
      description: The sandbox's id.
      type: str
      returned: always
      sample: web-0
    changed:
      description: Whether the sandbox was changed.
      type: bool
      returned: always
      sample: true
    actions:
      description: The steps that were taken, or would be taken without check mode.
      type: list
      elements: str
      returned: when the sandbox did not fail
      sample: [pause]
    sandbox:
      description: The sandbox after the task, see RV(kata.hypervisor.kata_sandbox#module:sandbox).
      type: dict
      returned: when the sandbox did not fail
      sample: {id: web-0, state: paused, vcpus: 1}
    failed:
      description: Set if the sandbox failed.
      type: bool
      returned: when the sandbox failed
      sample: true
    msg:
      description: The error message.
      type: str
      returned: when the sandbox failed
      sample: "sandbox web-0: the VMM ended while it was starting."
failed_ids:
  description: Ids of the sandboxes that failed.
  returned: when all items have valid options
  type: list
  elements: str
  sample: []
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.batch import PARALLEL, converge_many, summary
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import fail_on_error
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors import HYPERVISORS
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import (
    DIRECTORY_SPEC,
    parse_spec,
    sandbox_item_spec,
    take_params,
)


def main() -> None:
    """Bring many sandboxes to the requested states."""
    argument_spec: dict[str, Any] = {
        "sandboxes": {"type": "list", "elements": "dict", "required": True, "options": sandbox_item_spec(HYPERVISORS)},
        "parallel": {"type": "int", "default": PARALLEL},
        **DIRECTORY_SPEC,
    }
    module = AnsibleModule(argument_spec=argument_spec, supports_check_mode=True)
    params = take_params(module)
    directories = {name: params[name] for name in DIRECTORY_SPEC}
    with fail_on_error(module):
        specs = [parse_spec({**item, **directories}) for item in params["sandboxes"]]
        results = converge_many(specs, module.check_mode, params["parallel"])
    for result in results:
        for warning in result.pop("warnings", []):
            module.warn(f"sandbox {result['id']}: {warning}")
    result = summary(results)
    if result["failed_ids"]:
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
