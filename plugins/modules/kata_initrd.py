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
    description: A file on the host that becomes C(/init), the first program that the kernel runs. Either this or O(init_content) is required.
    type: path
  init_content:
    description: The content of C(/init), instead of a file on the host.
    type: str
  busybox:
    description: A statically linked busybox on the host. It is copied to C(/bin), with a link for each of its applets.
    type: path
  busybox_package:
    description: The distribution's package to take busybox from, instead of O(busybox). It is unpacked, not installed.
    type: str
  packages_root:
    description:
      - The directory in which packages are unpacked, as M(kata.hypervisor.kata_package) does. Required if O(busybox_package) or a program names one.
        A package that is unpacked there and undamaged is used as it is.
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
        description: The program on the host, or its path in O(programs[].package).
        type: path
        required: true
      dest:
        description: Absolute path in the guest.
        type: str
        required: true
      root:
        description: Root directory of the program's libraries, such as a directory of M(kata.hypervisor.kata_package). Not used with a package.
        type: path
        default: /
      package:
        description: The distribution's package to take the program and its libraries from. It is unpacked, not installed.
        type: str
      follow:
        description: A regular expression. Dependencies of the package whose name matches are unpacked into the same directory.
        type: str
        default: ""
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

- name: Build an initrd with busybox and socat of the distribution
  kata.hypervisor.kata_initrd:
    path: /var/lib/kata-hypervisor/assets/initrds/socat.img
    init_content: |
      #!/bin/sh
      exec /bin/socat VSOCK-LISTEN:99 EXEC:/bin/sh
    packages_root: /var/lib/kata-hypervisor/assets/tools
    busybox_package: busybox-static
    programs:
      - {package: socat, follow: ^lib, src: usr/bin/socat, dest: /bin/socat}
"""

RETURN = r"""
actions:
  description: The steps that were taken, or would be taken without check mode.
  returned: success
  type: list
  elements: str
  sample: [unpack busybox-static 1:1.35.0-4+b7, write /var/lib/kata-hypervisor/assets/initrds/guest.img]
path:
  description: Path of the initrd.
  returned: success
  type: str
  sample: /var/lib/kata-hypervisor/assets/initrds/guest.img
size:
  description: Size in bytes. 0 in check mode if a package of it is not unpacked yet.
  returned: success
  type: int
  sample: 5128704
sha256:
  description: SHA-256 digest of the initrd. Empty in check mode if a package of it is not unpacked yet.
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

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, fail_on_error
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.initrd import (
    FILES_SPEC,
    ExtraFile,
    build_initrd,
    install_initrd,
    unpack_packages,
)


def packages_of(options: dict[str, Any]) -> dict[str, str]:
    """The packages to unpack, and the pattern of the dependencies of each.

    :raises ConfigError: there is no directory for them
    """
    packages = {options["busybox_package"]: ""} if options["busybox_package"] else {}
    packages.update({program["package"]: program["follow"] for program in options["programs"] if program["package"]})
    if packages and not options["packages_root"]:
        raise ConfigError("a directory for the unpacked packages is required", option="packages_root", wanted="")
    return packages


def build(options: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Unpack the packages, build the initrd, and write it where it differs.

    :raises HypervisorError: an input cannot be used
    """
    files = [ExtraFile.parse(file) for file in options["files"]]
    unpacked = unpack_packages(packages_of(options), options["packages_root"] or "", check_mode)
    if check_mode and unpacked.actions:
        # The inputs do not exist yet.
        nothing: dict[str, Any] = {"sha256": "", "size": 0, "modules": [], "missing_modules": []}
        return {"changed": True, "actions": unpacked.actions, "path": options["path"], **nothing}
    package = options["busybox_package"]
    built = build_initrd(
        init=options["init"] or "",
        init_content=options["init_content"] or "",
        busybox=unpacked.busybox(package) if package else options["busybox"] or "",
        modules_directory=options["modules_directory"] or "",
        modules=options["modules"],
        optional_modules=options["optional_modules"],
        files=files,
        programs=[unpacked.program(program) for program in options["programs"]],
        symlinks=options["symlinks"],
        compression=options["compression"],
    )
    result = install_initrd(built, options["path"], check_mode=check_mode)
    actions = unpacked.actions + ([f"write {options['path']}"] if result["changed"] else [])
    return {**result, "changed": bool(actions), "actions": actions}


def main() -> None:
    """Build the initrd, and write it where it differs."""
    texts: dict[str, Any] = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "init": {"type": "path"},
            "init_content": {"type": "str"},
            "busybox": {"type": "path"},
            "busybox_package": {"type": "str"},
            "packages_root": {"type": "path"},
            "modules_directory": {"type": "path"},
            "modules": texts,
            "optional_modules": texts,
            "files": FILES_SPEC,
            "programs": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "src": {"type": "path", "required": True},
                    "dest": {"type": "str", "required": True},
                    "root": {"type": "path", "default": "/"},
                    "package": {"type": "str"},
                    "follow": {"type": "str", "default": ""},
                },
            },
            "symlinks": {"type": "dict", "default": {}},
            "compression": {"type": "str", "choices": ["none", "gzip"], "default": "none"},
        },
        mutually_exclusive=[("init", "init_content"), ("busybox", "busybox_package")],
        required_one_of=[("init", "init_content")],
        supports_check_mode=True,
    )
    with fail_on_error(module):
        result = build(module.params, module.check_mode)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
