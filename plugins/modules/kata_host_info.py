#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_host_info
short_description: Show what a host offers to VM sandboxes
version_added: 1.0.0
description:
  - Returns the accelerator of a host's sandboxes with the reason, the installed hypervisors with their versions and capabilities,
    and the host's memory, huge pages and devices.
  - KVM can be present and still not work. So this module runs guest code under KVM before it reports that KVM works, like a sandbox with
    O(kata.hypervisor.kata_sandbox#module:accelerator=auto).
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.directories
  - kata.hypervisor.attributes.info_module
  - kata.hypervisor.attributes.actiongroup_kata
options:
  qemu_paths:
    description:
      - QEMU programs to examine. The default is those in the usual places.
    type: list
    elements: path
    default: []
  firecracker_paths:
    description:
      - Firecracker programs to examine. The default is those in the usual places. The jailer is searched beside each of them and in the usual places.
    type: list
    elements: path
    default: []
  acrn_dm_paths:
    description:
      - Device models of ACRN to examine. The default is C(/usr/bin/acrn-dm).
    type: list
    elements: path
    default: []
  kernel_path:
    description:
      - A guest kernel on the host, to test KVM with. By default a test ROM is used.
    type: path
    aliases: [kernel]
  probe:
    description:
      - Whether to run guest code to test KVM, which takes a few seconds on hosts where KVM is present but unusable.
    type: bool
    default: true
seealso:
  - module: kata.hypervisor.kata_sandbox
  - module: kata.hypervisor.kata_sandbox_info
"""

EXAMPLES = r"""
- name: Get the facts of the host
  kata.hypervisor.kata_host_info:
  register: result

- name: Show the accelerator and the reason
  ansible.builtin.debug:
    msg: "{{ result.host.accelerator.accelerator }}, because {{ result.host.accelerator.reason }}"
"""

RETURN = r"""
host:
  description: The host's facts.
  returned: success
  type: dict
  contains:
    accelerator:
      description: The accelerator of sandboxes, C(kvm) or C(tcg), the reason, and what was tested (C(device), C(rom) or C(kernel)).
      type: dict
      returned: always
      sample: {accelerator: tcg, evidence: device, reason: /dev/kvm does not exist}
    hypervisors:
      description:
        - The hypervisors that were found, whether they can be used or why not, and the capabilities of their sandboxes.
        - For Firecracker also the capabilities with O(kata.hypervisor.kata_sandbox#module:enable_pci), the known vulnerabilities, and the jailer. For
          ACRN also whether it identifies VMs by C(uuid) or C(name).
      type: list
      elements: dict
      returned: always
      sample:
        - hypervisor: qemu
          path: /usr/bin/qemu-system-x86_64
          version: 7.2.22
          usable: true
          reason: ""
          capabilities: {pause: true, save: true, vcpu_hotplug: true, vcpu_unplug: false}
        - hypervisor: firecracker
          path: /usr/local/bin/firecracker
          version: 1.16.1
          usable: true
          reason: ""
          capabilities: {pause: true, save: true, vcpu_hotplug: false, vcpu_unplug: false}
          capabilities_with_pci: {block_device_hotplug: true}
          known_vulnerabilities: []
          jailer: {path: /usr/local/bin/jailer, version: 1.16.1, usable: true, reason: "", known_vulnerabilities: []}
    architecture:
      description: The host's architecture.
      type: str
      returned: always
      sample: x86_64
    kernel:
      description: The host's kernel.
      type: str
      returned: always
      sample: 6.1.0-30-amd64
    cpus:
      description: Number of CPUs of the host.
      type: int
      returned: always
      sample: 8
    memory:
      description: Total memory of the host, and memory available to a new process, in MiB.
      type: dict
      returned: always
      sample: {total_mb: 32000, available_mb: 24000}
    huge_pages:
      description: Pools of huge pages.
      type: list
      elements: dict
      returned: always
      sample: [{size_kb: 2048, total: 512, free: 512}]
    is_virtual_machine:
      description: Whether the host is itself a VM, null if unknown.
      type: bool
      returned: always
      sample: false
    nested_virtualization:
      description: Whether guests of this host can use KVM themselves, null if KVM is not loaded.
      type: bool
      returned: always
      sample: true
    devices:
      description: Device nodes that some sandbox devices need, whether they exist, and whether this task's user can open them.
      type: dict
      returned: always
      sample: {vhost_net: {path: /dev/vhost-net, exists: true, accessible: true}}
    free_space:
      description: Free space for O(state_dir) and O(run_dir), in MiB.
      type: dict
      returned: always
      sample: {state_dir_mb: 51200, run_dir_mb: 3200}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import fail_on_error
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.host_facts import gather
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import DIRECTORY_SPEC


def main() -> None:
    """Return the facts of this host."""
    argument_spec: dict[str, Any] = {
        "qemu_paths": {"type": "list", "elements": "path", "default": []},
        "firecracker_paths": {"type": "list", "elements": "path", "default": []},
        "acrn_dm_paths": {"type": "list", "elements": "path", "default": []},
        "kernel_path": {"type": "path", "aliases": ["kernel"]},
        "probe": {"type": "bool", "default": True},
        **DIRECTORY_SPEC,
    }
    module = AnsibleModule(argument_spec=argument_spec, supports_check_mode=True)
    params = module.params
    with fail_on_error(module):
        facts = gather(
            params["run_dir"],
            params["state_dir"],
            {
                "qemu": params["qemu_paths"],
                "firecracker": params["firecracker_paths"],
                "acrn": params["acrn_dm_paths"],
            },
            params["kernel_path"] or "",
            params["probe"],
        )
    module.exit_json(changed=False, host=facts)


if __name__ == "__main__":
    main()
