# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Where sandboxes live on a host."""

    DOCUMENTATION = r"""
options:
  state_dir:
    description:
      - Directory for what outlives a reboot, namely records, locks and saved states. All sandboxes of a host share it.
      - A sandbox is only known to tasks that name the directory it was made in.
      - It and the directories above it must belong to root or the user of the task, and nobody else may write to them.
    type: path
    default: /var/lib/kata-hypervisor
  run_dir:
    description:
      - Directory for what a reboot may take away, namely sockets, pid files and logs.
      - The path of a socket has at most 107 bytes, so keep it short.
      - A sandbox keeps the one that it was made with. A task that names another fails, and says both.
    type: path
    default: /run/kata-hypervisor
"""
