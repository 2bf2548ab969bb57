#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_network
short_description: Create a network for the sandboxes of a host
version_added: 1.0.0
description:
  - Creates a managed network on a host. It is a bridge with addresses for guests, DHCP and names (dnsmasq), and NAT, published ports, isolation and
    egress rules (nftables).
  - Sandboxes use it with their option C(network). The leases of sandboxes survive a change of the network.
  - All rules are in tables of their own. Rules of others, such as those of docker or firewalld, are not changed. C(docs/networks.md) explains
    what must be allowed there.
  - On hosts with systemd, a unit sets the network up again at boot. Without systemd, the network is up until the next reboot, and the task prints a warning.
requirements:
  - On the host, C(dnsmasq), C(nft) and C(ip). The role P(kata.hypervisor.kata_network#role) installs them.
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.directories
  - kata.hypervisor.attributes
  - kata.hypervisor.attributes.actiongroup_kata
options:
  name:
    description:
      - The network's name on its host, 1 to 30 of the characters C(a-z 0-9 -). The first one must be a letter.
    type: str
    required: true
  state:
    description:
      - V(present) creates the network, changes it, or restores what is missing of it.
      - V(absent) removes everything of it from the host. The task fails while sandboxes use the network, unless O(force) is set.
    type: str
    choices: [present, absent]
    default: present
  force:
    description:
      - Remove the network although sandboxes use it. They keep running without it.
    type: bool
    default: false
  subnet:
    description:
      - The IPv4 subnet in CIDR notation. Required to create a network.
      - It must not overlap an address or a route of the host, or another network.
      - O(subnet), O(gateway), O(bridge) and an existing O(subnet6) cannot change while sandboxes use the network.
    type: str
  gateway:
    description:
      - The host's address in O(subnet). The default is the first one.
    type: str
  subnet6:
    description:
      - An IPv6 subnet with the prefix C(/64), such as one of the unique local addresses (RFC 4193). The default is none.
    type: str
  gateway6:
    description:
      - The host's address in O(subnet6). The default is the first one.
    type: str
  bridge:
    description:
      - The name of the bridge. The default follows from O(name).
    type: str
  domain:
    description:
      - The domain of the guests' names. The default is O(name) with C(.internal).
      - C(ID.DOMAIN) resolves in the guests of the network and, where systemd-resolved runs, on the host.
    type: str
  nat:
    description:
      - Whether guests reach other hosts with the host's addresses. Other hosts then reach only published ports. The default is V(true).
      - With V(false), the network is routed. Other hosts need a route to it and reach all guests.
    type: bool
  dhcp_range:
    description:
      - Addresses for interfaces on the bridge that are not those of a sandbox, C(FIRST-LAST). The default is none, so that such interfaces get no address.
      - V("") removes the range.
    type: str
  dns_servers:
    description:
      - The DNS servers for names outside the network. The default is the servers of the host.
    type: list
    elements: str
seealso:
  - module: kata.hypervisor.kata_network_info
  - module: kata.hypervisor.kata_sandbox
"""

EXAMPLES = r"""
- name: Create a network
  kata.hypervisor.kata_network:
    name: default
    subnet: 10.61.0.0/24
    subnet6: fd61:2b1c:9d00::/64

- name: Remove a network
  kata.hypervisor.kata_network:
    name: lab
    state: absent
"""

RETURN = r"""
actions:
  description: What was done, or would be done without check mode.
  returned: success
  type: list
  elements: str
  sample: [create the network default]
network:
  description: The network after the task.
  returned: success
  type: dict
  contains:
    name:
      description: The network's name.
      type: str
      returned: always
      sample: default
    state:
      description: V(up), V(down), V(degraded) if something of it is missing, or V(absent).
      type: str
      returned: always
      sample: up
    missing:
      description: What is missing.
      type: list
      elements: str
      returned: when the network exists
      sample: [nftables rules]
    subnet:
      description: The IPv4 subnet. RV(network.gateway) is the host's address in it.
      type: str
      returned: when the network exists
      sample: 10.61.0.0/24
    gateway:
      description: The host's IPv4 address in the network.
      type: str
      returned: when the network exists
      sample: 10.61.0.1
    subnet6:
      description: The IPv6 subnet; empty for none.
      type: str
      returned: when the network exists
      sample: fd61:2b1c:9d00::/64
    gateway6:
      description: The host's IPv6 address in the network; empty for none.
      type: str
      returned: when the network exists
      sample: fd61:2b1c:9d00::1
    bridge:
      description: The name of the bridge.
      type: str
      returned: when the network exists
      sample: kata-default
    domain:
      description: The domain of the guests' names.
      type: str
      returned: when the network exists
      sample: default.internal
    nat:
      description: Whether guests reach other hosts with the host's addresses.
      type: bool
      returned: when the network exists
      sample: true
    dhcp_range:
      description: The addresses for interfaces that are not those of a sandbox; empty for none.
      type: str
      returned: when the network exists
      sample: ""
    dns_servers:
      description: The DNS servers for other names; empty for those of the host.
      type: list
      elements: str
      returned: when the network exists
      sample: []
    unit:
      description: The systemd unit that sets the network up at boot; empty on a host without systemd.
      type: str
      returned: when the network exists
      sample: kata-network@default.service
    names_on_host:
      description: Whether the host itself resolves the guests' names, which needs systemd-resolved.
      type: bool
      returned: when the network exists
      sample: true
    leases:
      description:
        - The sandboxes of the network, by id, each with its C(address), C(address6), C(mac), C(name), C(ports), C(egress) and C(isolated).
          C(exists) is false if the sandbox has no record any more.
      type: list
      elements: dict
      returned: when the network exists
      sample: [{id: web-1, address: 10.61.0.72, name: web-1.default.internal, ports: ["8080:80"], egress: open, isolated: false, exists: true}]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import fail_on_error
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import DIRECTORY_SPEC
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks.boot import main as _boot_program
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.networks.management import (
    OPTIONS,
    converge_network,
)

# The program that runs at boot is made of this task's payload, so the payload must contain it.
BOOT_PROGRAM = _boot_program


def main() -> None:
    """Create, change or remove a network."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "force": {"type": "bool", "default": False},
            "subnet": {"type": "str"},
            "gateway": {"type": "str"},
            "subnet6": {"type": "str"},
            "gateway6": {"type": "str"},
            "bridge": {"type": "str"},
            "domain": {"type": "str"},
            "nat": {"type": "bool"},
            "dhcp_range": {"type": "str"},
            "dns_servers": {"type": "list", "elements": "str"},
            **DIRECTORY_SPEC,
        },
        supports_check_mode=True,
    )
    with fail_on_error(module):
        result = converge_network(
            module.params["name"],
            {option: module.params[option] for option in OPTIONS},
            module.params["state_dir"],
            present=module.params["state"] == "present",
            force=module.params["force"],
            check=module.check_mode,
        )
    for warning in result.pop("warnings"):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
