# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases of sandboxes: plan them, put them on the host, and drop them. This is what the engine calls.

All leases of a task are put at once: one lock, one nftables transaction, one signal to dnsmasq.
"""

from __future__ import annotations

import contextlib
from typing import Iterable, Sequence

from ...options.network_options import Port
from .addresses import assign, check_ports, parse_sockets
from .definition import Network
from .lease import Lease, LeaseRequest
from .store import (
    all_networks,
    find_network,
    has_lease,
    network_names,
    networks_lock,
    open_network,
    read_lease,
    read_leases,
    remove_drafts,
    remove_lease,
    save_lease,
)

__all__ = [
    "Lease",
    "LeaseRequest",
    "Network",
    "drop_leases",
    "is_current",
    "open_network",
    "plan_leases",
    "put_leases",
    "which_are_current",
]


def plan_leases(network: Network, requests: Sequence[LeaseRequest]) -> list[Lease]:
    """The leases that `put_leases` would put now, in the order of the requests. Reads only.

    A lease is itself a request. A sandbox keeps the address that it has.

    :raises ConfigError: an address is outside the network or taken, a port is in use, a name is used twice
    :raises HostError: a program is missing
    :raises StoreError: a record cannot be read
    """
    from .service import check_programs

    check_programs()
    return _planned(network, requests)


def _planned(network: Network, requests: Sequence[LeaseRequest]) -> list[Lease]:
    planned = assign(network.definition, read_leases(network), requests)
    if any(lease.ports for lease in planned):
        others = [lease for other in all_networks(network.state_root) for lease in read_leases(other).values()]
        check_ports(planned, others, listening_ports())
    return planned


def put_leases(network: Network, leases: Sequence[LeaseRequest]) -> list[Lease]:
    """Record leases and apply them to the host. Idempotent. A network that is down, after a reboot for example, is set up too.

    :returns: the leases as they are now: an address that the task did not request may differ from the plan, if another task got it first
    :raises ConfigError: as `plan_leases`, if another task was faster
    :raises HostError: the host refuses
    """
    from .service import apply

    if not leases:
        return []
    with networks_lock():
        network = open_network(network.name, network.state_root)
        remove_drafts(network)
        planned = _planned(network, leases)
        for lease in planned:
            if read_lease(network, lease.sandbox) != lease:
                save_lease(network, lease)
        apply(network, list(read_leases(network).values()))
    return planned


def drop_leases(network_name: str, state_root: str, sandboxes: Iterable[str]) -> list[str]:
    """Remove leases and all that the host has for them. Idempotent.

    :param sandboxes: unique names on the host (`SandboxLayout.host_name`)
    :returns: the sandboxes that had one
    :raises HostError: the host refuses
    """
    from .service import apply

    names = list(sandboxes)
    network = find_network(network_name, state_root)
    if network is None or not names:
        return []
    with networks_lock():
        network = find_network(network_name, state_root)
        if network is None:
            return []
        remove_drafts(network)
        dropped = [name for name in names if remove_lease(network, name)]
        apply(network, list(read_leases(network).values()), only_if_up=True)
    return dropped


def networks_of(state_root: str, sandbox: str) -> list[str]:
    """The names of the networks that have a lease of a sandbox, readable or not.

    :param sandbox: its unique name on the host (`SandboxLayout.host_name`)
    """
    return [name for name in network_names(state_root) if has_lease(name, state_root, sandbox)]


def is_current(lease: Lease, state_root: str) -> bool:
    """Whether the host is as a lease needs it: its record, the bridge, the rules, DHCP and names. For many leases see `which_are_current`."""
    return lease.sandbox in which_are_current(lease.network, state_root, [lease])


def which_are_current(network_name: str, state_root: str, leases: Iterable[Lease]) -> set[str]:
    """The sandboxes of those leases that are current. The host is looked at once."""
    from .service import differences

    network = find_network(network_name, state_root)
    if network is None:
        return set()
    recorded = read_leases(network)
    if differences(network, list(recorded.values())):
        return set()
    return {lease.sandbox for lease in leases if recorded.get(lease.sandbox) == lease}


def listening_ports() -> list[Port]:
    """The ports of the host that programs listen on."""
    found = []
    for name, protocol in (("tcp", "tcp"), ("tcp6", "tcp"), ("udp", "udp"), ("udp6", "udp")):
        with contextlib.suppress(OSError), open(f"/proc/net/{name}", encoding="ascii", errors="replace") as stream:
            found += parse_sockets(stream.read(), protocol)
    return found
