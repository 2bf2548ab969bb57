# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The versions that the collection supports: noxfile.py runs them, and tests compare docs/versions.md and ansible-core itself with them."""

from __future__ import annotations

#: The Pythons that a controller may have, by version of ansible-core. The first one is the minimum of meta/runtime.yml.
CONTROLLER_PYTHONS = {
    "2.17": ["3.10", "3.11", "3.12"],
    "2.18": ["3.11", "3.12", "3.13"],
    "2.19": ["3.11", "3.12", "3.13"],
    "2.20": ["3.12", "3.13", "3.14"],
    "2.21": ["3.12", "3.13", "3.14"],
}
#: The Pythons that a host may have; the first one is the minimum of tests/config.yml.
HOST_PYTHONS = ["3.9", "3.10", "3.11", "3.12", "3.13", "3.14"]


def host_pythons(core: str) -> list[str]:
    """The Pythons of hosts that an ansible-core and this collection support."""
    return HOST_PYTHONS[: HOST_PYTHONS.index(CONTROLLER_PYTHONS[core][-1]) + 1]
