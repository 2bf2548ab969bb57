# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of kata_host_packages: it shows that the module still runs."""

from __future__ import annotations

from ansible_collections.kata.hypervisor.plugins.plugin_utils.progress import ProgressAction


class ActionModule(ProgressAction):
    """Runs the module of this name."""

    SUBJECT = "names"
