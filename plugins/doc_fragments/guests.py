# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options of modules that work in guests."""

    DOCUMENTATION = r"""
options:
  ids:
    description:
      - The ids of the sandboxes, or patterns of ids such as V(web-*).
      - A sandbox that is named by its id must run. A pattern names those of its sandboxes that run.
    type: list
    elements: str
    required: true
    aliases: [id, name]
  parallel:
    description: In how many guests the work is done at the same time.
    type: int
    default: 16
  connect_timeout:
    description: Seconds until the agent of a guest, and the shell that it starts, must have answered.
    type: float
    default: 60
"""
