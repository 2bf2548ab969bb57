#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_package
short_description: Unpack a distribution's package without installing it
version_added: 1.0.0
description:
  - Downloads a package of the host's own distribution, and unpacks it into a directory that belongs to its version.
    Nothing is installed, so the host's boot, its programs and its package data base stay as they are.
  - The digests of all files are recorded and compared on every run. A version of which a file is missing, added or altered is
    downloaded again.
  - On Debian and Ubuntu this needs nothing. Elsewhere it needs C(dnf) with its C(download) plugin, C(rpm2cpio) and C(cpio).
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.attributes
options:
  name:
    description: The package. It may be one that only depends on others, such as C(linux-image-cloud-amd64); see O(follow).
    type: str
    required: true
  root:
    description:
      - The directory below which each version gets a directory of its own, named C(NAME_VERSION).
        A link C(NAME) leads to the one in use.
    type: path
    required: true
  follow:
    description:
      - A regular expression. The package's dependencies of which the name matches are unpacked into the same directory.
    type: str
    default: ""
  state:
    description:
      - V(present) keeps whichever version is there, and asks the distribution for none when it is undamaged.
      - V(latest) brings the version that the distribution offers. Older ones stay, since sandboxes may run on them.
      - V(absent) removes all versions.
    type: str
    choices: [absent, latest, present]
    default: present
seealso:
  - module: kata.hypervisor.kata_initrd
"""

EXAMPLES = r"""
- name: Have a kernel for guests, and leave the host's own alone
  kata.hypervisor.kata_package:
    name: linux-image-cloud-amd64
    follow: "^linux-(image|modules)-[0-9]"
    root: /var/lib/kata-hypervisor/assets/kernels
  register: guest_kernel

- name: Start a sandbox with it
  kata.hypervisor.kata_sandbox:
    id: web-1
    state: started
    kernel_path: "{{ guest_kernel.kernel.path }}"
    initrd_path: /var/lib/kata-hypervisor/assets/initrds/guest.img
"""

RETURN = r"""
name:
  description: The package.
  returned: success
  type: str
  sample: linux-image-cloud-amd64
version:
  description: The version in use. C(unknown) in check mode, when the host's lists of packages do not name the package.
  returned: when O(state) is not V(absent)
  type: str
  sample: 6.1.192-2
directory:
  description: Where it is unpacked.
  returned: when O(state) is not V(absent)
  type: str
  sample: /var/lib/kata-hypervisor/assets/kernels/linux-image-cloud-amd64_6.1.192-2
packages:
  description: All packages that are unpacked there.
  returned: when O(state) is not V(absent)
  type: list
  elements: dict
  sample:
    - name: linux-image-cloud-amd64
      version: 6.1.192-2
    - name: linux-image-6.1.0-56-cloud-amd64
      version: 6.1.192-2
kernel:
  description: The kernel among the files. Empty when there is none, and in check mode when it is not there yet.
  returned: when O(state) is not V(absent)
  type: dict
  sample:
    release: 6.1.0-56-cloud-amd64
    path: /var/lib/kata-hypervisor/assets/kernels/linux-image-cloud-amd64_6.1.192-2/boot/vmlinuz-6.1.0-56-cloud-amd64
    config: /var/lib/kata-hypervisor/assets/kernels/linux-image-cloud-amd64_6.1.192-2/boot/config-6.1.0-56-cloud-amd64
    modules_directory: /var/lib/kata-hypervisor/assets/kernels/linux-image-cloud-amd64_6.1.192-2/lib/modules/6.1.0-56-cloud-amd64
actions:
  description: What was done, or would be done in check mode.
  returned: success
  type: list
  elements: str
  sample: ["unpack linux-image-cloud-amd64 6.1.192-2"]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import fail_on_error
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.packages import PackageStore


def main() -> None:
    """Bring one package to the state that the task asks for."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "root": {"type": "path", "required": True},
            "follow": {"type": "str", "default": ""},
            "state": {"type": "str", "choices": ["absent", "latest", "present"], "default": "present"},
        },
        supports_check_mode=True,
    )
    options = module.params
    with fail_on_error(module):
        store = PackageStore(options["root"])
        result = store.converge(options["name"], options["state"], options["follow"], check_mode=module.check_mode)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
