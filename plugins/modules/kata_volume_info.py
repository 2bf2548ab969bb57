#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_volume_info
short_description: List the volumes of a host and the sandboxes that have them
version_added: 1.0.0
description:
  - Lists the volumes of a host with their sizes, the space that they take, and the sandboxes that have them.
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.directories
  - kata.hypervisor.attributes.info_module
  - kata.hypervisor.attributes.actiongroup_kata
options:
  name:
    description: List only the volume of this name. The list is empty if it does not exist.
    type: str
seealso:
  - module: kata.hypervisor.kata_volume
"""

EXAMPLES = r"""
- name: List the host's volumes
  kata.hypervisor.kata_volume_info:
  register: found

- name: Show the volumes that no sandbox has
  ansible.builtin.debug:
    msg: "{{ found.volumes | selectattr('sandboxes', 'equalto', []) | map(attribute='name') }}"
"""

RETURN = r"""
volumes:
  description: The volumes, sorted by name, each with the facts of RV(kata.hypervisor.kata_volume#module:volume).
  returned: success
  type: list
  elements: dict
  sample: [{name: db-data, size_mb: 20480, used_mb: 70, filesystem: xfs, sandboxes: [{id: db, read_only: false}]}]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import fail_on_error
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import DIRECTORY_SPEC
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.volume_task import list_facts


def main() -> None:
    """List the volumes of this host."""
    module = AnsibleModule(argument_spec={"name": {"type": "str"}, **DIRECTORY_SPEC}, supports_check_mode=True)
    with fail_on_error(module):
        found = list_facts(module.params["state_dir"], module.params["name"])
    module.exit_json(changed=False, volumes=found)


if __name__ == "__main__":
    main()
