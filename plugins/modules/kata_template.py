#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_template
short_description: Make a template that VM sandboxes begin from
version_added: 1.0.0
description:
  - Boots a VM, waits until its guest is ready, freezes it, and keeps its memory and its devices' state. Sandboxes that name it with
    O(kata.hypervisor.kata_sandbox#module:template) begin there instead of booting, and share its memory until they change it.
  - A template that is there and was made from the same is left as it is. It is made anew when the task wants it otherwise, and when it is out of
    date, since its kernel, its initrd, its image or the VMM is another one now, or a task was killed while it made it.
  - Sandboxes that run keep the memory they have begun from, also when it is made anew or removed.
  - When it cannot be made, nothing of it is left.
notes:
  - All clones begin with the same randomness, machine id, host name and clock. See C(docs/templates.md) for what a clone is given of its own, and for what
    does not belong into a template.
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.sandbox_options.vm
  - kata.hypervisor.sandbox_options.template_devices
  - kata.hypervisor.sandbox_options.wait
  - kata.hypervisor.sandbox_options.timeouts
  - kata.hypervisor.directories
  - kata.hypervisor.attributes
  - kata.hypervisor.attributes.actiongroup_kata
options:
  id:
    description:
      - The template's name on its host, 1 to 64 of the characters C(A-Z a-z 0-9 . _ -), not beginning with a dot or a dash. Sandboxes have names of their own.
    type: str
    required: true
    aliases: [name]
  state:
    description:
      - With V(present), there is a template of this name that can be used, as it is described here. O(wait_for) is required to make one.
      - With V(absent), there is none. This is refused while clones of it run, unless O(force) is set.
    type: str
    choices: [present, absent]
    default: present
  force:
    description:
      - Remove the template though clones of it run. They run on, and cannot be started again until there is such a template again.
    type: bool
    default: false
  memory_dir:
    description:
      - A directory on the host below which the template's memory is kept, in a directory of its own that only its owner can enter.
      - On a tmpfs, such as V(/dev/shm), the memory is in RAM, and gone after a reboot of the host. When this is not given, it is a file in O(state_dir) that
        the host caches, and that outlives a reboot.
    type: path
  hypervisor:
    description:
      - What runs the VM, and the clones. V(qemu) for a new template when this is not given.
    type: str
    choices: [qemu, firecracker, acrn, mock]
seealso:
  - module: kata.hypervisor.kata_template_info
  - module: kata.hypervisor.kata_sandbox
"""

EXAMPLES = r"""
- name: Make a template
  kata.hypervisor.kata_template:
    id: base
    kernel_path: /var/lib/kata-hypervisor/assets/vmlinuz
    initrd_path: /var/lib/kata-hypervisor/assets/initrd.img
    vcpus: 1
    max_vcpus: 4
    memory_mb: 256
    max_memory_mb: 2048
    wait_for: "console: kata-guest: ready"

- name: Begin three sandboxes from it, one of them larger
  kata.hypervisor.kata_sandboxes:
    sandboxes:
      - id: web-0
        template: base
      - id: web-1
        template: base
      - id: db
        template: base
        vcpus: 2
        memory_mb: 512

- name: Remove it, though they run
  kata.hypervisor.kata_template:
    id: base
    state: absent
    force: true
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, step by step.
  returned: success
  type: list
  elements: str
  sample: [create, start, pause, save, stop the VMM]
template:
  description: The template as it is now. In check mode, its state as it would be.
  returned: success
  type: dict
  contains:
    id:
      description: Its id.
      type: str
      returned: always
      sample: base
    state:
      description: V(ready), V(stale) when it must be made anew, V(incomplete) when it was not finished, or V(absent).
      type: str
      returned: always
      sample: ready
    stale:
      description: Why it must be made anew.
      type: list
      elements: str
      returned: always
      sample: [kernel_path /boot/vmlinuz is another file than it was made with]
    hypervisor:
      description: What it is for.
      type: str
      returned: when it exists
      sample: qemu
    options:
      description: The options it was made with, those that were given and those that were filled in.
      type: dict
      returned: when it exists
      sample: {kernel_path: /boot/vmlinuz, memory_mb: 256, vcpus: 1}
    memory_path:
      description: The file of its memory.
      type: str
      returned: when it exists
      sample: /var/lib/kata-hypervisor/templates/base/ram/memory
    files:
      description: What it was made from, each with its option, path and SHA-512 digest.
      type: list
      elements: dict
      returned: when it exists
      sample: [{option: kernel_path, path: /boot/vmlinuz, sha512: cf83e1357eefb8bd}]
    clones:
      description: The sandboxes that begin from it, running or not.
      type: list
      elements: str
      returned: when it exists
      sample: [web-0, web-1]
    state_dir:
      description: Directory of its record.
      type: str
      returned: when it exists
      sample: /var/lib/kata-hypervisor/templates/base
    created_at:
      description: When it was first made, UTC.
      type: str
      returned: when it exists
      sample: "2026-11-24T02:00:00Z"
    changed_at:
      description: When its record was written last, UTC.
      type: str
      returned: when it exists
      sample: "2026-11-24T02:10:00Z"
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.template_building import converge_template
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import fail_on_error
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors import HYPERVISORS
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import (
    parse_template_spec,
    template_argument_spec,
)


def main() -> None:
    """Make a template, or remove it."""
    module = AnsibleModule(argument_spec=template_argument_spec(HYPERVISORS), supports_check_mode=True)
    with fail_on_error(module):
        result = converge_template(parse_template_spec(module.params), module.check_mode)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
