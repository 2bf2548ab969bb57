#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_root_image
short_description: Build a sandbox's root image from a distribution's packages
version_added: 1.0.0
description:
  - Builds an ext4 image from packages of Debian or Ubuntu, users with their SSH keys, and files. Nothing is mounted.
  - The same packages, users and files give the same bytes on any host. The image is built again if an option or the file itself has changed. New
    versions of the packages do not change it; see O(serial).
  - Guests see the image read-only. C(/tmp) and the SSH host keys are in the guest's memory, and each guest creates its own keys. With the first stage
    of the role P(kata.hypervisor.kata_image#role) and the kernel parameter C(kata.overlay), the guest can write everywhere, in memory.
  - "A system with systemd prints C(kata-guest: ready) on its console when it has started, with its CPUs and memory."
  - The packages are kept beside the image, in a compressed file, so that an image with other users or files is built from them in seconds.
  - The host needs C(mmdebstrap), C(e2fsprogs) and C(zstd). The task must run as root.
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.built_files
  - kata.hypervisor.built_files.files
  - kata.hypervisor.attributes
options:
  suite:
    description: The distribution's release, such as V(bookworm). Required with O(state=present).
    type: str
  sources:
    description: Files on the host with apt sources (C(.list) or C(.sources)). If empty, the host's own sources are used.
    type: list
    elements: path
    default: []
  packages:
    description: Packages to install in addition to a minimal Debian with apt. To boot, the image needs an init such as V(systemd-sysv).
    type: list
    elements: str
    default: []
  users:
    description: Users to create, each with a home directory and without a password.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The user's name. V(root) exists already and only gets the keys.
        type: str
        required: true
      ssh_keys:
        description: Public SSH keys of the user.
        type: list
        elements: str
        default: []
      groups:
        description: Further groups of the user. They must exist.
        type: list
        elements: str
        default: []
      shell:
        description: The user's shell.
        type: str
        default: /bin/bash
  hostname:
    description: The guest's host name.
    type: str
    default: sandbox
  size_mb:
    description: Size of the image in MiB. The default is the size that its content needs.
    type: int
  serial:
    description: Any text. If it changes, the image is built again with the current versions of the packages.
    type: str
    default: ""
seealso:
  - module: kata.hypervisor.kata_disk_image
  - module: kata.hypervisor.kata_initrd
"""

EXAMPLES = r"""
- name: Build a root image with an SSH server
  kata.hypervisor.kata_root_image:
    path: /var/lib/kata-hypervisor/assets/images/web.ext4
    suite: bookworm
    packages: [systemd-sysv, udev, openssh-server, iproute2]
    users:
      - name: operator
        ssh_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKexample operator@example.com"]
    serial: "2026-11"

- name: Start a sandbox with this image
  kata.hypervisor.kata_sandbox:
    id: web-1
    state: started
    kernel_path: "{{ kata_kernel_facts.path }}"
    image_path: /var/lib/kata-hypervisor/assets/images/web.ext4
    initramfs_path: /var/lib/kata-hypervisor/assets/initrds/guest.img
"""

RETURN = r"""
path:
  description: Path of the image.
  returned: success
  type: str
  sample: /var/lib/kata-hypervisor/assets/images/web.ext4
sha256:
  description: SHA-256 digest of the image. Empty in check mode if it would be built.
  returned: with O(state=present)
  type: str
  sample: 3f0a377ba0a4a460ecb616f6507ce0d8cfa3e704025d4fda3ed0c5ca05468728
size:
  description: Size in bytes.
  returned: with O(state=present)
  type: int
  sample: 335544320
packages:
  description: The packages in the image, with their versions.
  returned: with O(state=present)
  type: list
  elements: str
  sample: [adduser=3.134, apt=2.6.1]
packages_reused:
  description:
    - Whether the image is built again from the packages of the one that it replaces, which are kept beside it. It is if O(suite), O(packages), O(serial)
      and the apt sources have not changed.
  returned: with O(state=present), not in check mode
  type: bool
  sample: false
actions:
  description: The steps that were taken, or would be taken without check mode.
  returned: success
  type: list
  elements: str
  sample: ["make /var/lib/kata-hypervisor/assets/images/web.ext4"]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import fail_on_error
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.built_files import IMAGE_SPEC, BuiltFile
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.initrd import FILES_SPEC, ExtraFile
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.kept_packages import KeptPackages
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.root_image import (
    Recipe,
    User,
    build,
    check_programs,
)

USER_SPEC: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "ssh_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "groups": {"type": "list", "elements": "str", "default": []},
    "shell": {"type": "str", "default": "/bin/bash"},
}


def converge(options: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Bring the image to the requested state. Returns the module's result."""
    image = BuiltFile(options["path"])
    kept = KeptPackages(image.path, image.note().get("about", {}))
    image.parts = (kept.path,)
    if options["state"] == "absent":
        return image.remove(check_mode)
    recipe = Recipe(
        suite=options["suite"],
        packages=tuple(options["packages"]),
        sources=tuple(options["sources"]),
        users=tuple(User.parse(user) for user in options["users"]),
        files=tuple(ExtraFile.parse(file) for file in options["files"]),
        hostname=options["hostname"],
        size_mb=options["size_mb"] or 0,
        serial=options["serial"],
    ).checked()
    if not check_mode:
        check_programs()
    described = recipe.as_dict()
    digests = {dest: digest for dest, _mode, digest in described["files"]}
    result = image.converge(described, lambda work: build(recipe, work, digests, kept), check_mode)
    packages = result.pop("about").get("packages", [])
    reused = {} if check_mode else {"packages_reused": kept.reused}
    return {**result, "packages": packages, **reused}


def main() -> None:
    """Create or remove the root image."""
    module = AnsibleModule(
        argument_spec={
            **IMAGE_SPEC,
            "suite": {"type": "str"},
            "sources": {"type": "list", "elements": "path", "default": []},
            "packages": {"type": "list", "elements": "str", "default": []},
            "users": {"type": "list", "elements": "dict", "default": [], "options": USER_SPEC},
            "files": FILES_SPEC,
            "hostname": {"type": "str", "default": "sandbox"},
            "size_mb": {"type": "int"},
            "serial": {"type": "str", "default": ""},
        },
        required_if=[("state", "present", ["suite"])],
        supports_check_mode=True,
    )
    with fail_on_error(module):
        result = converge(module.params, module.check_mode)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
