#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_device
short_description: Attach a device to a VM sandbox, or detach it
version_added: 1.0.0
description:
  - Attaches one device to an existing sandbox, or detaches it. The sandbox's other devices are not changed. To set all devices at once, use
    O(kata.hypervisor.kata_sandbox#module:devices).
  - The device of a running sandbox is plugged or unplugged while it runs. A stopped sandbox has the device from its next start.
  - A sandbox that should run and does not is started first, like with M(kata.hypervisor.kata_sandbox) without a state.
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.sandbox_options.device
  - kata.hypervisor.sandbox_options.timeouts
  - kata.hypervisor.directories
  - kata.hypervisor.attributes
  - kata.hypervisor.attributes.actiongroup_kata
options:
  sandbox:
    description:
      - The sandbox's id. The sandbox must exist, unless O(state=absent).
    type: str
    required: true
  state:
    description:
      - V(present) attaches the device. An existing device with the same O(id) but different options is replaced.
      - V(absent) detaches the device with this O(id). The other options of the device are not needed.
    type: str
    choices: [present, absent]
    default: present
  disruption:
    description:
      - What the task may do if the device cannot be plugged or unplugged while the VM runs. With V(none), such a task fails before it changes
        anything.
      - With V(restart), the VM may be stopped and started again, and a paused guest may run for a moment.
    type: str
    choices: [none, restart]
    default: none
seealso:
  - module: kata.hypervisor.kata_sandbox
"""

EXAMPLES = r"""
- name: Attach a disk to a running sandbox
  kata.hypervisor.kata_device:
    sandbox: web-1
    id: data0
    type: block
    file: /srv/sandboxes/web-1.img
    serial: web-1-data0

- name: Attach a network interface on a bridge of the host
  kata.hypervisor.kata_device:
    sandbox: web-1
    id: eth0
    type: net
    kind: tap
    bridge: br0

- name: Detach the disk
  kata.hypervisor.kata_device:
    sandbox: web-1
    id: data0
    state: absent
"""

RETURN = r"""
actions:
  description: The steps that were taken, or would be taken without check mode.
  returned: success
  type: list
  elements: str
  sample: [plug block data0]
device:
  description: The device after the task, null if the sandbox does not have it. In check mode, the device before the task.
  returned: success
  type: dict
  sample: {id: data0, type: block, file: /srv/sandboxes/web-1.img, format: raw, read_only: false, discard: false, index: 0, plugged: true}
sandbox:
  description: The sandbox after the task, see RV(kata.hypervisor.kata_sandbox#module:sandbox).
  returned: success
  type: dict
  sample: {id: web-1, state: started, vcpus: 1, memory_mb: 256}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.converge import converge
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import fail_on_error
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import (
    device_argument_spec,
    errors_of_one_device,
    parse_device_spec,
)


def main() -> None:
    """Attach one device to a sandbox, or detach it."""
    module = AnsibleModule(
        argument_spec=device_argument_spec(), required_if=[("state", "present", ["type"])], supports_check_mode=True
    )
    with fail_on_error(module), errors_of_one_device(module.params):
        result = converge(parse_device_spec(module.params), module.check_mode)
    devices = result["sandbox"].get("devices", [])
    device = next((device for device in devices if device["id"] == module.params["id"]), None)
    module.exit_json(device=device, **result)


if __name__ == "__main__":
    main()
