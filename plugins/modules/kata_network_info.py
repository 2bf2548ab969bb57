#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_network_info
short_description: List the networks of a host and their sandboxes
version_added: 1.0.0
description:
  - Lists the managed networks of a host, whether each one is up, and the addresses and ports of its sandboxes. Takes no lock.
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.directories
  - kata.hypervisor.attributes.info_module
  - kata.hypervisor.attributes.actiongroup_kata
options:
  name:
    description:
      - Only this network. The default is all.
    type: str
seealso:
  - module: kata.hypervisor.kata_network
"""

EXAMPLES = r"""
- name: List the host's networks
  kata.hypervisor.kata_network_info:
  register: found

- name: Show the addresses of the sandboxes
  ansible.builtin.debug:
    msg: "{{ found.networks | map(attribute='leases') | flatten | items2dict(key_name='id', value_name='address') }}"
"""

RETURN = r"""
networks:
  description:
    - The networks, sorted by name, each with the facts of RV(kata.hypervisor.kata_network#module:network). A network whose definition or leases
      cannot be used has the state V(unreadable) and an C(error).
  returned: success
  type: list
  elements: dict
  sample: [{name: default, state: up, subnet: 10.61.0.0/24, leases: [{id: web-1, address: 10.61.0.72}]}]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import fail_on_error
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import DIRECTORY_SPEC
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks.management import list_networks


def main() -> None:
    """List the networks of this host."""
    module = AnsibleModule(
        argument_spec={"name": {"type": "str"}, **DIRECTORY_SPEC},
        supports_check_mode=True,
    )
    with fail_on_error(module):
        networks = list_networks(module.params["state_dir"], [module.params["name"]] if module.params["name"] else [])
    module.exit_json(changed=False, networks=networks)


if __name__ == "__main__":
    main()
