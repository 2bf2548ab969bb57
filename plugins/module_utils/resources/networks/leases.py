# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases of sandboxes: plan them, put them on the host, and drop them. This is what the engine calls.

All leases of a task are put at once: one lock, one nftables transaction, one signal to dnsmasq.
"""

from __future__ import annotations

import contextlib
import threading
import time
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
    from .host_links import check_programs

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

    Calls of several threads are joined: while one applies its leases, the others wait, and then one of them applies all of theirs.

    :returns: the leases as they are now: an address that the task did not request may differ from the plan, if another task got it first
    :raises ConfigError: as `plan_leases`, if another task was faster
    :raises HostError: the host refuses
    """
    if not leases:
        return []
    return _joined(_Call(network.name, network.state_root, put=leases)).leases


def drop_leases(network_name: str, state_root: str, sandboxes: Iterable[str]) -> list[str]:
    """Remove leases and all that the host has for them. Idempotent. Calls of several threads are joined, as those of `put_leases`.

    :param sandboxes: unique names on the host (`SandboxLayout.host_name`)
    :returns: the sandboxes that had one
    :raises HostError: the host refuses
    """
    names = list(sandboxes)
    if not names or find_network(network_name, state_root) is None:
        return []
    return _joined(_Call(network_name, state_root, drop=names)).dropped


class _Call:
    """A call of `put_leases` or of `drop_leases` by one thread, and its result."""

    def __init__(
        self, network: str, state_root: str, put: Sequence[LeaseRequest] = (), drop: Sequence[str] = ()
    ) -> None:
        self.place = network, state_root
        self.put, self.drop = put, drop
        self.done = False
        self.leases: list[Lease] = []
        self.dropped: list[str] = []
        self.error: Exception | None = None


#: The calls that wait, by network; a lock for that; and a lock for the thread that changes networks.
_WAITING: dict[tuple[str, str], list[_Call]] = {}
_QUEUE, _TURN = threading.Lock(), threading.Lock()


def _joined(call: _Call) -> _Call:
    """Wait until a call is done, by this thread or by another one together with its own."""
    with _QUEUE:
        _WAITING.setdefault(call.place, []).append(call)
    with _TURN:
        if not call.done:
            with _QUEUE:
                calls = _WAITING.pop(call.place)
            _serve(calls)
    if call.error is not None:
        raise call.error
    return call


def _serve(calls: Sequence[_Call]) -> None:
    """Do several calls at once; if that is refused, each by itself, so that each gets its own error."""
    try:
        _change(calls)
    except Exception as problem:
        for call in calls:
            if len(calls) == 1:
                call.error = problem
            else:
                _serve([call])
    finally:
        for call in calls:
            call.done = True


def _change(calls: Sequence[_Call]) -> None:
    """Drop leases, record leases, and make the host agree, in one step for all calls, which are about one network."""
    from .service import apply

    name, state_root = calls[0].place
    puts = any(call.put for call in calls)
    with networks_lock():
        _LOOKS.clear()
        network = open_network(name, state_root) if puts else find_network(name, state_root)
        if network is None:
            return
        remove_drafts(network)
        for call in calls:
            call.dropped = [sandbox for sandbox in call.drop if remove_lease(network, sandbox)]
        if puts:
            planned = iter(_planned(network, [lease for call in calls for lease in call.put]))
            for call in calls:
                call.leases = [next(planned) for _lease in call.put]
                for lease in call.leases:
                    if read_lease(network, lease.sandbox) != lease:
                        save_lease(network, lease)
        apply(network, list(read_leases(network).values()), only_if_up=not puts)


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
    key, now = (network, frozenset(recorded.values())), time.monotonic()
    looked, is_as_it_should_be = _LOOKS.get(key, (0.0, False))
    if not looked or now - looked > LOOK_SECONDS:
        is_as_it_should_be = not differences(network, list(recorded.values()))
        _LOOKS[key] = now, is_as_it_should_be
    return {lease.sandbox for lease in leases if is_as_it_should_be and recorded.get(lease.sandbox) == lease}


#: How long the host is not looked at again, seconds, and when it was, and with what result, by the network and its leases. A task that is about many
#: sandboxes of a network looks once.
LOOK_SECONDS = 2.0
_LOOKS: dict[tuple[Network, frozenset[Lease]], tuple[float, bool]] = {}


def listening_ports() -> list[Port]:
    """The ports of the host that programs listen on."""
    found = []
    for name, protocol in (("tcp", "tcp"), ("tcp6", "tcp"), ("udp", "udp"), ("udp6", "udp")):
        with contextlib.suppress(OSError), open(f"/proc/net/{name}", encoding="ascii", errors="replace") as stream:
            found += parse_sockets(stream.read(), protocol)
    return found
