#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_vmlinux
short_description: Extract the uncompressed kernel from a compressed one
version_added: 1.0.0
description:
  - Extracts the uncompressed kernel from a distribution's C(vmlinuz), for VMMs that need one, such as Firecracker before 1.17. It is an ELF file
    (C(vmlinux)) of x86_64, and an C(Image) of aarch64.
  - Kernels can be compressed with gzip, xz, lzma, bzip2, lz4 or zstd. For zstd the host needs the program C(zstd). For lz4 the program
    C(lz4) is used if installed, since it is faster.
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.attributes
attributes:
  diff_mode:
    support: none
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
options:
  src:
    description: The kernel on the host, compressed or not.
    type: path
    required: true
  dest:
    description: Path of the uncompressed kernel. It is replaced atomically.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Extract a kernel that every VMM can boot
  kata.hypervisor.kata_vmlinux:
    src: "{{ kata_kernel_facts.path }}"
    dest: /var/lib/kata-hypervisor/assets/kernels/vmlinux
"""

RETURN = r"""
path:
  description: Path of the uncompressed kernel.
  returned: success
  type: str
  sample: /var/lib/kata-hypervisor/assets/kernels/vmlinux
size:
  description: Size in bytes.
  returned: success
  type: int
  sample: 47185920
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import fail_on_error
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.vmlinux import install_vmlinux


def main() -> None:
    """Extract the uncompressed kernel."""
    module = AnsibleModule(
        argument_spec={"src": {"type": "path", "required": True}, "dest": {"type": "path", "required": True}},
        supports_check_mode=True,
    )
    with fail_on_error(module):
        result = install_vmlinux(module.params["src"], module.params["dest"], module.check_mode)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
