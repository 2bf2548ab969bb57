# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Files that are made on a host. The argument specs: provisioning/built_files.py and provisioning/initrd.py."""

    # An image.
    DOCUMENTATION = r"""
options:
  path:
    description: Where the image is. It is replaced in one step; a VM that runs keeps the one that it has.
    type: path
    required: true
  state:
    description: Whether the image shall be there.
    type: str
    choices: [absent, present]
    default: present
"""

    # What goes into an image or an initrd.
    FILES = r"""
options:
  files:
    description: Files of the host to put in.
    type: list
    elements: dict
    default: []
    suboptions:
      src:
        description: The file on the host.
        type: path
        required: true
      dest:
        description: Its absolute path in the guest.
        type: str
        required: true
      mode:
        description: Its permissions, as an octal number in quotes.
        type: str
        default: "0644"
"""
