# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """The directories of sandboxes on a host."""

    DOCUMENTATION = r"""
options:
  state_dir:
    description:
      - Directory for files that must survive a reboot. These are records, locks and saved states. All sandboxes of a host share it.
      - A task finds a sandbox only if it uses the directory that the sandbox was created in.
      - The directory and the directories above it must belong to root or to the user of the task, and nobody else may write to them.
    type: path
    default: /var/lib/kata-hypervisor
  run_dir:
    description:
      - Directory for files that need not survive a reboot. These are sockets, pid files and logs.
      - Keep the path short. The path of a socket is limited to 107 bytes.
      - A sandbox keeps the directory that it was created with. A task with another one fails and names both.
    type: path
    default: /run/kata-hypervisor
"""
