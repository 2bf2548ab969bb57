#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_sandbox_info
short_description: Tell what sandboxes there are on a host
version_added: 1.0.0
description:
  - Lists the sandboxes of a host, with what is recorded of them and with what their VMMs report now.
  - Sandboxes that are stopped, saved, crashed or half-made are listed too, and so are VMs in O(run_dir) that have no record.
  - Waits for no lock. A sandbox that another task works on is V(changing), where what is seen in between would look like a fault.
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.directories
  - kata.hypervisor.attributes.info_module
  - kata.hypervisor.attributes.actiongroup_kata
options:
  ids:
    description:
      - Shell patterns of ids, such as V(web-*). A sandbox is listed when any of them matches.
    type: list
    elements: str
    default: ["*"]
    aliases: [id, name]
  states:
    description:
      - List only sandboxes in these states. With an empty list, all.
    type: list
    elements: str
    choices: [started, paused, stopped, saved, crashed, failed, unresponsive, changing, incomplete, unreadable]
    default: []
    aliases: [state]
  hypervisors:
    description:
      - List only sandboxes of these hypervisors. With an empty list, all.
    type: list
    elements: str
    choices: [qemu, firecracker, acrn, mock]
    default: []
    aliases: [hypervisor]
seealso:
  - module: kata.hypervisor.kata_sandbox
  - module: kata.hypervisor.kata_host_info
"""

EXAMPLES = r"""
- name: Look at all sandboxes of the host
  kata.hypervisor.kata_sandbox_info:
  register: result

- name: Show them as a table
  ansible.builtin.debug:
    msg: "{{ result.sandboxes | map('dict2items') | map('selectattr', 'key', 'in', ['id', 'state', 'vcpus', 'memory_mb']) }}"

- name: Look for web sandboxes that should run and do not
  kata.hypervisor.kata_sandbox_info:
    ids: ["web-*"]
    states: [crashed, failed, unresponsive]
"""

RETURN = r"""
sandboxes:
  description: The sandboxes, sorted by id.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Its id.
      type: str
      returned: always
      sample: web-1
    state:
      description:
        - V(started), V(paused), V(stopped) or V(saved); V(crashed), when there is no VM and should be one; V(failed), when the VM is there and its guest
          is lost; V(unresponsive), when the VMM runs and does not answer; V(changing), when a task works on it; V(incomplete), when a task was killed while
          it made or removed it, or when there is no record; V(unreadable), when its record cannot be used.
      type: str
      returned: always
      sample: crashed
    error:
      description: What is wrong with its record.
      type: dict
      returned: when O(states) is V(unreadable)
      sample: {msg: "sandbox web-1: its record is not complete JSON."}
    hypervisor:
      description: What runs it. All further facts are those of RV(kata.hypervisor.kata_sandbox#module:sandbox).
      type: str
      returned: when its record can be used
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
        **DIRECTORY_SPEC,
    }
    module = AnsibleModule(argument_spec=argument_spec, supports_check_mode=True)
    wish = module.params
    where = SandboxSpec("any", state_dir=wish["state_dir"], run_dir=wish["run_dir"])
    with fail_on_error(module):
        sandboxes = observe_many(where, wish["ids"], wish["states"], wish["hypervisors"])
    module.exit_json(changed=False, sandboxes=sandboxes)


if __name__ == "__main__":
    main()
