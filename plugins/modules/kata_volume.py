#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_volume
short_description: Create, grow or remove a volume of a host
version_added: 1.0.0
description:
  - A volume is a disk that outlives sandboxes. It is created with a size and a file system, and then attached to a sandbox by its name.
  - A volume takes only the space on the host that is written to it. If it is larger than the free space, the task shows a warning with both numbers.
  - What is in a volume is never touched. A volume that exists is never formatted and never made smaller. A volume with another O(filesystem) or
    O(label) than the task's is an error.
  - A volume appears complete or not at all. If the task is killed, the next one creates it.
notes:
  - O(size_mb) grows the disk. The file system on it grows in the guest, by C(resize2fs), C(xfs_growfs) or C(btrfs filesystem resize max).
  - The programs that create file systems belong to the packages C(e2fsprogs), C(xfsprogs), C(btrfs-progs) and C(dosfstools). If one is missing, the
    error names its package.
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.directories
  - kata.hypervisor.attributes
  - kata.hypervisor.attributes.actiongroup_kata
options:
  name:
    description:
      - The volume's name on its host, 1 to 28 of the characters C(A-Z a-z 0-9 . _ -). The first one must be a letter or a digit.
      - QEMU's guests see the first 20 characters as the disk's serial number, so C(/dev/disk/by-id/virtio-NAME) is the disk.
    type: str
    required: true
  state:
    description:
      - V(present) creates the volume, or grows it to O(size_mb).
      - V(absent) removes the volume with everything in it. The task fails while a sandbox has the volume, and the error names the sandbox.
    type: str
    choices: [absent, present]
    default: present
  size_mb:
    description:
      - The size in MiB. Required for a new volume. If omitted, an existing volume keeps its size.
      - A volume that a running sandbox has is grown by the sandbox's own task, which also tells the guest.
    type: int
  filesystem:
    description:
      - The file system that a new volume gets, V(ext4) by default. V(none) creates an empty disk.
      - V(xfs) needs at least 300 MiB, V(btrfs) 114 MiB and V(vfat) 34 MiB.
      - The host's program creates it. A guest with an older kernel may not know all features of a newer host's V(xfs) or V(ext4).
    type: str
    choices: [ext4, xfs, btrfs, vfat, none]
  label:
    description:
      - The label of the file system of a new volume, by which a guest can find it (C(/dev/disk/by-label/)). The default is the volume's name if that
        can be a label, else none. An empty text sets none.
      - It can have 16 characters with V(ext4), 12 with V(xfs), 255 with V(btrfs), and 11 of C(A-Z 0-9 _ -) with V(vfat).
    type: str
  force:
    description:
      - With O(state=absent), remove the volume although a sandbox that does not run has it. The volume of a running sandbox is never removed.
    type: bool
    default: false
seealso:
  - module: kata.hypervisor.kata_volume_info
  - module: kata.hypervisor.kata_sandbox
"""

EXAMPLES = r"""
- name: Create a volume for a database
  kata.hypervisor.kata_volume:
    name: db-data
    size_mb: 20480
    filesystem: xfs

- name: Grow it
  kata.hypervisor.kata_volume:
    name: db-data
    size_mb: 40960

- name: Remove it with everything in it
  kata.hypervisor.kata_volume:
    name: db-data
    state: absent
"""

RETURN = r"""
actions:
  description: The steps that were taken, or would be taken without check mode.
  returned: success
  type: list
  elements: str
  sample: [create volume db-data]
volume:
  description: The volume after the task. In check mode, it is the predicted one.
  returned: with O(state=present)
  type: dict
  contains:
    name:
      description: The volume's name.
      type: str
      returned: always
      sample: db-data
    path:
      description: The file on the host.
      type: str
      returned: always
      sample: /var/lib/kata-hypervisor/volumes/db-data/disk.raw
    size_mb:
      description: The size in MiB.
      type: int
      returned: always
      sample: 20480
    used_mb:
      description: MiB that its data needs on the host.
      type: int
      returned: always
      sample: 70
    filesystem:
      description: The file system that it was created with.
      type: str
      returned: always
      sample: xfs
    label:
      description: The label that it was created with.
      type: str
      returned: always
      sample: db-data
    created:
      description: When it was created, UTC; empty in check mode.
      type: str
      returned: always
      sample: "2026-11-26T08:00:00Z"
    sandboxes:
      description: The sandboxes that have it, running or not.
      type: list
      elements: dict
      returned: always
      sample: [{id: db, read_only: false}]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import fail_on_error
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import DIRECTORY_SPEC
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.volume_task import VOLUME_SPEC, converge_volume


def main() -> None:
    """Create a volume, grow it, or remove it."""
    module = AnsibleModule(argument_spec={**VOLUME_SPEC, **DIRECTORY_SPEC}, supports_check_mode=True)
    with fail_on_error(module):
        result = converge_volume(module.params, module.check_mode)
    for warning in result.pop("warnings"):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
