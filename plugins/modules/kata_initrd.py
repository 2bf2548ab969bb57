#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_initrd
short_description: Build a sandbox's initrd on the host
version_added: 1.0.0
description:
  - Builds an initrd from an init program, busybox, kernel modules and other files.
  - The same inputs give the same bytes. The file is only written if its content changed.
  - The load order of modules is read from the modules. The kernel's package need not be installed.
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.built_files.files
  - kata.hypervisor.attributes
options:
  path:
    description: Path of the initrd. It is replaced atomically, so a sandbox that starts at this moment gets either the old or the new one.
    type: path
    required: true
  init:
    description: A file on the host that becomes C(/init), the first program that the kernel runs.
    type: path
    required: true
  busybox:
    description: A statically linked busybox on the host. It is copied to C(/bin), with a link for each of its applets.
    type: path
  modules_directory:
    description: The kernel's modules directory, such as C(/lib/modules/VERSION) or a copy of it.
    type: path
  modules:
    description:
      - Kernel modules that the guest needs. Their dependencies are added.
      - Modules that are built into the kernel are accepted.
    type: list
    elements: str
    default: []
  optional_modules:
    description: Kernel modules that are added if the kernel has them.
    type: list
    elements: str
    default: []
  programs:
    description: Dynamically linked programs to add, each with its interpreter and its libraries (in C(/lib)).
    type: list
    elements: dict
    default: []
    suboptions:
      src:
        description: The program on the host.
        type: path
        required: true
      dest:
        description: Absolute path in the guest.
        type: str
        required: true
      root:
        description: Root directory of the program's libraries, such as a directory of M(kata.hypervisor.kata_package).
        type: path
        default: /
  symlinks:
    description: Symbolic links to add, as a dictionary from absolute path to target.
    type: dict
    default: {}
  compression:
    description: Compression of the initrd. A guest starts faster without it.
    type: str
    choices: [none, gzip]
    default: none
seealso:
  - module: kata.hypervisor.kata_sandbox
"""

EXAMPLES = r"""
- name: Build an initrd for the kernel of an unpacked package
  kata.hypervisor.kata_initrd:
    path: /var/lib/kata-hypervisor/assets/initrds/guest.img
    init: /usr/local/share/guest/init
    busybox: /bin/busybox
    modules_directory: /var/lib/kata-hypervisor/assets/kernels/6.1.0-56-cloud-amd64/modules
    modules: [virtio_pci, virtio_blk, virtio_net, virtio_console]
"""

RETURN = r"""
path:
  description: Path of the initrd.
  returned: success
  type: str
  sample: /var/lib/kata-hypervisor/assets/initrds/guest.img
size:
  description: Size in bytes.
  returned: success
  type: int
  sample: 5128704
sha256:
  description: SHA-256 digest of the initrd.
  returned: success
  type: str
  sample: 3f0a377ba0a4a460ecb616f6507ce0d8cfa3e704025d4fda3ed0c5ca05468728
modules:
  description: The modules in the initrd, in load order.
  returned: success
  type: list
  elements: str
  sample: [virtio_ring, virtio, virtio_pci]
missing_modules:
  description: Optional modules that the kernel does not have.
  returned: success
  type: list
  elements: str
  sample: [virtio_mem]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import fail_on_error
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.initrd import (
    FILES_SPEC,
    ExtraFile,
    Program,
    build_initrd,
    install_initrd,
)


def main() -> None:
    """Build the initrd, and write it where it differs."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "init": {"type": "path", "required": True},
            "busybox": {"type": "path"},
            "modules_directory": {"type": "path"},
            "modules": {"type": "list", "elements": "str", "default": []},
            "optional_modules": {"type": "list", "elements": "str", "default": []},
            "files": FILES_SPEC,
            "programs": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "src": {"type": "path", "required": True},
                    "dest": {"type": "str", "required": True},
                    "root": {"type": "path", "default": "/"},
                },
            },
            "symlinks": {"type": "dict", "default": {}},
            "compression": {"type": "str", "choices": ["none", "gzip"], "default": "none"},
        },
        supports_check_mode=True,
    )
    options = module.params
    with fail_on_error(module):
        built = build_initrd(
            init=options["init"],
            busybox=options["busybox"] or "",
            modules_directory=options["modules_directory"] or "",
            modules=options["modules"],
            optional_modules=options["optional_modules"],
            files=[ExtraFile.parse(file) for file in options["files"]],
            programs=[Program(**program) for program in options["programs"]],
            symlinks=options["symlinks"],
            compression=options["compression"],
        )
        result = install_initrd(built, options["path"], check_mode=module.check_mode)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
