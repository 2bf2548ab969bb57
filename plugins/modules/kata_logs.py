#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_logs
short_description: Show the logs of VM sandboxes
version_added: 1.0.0
description:
  - Returns the last lines of what guests have printed on their consoles, and of the messages of their VMMs. With O(follow), shows in the terminal what
    is added to them. The playbook C(kata.hypervisor.logs) uses it.
  - Characters that are not printable, such as escape sequences, are returned and shown as escapes (V(\\x1b)).
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.directories
  - kata.hypervisor.attributes.actiongroup_kata
  - kata.hypervisor.attributes.info_module
  - kata.hypervisor.attributes.actiongroup_kata
options:
  ids:
    description:
      - Shell patterns of ids, such as V(web-*).
    type: list
    elements: str
    default: ["*"]
    aliases: [id, name]
  selector:
    description: Only sandboxes with these labels, see O(kata.hypervisor.kata_sandbox_info#module:selector).
    type: str
    default: ""
  lines:
    description: How many lines of each log, at most 10000.
    type: int
    default: 50
  follow:
    description:
      - Whether to show what is added to the logs until the run is interrupted with B(Ctrl-C) or the task's C(timeout) ends it. The lines go to the standard
        output of the command, each with its host, sandbox and log. The connection of the host must be C(ssh) or C(local).
    type: bool
    default: false
seealso:
  - module: kata.hypervisor.kata_console
"""

EXAMPLES = r"""
- name: Read the last ten lines of the web sandboxes
  kata.hypervisor.kata_logs:
    ids: ["web-*"]
    lines: 10
  register: result
"""

RETURN = r"""
logs:
  description: The logs, sorted by the sandboxes' ids.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The sandbox's id.
      type: str
      returned: always
      sample: web-1
    console:
      description: The last lines of the console.
      type: list
      elements: str
      returned: always
      sample: ["[    0.000000] Linux version 6.1.0"]
    console_path:
      description: Path of the console's log, empty if the sandbox has none.
      type: str
      returned: always
      sample: /run/kata-hypervisor/web-1/console.log
    vmm:
      description: The last lines of the VMM's messages.
      type: list
      elements: str
      returned: always
      sample: []
    vmm_path:
      description: Path of the VMM's log, empty if the sandbox has none.
      type: str
      returned: always
      sample: /run/kata-hypervisor/web-1/vmm.log
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.logs import read_logs
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import fail_on_error
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import DIRECTORY_SPEC
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import SandboxSpec


def main() -> None:
    """Read the logs of the sandboxes of this host."""
    module = AnsibleModule(
        argument_spec={
            "ids": {"type": "list", "elements": "str", "default": ["*"], "aliases": ["id", "name"]},
            "selector": {"type": "str", "default": ""},
            "lines": {"type": "int", "default": 50},
            "follow": {"type": "bool", "default": False},
            **DIRECTORY_SPEC,
        },
        supports_check_mode=True,
    )
    params = module.params
    where = SandboxSpec("any", state_dir=params["state_dir"], run_dir=params["run_dir"])
    with fail_on_error(module):
        logs = read_logs(where, params["ids"], params["selector"], params["lines"])
    module.exit_json(changed=False, logs=logs)


if __name__ == "__main__":
    main()
