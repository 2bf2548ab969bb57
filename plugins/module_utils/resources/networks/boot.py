# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that systemd runs at boot for a network: it sets the network up with its recorded leases."""

from __future__ import annotations

import sys

from ...errors import HypervisorError
from .service import apply
from .store import find_network, networks_lock, read_leases, remove_drafts


def bring_up(name: str, state_root: str) -> list[str]:
    """Make the host agree with a network that is defined. Returns what was changed, in words.

    :raises HypervisorError: the network cannot be set up
    """
    if find_network(name, state_root) is None:
        return []
    with networks_lock():
        network = find_network(name, state_root)
        if network is None:
            return []
        remove_drafts(network)
        return apply(network, list(read_leases(network).values()))


def main() -> None:
    """The program's arguments: a name and the state directory."""
    if len(sys.argv) != 3:
        raise SystemExit("usage: kata-network.pyz NAME STATE_DIR")
    try:
        changed = bring_up(sys.argv[1], sys.argv[2])
    except HypervisorError as problem:
        raise SystemExit(str(problem)) from problem
    sys.stdout.write(f"network {sys.argv[1]}: {', '.join(changed) or 'no change'}\n")
