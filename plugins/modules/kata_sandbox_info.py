#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_sandbox_info
short_description: List the VM sandboxes of a host
version_added: 1.0.0
description:
  - Lists the sandboxes of a host, with their records and with what their VMMs report now.
  - Stopped, saved, crashed and incomplete sandboxes are listed too, and VMs in O(run_dir) that have no record.
  - Does not wait for locks. A sandbox that another task is changing is V(changing) if it would otherwise look broken.
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.directories
  - kata.hypervisor.attributes.info_module
  - kata.hypervisor.attributes.actiongroup_kata
options:
  ids:
    description:
      - Shell patterns of ids, such as V(web-*). A sandbox is listed if one of them matches.
    type: list
    elements: str
    default: ["*"]
    aliases: [id, name]
  states:
    description:
      - List only sandboxes in these states. An empty list means all.
    type: list
    elements: str
    choices: [started, paused, stopped, saved, crashed, failed, unresponsive, changing, incomplete, unreadable]
    default: []
    aliases: [state]
  hypervisors:
    description:
      - List only sandboxes of these hypervisors. An empty list means all.
    type: list
    elements: str
    choices: [qemu, firecracker, acrn, mock]
    default: []
    aliases: [hypervisor]
  selector:
    description:
      - List only sandboxes whose labels it selects. Its parts are V(name=value), V(name!=value), V(name) for a label that exists and V(!name) for one that
        does not. With commas between them, all must be true.
      - A label that does not exist differs from every value. A sandbox whose record cannot be used is never selected.
    type: str
    default: ""
    aliases: [labels]
  facts:
    description:
      - Return only these facts of each sandbox, and its id and its state. An empty list means all. Fewer facts are faster for many sandboxes.
    type: list
    elements: str
    default: []
seealso:
  - module: kata.hypervisor.kata_sandbox
  - module: kata.hypervisor.kata_host_info
"""

EXAMPLES = r"""
- name: List all sandboxes of the host
  kata.hypervisor.kata_sandbox_info:
  register: result

- name: Show their ids, states and sizes
  ansible.builtin.debug:
    msg: "{{ result.sandboxes | map('dict2items') | map('selectattr', 'key', 'in', ['id', 'state', 'vcpus', 'memory_mb']) }}"

- name: List the web sandboxes that should run and do not
  kata.hypervisor.kata_sandbox_info:
    ids: ["web-*"]
    states: [crashed, failed, unresponsive]

- name: List the web sandboxes by their label, without those of production
  kata.hypervisor.kata_sandbox_info:
    selector: tier=web,env!=prod
"""

RETURN = r"""
sandboxes:
  description: The sandboxes, sorted by id.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The sandbox's id.
      type: str
      returned: always
      sample: web-1
    state:
      description:
        - The current state, V(started), V(paused), V(stopped), V(saved), or one of the following.
        - V(crashed) means that the VM should exist and does not. V(failed) means that the VM exists and its guest does not run any more.
        - V(unresponsive) means that the VMM runs and does not answer. V(changing) means that a task is changing the sandbox.
        - V(incomplete) means that a task was killed while it created or removed the sandbox, or that the VM has no record.
        - V(unreadable) means that the record cannot be used.
      type: str
      returned: always
      sample: crashed
    error:
      description: The error in the record.
      type: dict
      returned: when O(states) is V(unreadable)
      sample: {msg: "sandbox web-1: its record is not complete JSON."}
    hypervisor:
      description:
        - The hypervisor. All further facts are those of RV(kata.hypervisor.kata_sandbox#module:sandbox).
        - RV(kata.hypervisor.kata_sandbox#module:sandbox.guest) has what the guest itself reports, if its agent answers. It can report anything.
      type: str
      returned: when the record can be used
      sample: qemu
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.batch import OBSERVED_STATES, observe_many
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import fail_on_error
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors import HYPERVISORS
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import DIRECTORY_SPEC
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import SandboxSpec


def main() -> None:
    """List the sandboxes of this host."""
    every: dict[str, Any] = {"type": "list", "elements": "str", "default": []}
    argument_spec: dict[str, Any] = {
        "ids": {"type": "list", "elements": "str", "default": ["*"], "aliases": ["id", "name"]},
        "states": {**every, "choices": list(OBSERVED_STATES), "aliases": ["state"]},
        "hypervisors": {**every, "choices": list(HYPERVISORS), "aliases": ["hypervisor"]},
        "selector": {"type": "str", "default": "", "aliases": ["labels"]},
        "facts": every,
        **DIRECTORY_SPEC,
    }
    module = AnsibleModule(argument_spec=argument_spec, supports_check_mode=True)
    params = module.params
    where = SandboxSpec("any", state_dir=params["state_dir"], run_dir=params["run_dir"])
    with fail_on_error(module):
        sandboxes = observe_many(where, params["ids"], params["states"], params["hypervisors"], params["selector"])
    if params["facts"]:
        kept = {"id", "state", "error", *params["facts"]}
        sandboxes = [{name: fact for name, fact in facts.items() if name in kept} for facts in sandboxes]
    module.exit_json(changed=False, sandboxes=sandboxes)


if __name__ == "__main__":
    main()
