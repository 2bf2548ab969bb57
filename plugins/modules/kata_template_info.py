#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_template_info
short_description: List the templates of a host and whether they can be used
version_added: 1.0.0
description:
  - Lists the templates of a host. Each template's kernel, initrd, image, VMM and machine are compared with those that it was created with.
  - Does not wait for locks, so a template that another task is creating can be V(incomplete).
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.directories
  - kata.hypervisor.attributes.info_module
  - kata.hypervisor.attributes.actiongroup_kata
seealso:
  - module: kata.hypervisor.kata_template
"""

EXAMPLES = r"""
- name: List the host's templates
  kata.hypervisor.kata_template_info:
  register: found

- name: Show the templates that must be created again, and why
  ansible.builtin.debug:
    msg: "{{ found.templates | rejectattr('state', 'eq', 'ready') | items2dict(key_name='id', value_name='stale') }}"
"""

RETURN = r"""
templates:
  description:
    - The templates, sorted by id, each with the facts of RV(kata.hypervisor.kata_template#module:template). A template whose record cannot be used has
      the state V(unreadable).
  returned: success
  type: list
  elements: dict
  sample: [{id: base, state: ready, stale: [], clones: [web-0, web-1]}]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.template_building import list_templates
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import fail_on_error
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import DIRECTORY_SPEC
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import SandboxSpec


def main() -> None:
    """List the templates of this host."""
    module = AnsibleModule(argument_spec=dict(DIRECTORY_SPEC), supports_check_mode=True)
    where = SandboxSpec("any", state_dir=module.params["state_dir"], run_dir=module.params["run_dir"])
    with fail_on_error(module):
        templates = list_templates(where)
    module.exit_json(changed=False, templates=templates)


if __name__ == "__main__":
    main()
