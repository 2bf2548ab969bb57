#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_template
short_description: Create a template that VM sandboxes start from
version_added: 1.0.0
description:
  - Boots a VM, waits until its guest is ready, pauses it, and saves its memory and the state of its devices. Sandboxes with
    O(kata.hypervisor.kata_sandbox#module:template) start there instead of booting. They share the template's memory until they write to it.
  - An existing template is created again if the task has other options, or if its kernel, initrd, image or VMM has changed. So is a template whose creation
    was killed. Otherwise it is not changed.
  - Running clones keep the memory that they started with, even if the template is created again or removed.
  - If a template cannot be created, nothing is left on the host.
notes:
  - All clones start with the same machine id, host name and clock, and perhaps with the same random numbers. C(docs/templates.md) explains what each
    clone gets of its own, and what must not be in a template.
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
      - The template's name on its host, 1 to 64 of the characters C(A-Z a-z 0-9 . _ -). The first one must not be a dot or a dash. A sandbox and a
        template can have the same name.
    type: str
    required: true
    aliases: [name]
  state:
    description:
      - V(present) creates the template, or updates it. O(wait_for) is required to create one.
      - V(absent) removes the template. The task fails while clones of it run, unless O(force) is set.
    type: str
    choices: [present, absent]
    default: present
  force:
    description:
      - Remove the template although clones of it run. The clones keep running, and cannot start again without the template.
    type: bool
    default: false
  memory_dir:
    description:
      - A directory on the host for the template's memory file. It is kept in a subdirectory that only its owner can enter.
      - On a tmpfs, such as V(/dev/shm), the memory stays in RAM and is lost at a reboot of the host. The default is a file in O(state_dir), which
        the host caches and which survives a reboot.
    type: path
  hypervisor:
    description:
      - The hypervisor of the template and of its clones. The default of a new template is V(qemu).
    type: str
    choices: [qemu, firecracker, acrn, mock]
seealso:
  - module: kata.hypervisor.kata_template_info
  - module: kata.hypervisor.kata_sandbox
"""

EXAMPLES = r"""
- name: Create a template
  kata.hypervisor.kata_template:
    id: base
    kernel_path: /var/lib/kata-hypervisor/assets/vmlinuz
    initrd_path: /var/lib/kata-hypervisor/assets/initrd.img
    vcpus: 1
    max_vcpus: 4
    memory_mb: 256
    max_memory_mb: 2048
    wait_for: "console: kata-guest: ready"

- name: Start three sandboxes from the template, one of them larger
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

- name: Remove the template although clones of it run
  kata.hypervisor.kata_template:
    id: base
    state: absent
    force: true
"""

RETURN = r"""
actions:
  description: The steps that were taken, or would be taken without check mode.
  returned: success
  type: list
  elements: str
  sample: [create, start, pause, save, stop the VMM]
template:
  description: The template after the task. In check mode, its state is the predicted one.
  returned: success
  type: dict
  contains:
    id:
      description: The template's id.
      type: str
      returned: always
      sample: base
    state:
      description: V(ready), V(stale) if it must be created again, V(incomplete) if it was not finished, or V(absent).
      type: str
      returned: always
      sample: ready
    stale:
      description: The reasons why it must be created again.
      type: list
      elements: str
      returned: always
      sample: [kernel_path /boot/vmlinuz is another file than it was made with]
    hypervisor:
      description: The template's hypervisor.
      type: str
      returned: when the template exists
      sample: qemu
    options:
      description: The options that it was created with, including defaults.
      type: dict
      returned: when the template exists
      sample: {kernel_path: /boot/vmlinuz, memory_mb: 256, vcpus: 1}
    memory_path:
      description: The file with the template's memory.
      type: str
      returned: when the template exists
      sample: /var/lib/kata-hypervisor/templates/base/ram/memory
    files:
      description: The files that it was created from, each with its option, path and SHA-512 digest.
      type: list
      elements: dict
      returned: when the template exists
      sample: [{option: kernel_path, path: /boot/vmlinuz, sha512: cf83e1357eefb8bd}]
    clones:
      description: The sandboxes that start from it, running or not.
      type: list
      elements: str
      returned: when the template exists
      sample: [web-0, web-1]
    state_dir:
      description: Directory of the template's record.
      type: str
      returned: when the template exists
      sample: /var/lib/kata-hypervisor/templates/base
    created_at:
      description: When it was first created, UTC.
      type: str
      returned: when the template exists
      sample: "2026-11-24T02:00:00Z"
    changed_at:
      description: When the record was last written, UTC.
      type: str
      returned: when the template exists
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
    """Create a template, or remove it."""
    module = AnsibleModule(argument_spec=template_argument_spec(HYPERVISORS), supports_check_mode=True)
    with fail_on_error(module):
        result = converge_template(parse_template_spec(module.params), module.check_mode)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
