#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_device
short_description: Give one device to a VM sandbox, or take it away
version_added: 1.0.0
description:
  - Plugs one device into a sandbox that exists, or unplugs it, and leaves its other devices alone. M(kata.hypervisor.kata_sandbox) takes all
    devices of a sandbox at once.
  - A sandbox that runs gets and loses the device while it runs. One that is stopped has it from its next start on.
  - A sandbox that should run and does not is brought back first, as M(kata.hypervisor.kata_sandbox) without a state does.
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
      - The sandbox's name on its host. There must be such a sandbox, unless O(state=absent).
    type: str
    required: true
  state:
    description:
      - With V(present), the sandbox has the device as it is described here. One that it has under this O(id) and that is described
        otherwise is replaced.
      - With V(absent), it has no device of this O(id). Nothing else needs to be said of the device.
    type: str
    choices: [present, absent]
    default: present
  disruption:
    description:
      - What the task may do to the guest where the device cannot be plugged or unplugged while it runs. With V(none), such a task fails and
        has changed nothing.
      - With V(restart), the VM may be stopped and started anew, and a paused guest may run for a moment.
    type: str
    choices: [none, restart]
    default: none
seealso:
  - module: kata.hypervisor.kata_sandbox
"""

EXAMPLES = r"""
- name: Give a running sandbox a disk
  kata.hypervisor.kata_device:
    sandbox: web-1
    id: data0
    type: block
    file: /srv/sandboxes/web-1.img
    serial: web-1-data0

- name: Attach it to a bridge of the host
  kata.hypervisor.kata_device:
    sandbox: web-1
    id: eth0
    type: net
    kind: tap
    bridge: br0

- name: Take the disk away
  kata.hypervisor.kata_device:
    sandbox: web-1
    id: data0
    state: absent
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, step by step.
  returned: success
  type: list
  elements: str
  sample: [plug block data0]
device:
  description: The device as the sandbox has it now, none when it has no such device. In check mode, as it was before.
  returned: success
  type: dict
  sample: {id: data0, type: block, file: /srv/sandboxes/web-1.img, format: raw, read_only: false, discard: false, index: 0, plugged: true}
sandbox:
  description: The sandbox as it is now, see RV(kata.hypervisor.kata_sandbox#module:sandbox).
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
    """Give a sandbox one device, or take it away."""
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
