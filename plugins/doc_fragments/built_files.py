# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Files that modules build on a host. The argument specs are in provisioning/built_files.py and provisioning/initrd.py."""

    # An image.
    DOCUMENTATION = r"""
options:
  path:
    description: Path of the image. It is replaced atomically. A running VM keeps the old image.
    type: path
    required: true
  state:
    description: Whether the image must exist.
    type: str
    choices: [absent, present]
    default: present
"""

    # What goes into an image or an initrd.
    FILES = r"""
options:
  files:
    description: Files on the host to copy into it.
    type: list
    elements: dict
    default: []
    suboptions:
      src:
        description: The file on the host.
        type: path
        required: true
      dest:
        description: Absolute path in the guest.
        type: str
        required: true
      mode:
        description: Permissions in the guest, as an octal number in quotes.
        type: str
        default: "0644"
"""
