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
  - Downloads a package of the host's distribution and unpacks it into a directory for its version.
    Nothing is installed. The host's boot, its programs and its package database are not changed.
  - The digests of all files are recorded and compared in every run. If a file is missing, added or changed, the version is
    downloaded again.
  - Debian and Ubuntu hosts need no further programs. Other hosts need C(dnf) with its C(download) plugin, and C(rpm2cpio).
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.attributes
options:
  name:
    description: The package. For a package that only depends on others, such as C(linux-image-cloud-amd64), see O(follow).
    type: str
    required: true
  root:
    description:
      - The directory with one directory C(NAME_VERSION) for each version. The link C(NAME) points to the version in use.
    type: path
    required: true
  follow:
    description:
      - A regular expression. Dependencies of the package whose name matches are unpacked into the same directory.
    type: str
    default: ""
  required_config:
    description:
      - Options of the kernel's configuration, such as C(CONFIG_VIRTIO_BLK). RV(missing_config) lists those that the kernel in the package was built
        without. A package without a kernel or without its configuration has none that are missing.
    type: list
    elements: str
    default: []
  state:
    description:
      - V(present) keeps an installed version if it is undamaged, and does not check for a newer one.
      - V(latest) installs the distribution's current version. Older versions stay, since sandboxes may use them.
      - V(absent) removes all versions.
    type: str
    choices: [absent, latest, present]
    default: present
seealso:
  - module: kata.hypervisor.kata_initrd
"""

EXAMPLES = r"""
- name: Unpack a kernel for guests without changing the host's own
  kata.hypervisor.kata_package:
    name: linux-image-cloud-amd64
    follow: "^linux-(image|modules)-[0-9]"
    root: /var/lib/kata-hypervisor/assets/kernels
  register: guest_kernel

- name: Start a sandbox with this kernel
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
  description: The version in use. C(unknown) in check mode if the host's package lists do not have the package.
  returned: unless O(state=absent)
  type: str
  sample: 6.1.192-2
directory:
  description: Directory with the unpacked files.
  returned: unless O(state=absent)
  type: str
  sample: /var/lib/kata-hypervisor/assets/kernels/linux-image-cloud-amd64_6.1.192-2
packages:
  description: All packages in this directory.
  returned: unless O(state=absent)
  type: list
  elements: dict
  sample:
    - name: linux-image-cloud-amd64
      version: 6.1.192-2
    - name: linux-image-6.1.0-56-cloud-amd64
      version: 6.1.192-2
kernel:
  description: The kernel among the files. Empty if there is none, or not yet in check mode.
  returned: unless O(state=absent)
  type: dict
  sample:
    release: 6.1.0-56-cloud-amd64
    path: /var/lib/kata-hypervisor/assets/kernels/linux-image-cloud-amd64_6.1.192-2/boot/vmlinuz-6.1.0-56-cloud-amd64
    config: /var/lib/kata-hypervisor/assets/kernels/linux-image-cloud-amd64_6.1.192-2/boot/config-6.1.0-56-cloud-amd64
    modules_directory: /var/lib/kata-hypervisor/assets/kernels/linux-image-cloud-amd64_6.1.192-2/lib/modules/6.1.0-56-cloud-amd64
missing_config:
  description: The options in O(required_config) that the kernel was built without, neither built in nor as a module.
  returned: unless O(state=absent)
  type: list
  elements: str
  sample: [CONFIG_VIRTIO_BLK]
actions:
  description: The steps that were taken, or would be taken without check mode.
  returned: success
  type: list
  elements: str
  sample: ["unpack linux-image-cloud-amd64 6.1.192-2"]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import fail_on_error
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.kernel_options import missing_options_of
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.packages import PackageStore


def main() -> None:
    """Bring one package to the state that the task asks for."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "root": {"type": "path", "required": True},
            "follow": {"type": "str", "default": ""},
            "required_config": {"type": "list", "elements": "str", "default": []},
            "state": {"type": "str", "choices": ["absent", "latest", "present"], "default": "present"},
        },
        supports_check_mode=True,
    )
    options = module.params
    with fail_on_error(module):
        store = PackageStore(options["root"])
        result = store.converge(options["name"], options["state"], options["follow"], check_mode=module.check_mode)
        if options["state"] != "absent":
            configuration = result["kernel"].get("config")
            required = options["required_config"]
            result["missing_config"] = missing_options_of(configuration, required) if configuration else []
    module.exit_json(**result)


if __name__ == "__main__":
    main()
