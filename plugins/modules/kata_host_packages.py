#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_host_packages
short_description: Install the distribution's packages that a host lacks
version_added: 1.0.0
description:
  - Installs packages with C(apt-get) or C(dnf), without packages that are only recommended.
  - Whether a package is installed is read from the package database. If nothing is missing, the package manager does not run, so a host that has
    everything answers at once.
  - Lists of packages that are missing or older than a day are fetched before an installation. Installed packages are not updated.
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.attributes
options:
  names:
    description:
      - The packages. With C(apt), NAME=VERSION is a version, which can be a pattern.
    type: list
    elements: str
    required: true
seealso:
  - module: kata.hypervisor.kata_package
"""

EXAMPLES = r"""
- name: Install QEMU
  kata.hypervisor.kata_host_packages:
    names: [qemu-system-x86, qemu-utils]
"""

RETURN = r"""
missing:
  description: The packages that were not installed before.
  returned: success
  type: list
  elements: str
  sample: [qemu-utils]
actions:
  description: The steps that were taken, or would be taken without check mode.
  returned: success
  type: list
  elements: str
  sample: [install qemu-utils]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import fail_on_error
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.installed_packages import install


def main() -> None:
    """Install the packages that are missing."""
    module = AnsibleModule(
        argument_spec={"names": {"type": "list", "elements": "str", "required": True}}, supports_check_mode=True
    )
    with fail_on_error(module):
        result = install(module.params["names"], module.check_mode)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
