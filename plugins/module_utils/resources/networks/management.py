# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create, change, remove and list the managed networks of a host: what the modules `kata_network` and `kata_network_info` do."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Mapping, Sequence

from ...errors import ConfigError, HostError, HypervisorError, StateError
from ...host.systemd import has_systemd
from ...records.layout import clean_path
from . import host_links, managers, service, unit
from .addresses import check_overlap, is_usable
from .definition import Definition, Network, make_definition, validate_name
from .lease import Lease
from .store import (
    all_networks,
    find_network,
    is_incomplete,
    network_names,
    networks_lock,
    read_leases,
    remove_definition,
    remove_drafts,
    remove_incomplete,
    save_definition,
)

#: What cannot change while sandboxes use the network: their taps and addresses depend on it.
FIXED = ("subnet", "gateway", "bridge", "subnet6", "gateway6")
#: Definition fields that a task can set.
OPTIONS = tuple(field.name for field in dataclasses.fields(Definition) if field.name != "name")


def converge_network(
    name: str,
    options: Mapping[str, Any],
    state_root: str,
    *,
    present: bool = True,
    force: bool = False,
    check: bool = False,
) -> dict[str, Any]:
    """Bring a network to a state. Returns the result of the module.

    :param options: what the task has set; an omitted option keeps its value
    :param force: remove the network although sandboxes use it
    :param check: change nothing, and return what would change
    :raises ConfigError: an option is wrong, or collides with something of the host
    :raises StateError: sandboxes use the network
    :raises HostError: a program is missing, or the host refuses
    """
    validate_name(name)
    state_root = clean_path(state_root, "state_dir")
    if not present:
        return _absent(name, state_root, force, check)
    before = find_network(name, state_root)
    network = _wanted(name, options, state_root, before)
    _check(network, before)
    actions = _actions(network, before)
    if check or not actions:
        result = _result(network, before, network, actions)
        result["network"].update({"state": "up", "missing": []})
        return result
    with networks_lock():
        # Another task may have been faster.
        before = find_network(name, state_root)
        network = _wanted(name, options, state_root, before)
        _check(network, before)
        actions = _actions(network, before)
        remove_drafts(network)
        if before is not None and before.bridge != network.bridge:
            service.remove(before)
        if before is None or before.definition != network.definition:
            save_definition(network)
        service.apply(network, list(read_leases(network).values()))
        unit.install(network)
    unit.mark_started(network)
    result = _result(network, before, network, actions)
    if result["network"]["missing"]:
        raise HostError(
            f"the network {name} is not complete: another program changed {', '.join(result['network']['missing'])}",
            option="name",
            wanted=name,
            fix="Run the task again.",
        )
    return result


def _wanted(name: str, options: Mapping[str, Any], state_root: str, before: Network | None) -> Network:
    """The network as it should be.

    :raises ConfigError: an option is wrong, or missing for a new network
    """
    given = {option: options[option] for option in OPTIONS if options.get(option) is not None}
    known = before.definition.as_record() if before is not None else {}
    # What follows from another option follows from its new value.
    for source, result in (("subnet", "gateway"), ("subnet6", "gateway6")):
        if source in given and given[source] != known.get(source):
            known.pop(result, None)
    known.pop("name", None)
    merged = {**known, **given}
    if not merged.get("subnet"):
        raise ConfigError("is required to create a network", option="subnet", fix="Set it, such as 10.61.0.0/24.")
    return Network(make_definition(name, **merged), state_root)


def _check(network: Network, before: Network | None) -> None:
    """Refuse what collides with the host, other networks or the sandboxes of this one. Changes nothing."""
    host_links.check_programs()
    definition = network.definition
    for other in all_networks(network.state_root):
        if other.name == network.name:
            continue
        for option in ("bridge", "domain"):
            if getattr(other.definition, option) == getattr(definition, option):
                raise ConfigError(
                    f"is already used by the network {other.name}", option=option, wanted=getattr(definition, option)
                )
        for subnet in filter(None, (other.definition.subnet, other.definition.subnet6)):
            for option in ("subnet", "subnet6"):
                if getattr(definition, option):
                    check_overlap(getattr(definition, option), option, [(subnet, f"of the network {other.name}")])
    host_links.check_bridge(network, host_links.find_bridge(network))
    if before is None or any(getattr(before.definition, name) != getattr(definition, name) for name in FIXED):
        used = host_links.used_networks([network.bridge, *([before.bridge] if before else [])])
        for option in ("subnet", "subnet6"):
            if getattr(definition, option):
                check_overlap(getattr(definition, option), option, used)
    if before is not None:
        _check_leases(before, definition)


def _check_leases(before: Network, definition: Definition) -> None:
    """Refuse changes that the network's sandboxes would not survive.

    :raises StateError: the error names the sandboxes
    """
    leases = read_leases(before)
    users = sorted(lease.id for lease in leases.values())
    for option in FIXED if leases else ():
        was, wanted = getattr(before.definition, option), getattr(definition, option)
        # IPv6 can be added: sandboxes get an address with their next task.
        if was != wanted and (was or option not in ("subnet6", "gateway6")):
            raise StateError(
                f"must stay {was!r} while sandboxes use the network: {', '.join(users)}",
                option=option,
                wanted=wanted,
                fix="Remove those sandboxes, or create another network.",
            )
    inside = sorted(lease.id for lease in leases.values() if not is_usable(definition, lease.ipv4))
    if inside:
        raise StateError(
            f"must not contain the addresses of sandboxes: {', '.join(inside)}",
            option="dhcp_range",
            wanted=definition.dhcp_range,
        )


def _actions(network: Network, before: Network | None) -> list[str]:
    """What must be done, in words."""
    missing = [*service.differences(network, list(read_leases(network).values())), *unit.differences(network)]
    if before is None:
        return [f"create the network {network.name}"]
    changed = [
        f"set {name}" for name in OPTIONS if getattr(before.definition, name) != getattr(network.definition, name)
    ]
    return changed + [f"restore {one}" for one in missing if not changed]


def _result(network: Network, before: Network | None, after: Network | None, actions: Sequence[str]) -> dict[str, Any]:
    warnings = []
    if after is not None:
        if not has_systemd():
            warnings.append(
                f"The host has no systemd, so the network {network.name} is up until the next reboot. Run the task again after it."
            )
        warnings += managers.obstacles(after)
    return {
        "changed": bool(actions),
        "actions": list(actions),
        "diff": {
            "before": _shown(before),
            "after": _shown(after),
            "before_header": f"network {network.name}",
            "after_header": f"network {network.name}",
        },
        "network": network_facts(after) if after is not None else {"name": network.name, "state": "absent"},
        "warnings": warnings,
    }


def _shown(network: Network | None) -> str:
    """A network as a diff shows it."""
    if network is None:
        return ""
    lines = []
    for name, value in network.definition.as_record().items():
        text = ", ".join(value) if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else value
        lines += [f"{name}: {text}"] if text else []
    return "\n".join([*lines, ""])


def _absent(name: str, state_root: str, force: bool, check: bool) -> dict[str, Any]:
    network = find_network(name, state_root)
    if network is None:
        if not check and is_incomplete(name, state_root):
            with networks_lock():
                if find_network(name, state_root) is None:
                    remove_incomplete(name, state_root)
        return {
            "changed": False,
            "actions": [],
            "diff": {"before": "", "after": ""},
            "network": {"name": name, "state": "absent"},
            "warnings": [],
        }
    _check_unused(network, force)
    actions = [f"remove the network {name}"]
    if not check:
        with networks_lock():
            network = find_network(name, state_root) or network
            _check_unused(network, force)
            unit.remove(network)
            service.remove(network)
            remove_definition(network)
    return _result(network, network, None, actions)


def _check_unused(network: Network, force: bool) -> None:
    """Refuse to remove a network that sandboxes use. A lease whose sandbox has no record does not count.

    :raises StateError: the error names the sandboxes
    """
    users = sorted(lease.id for lease in read_leases(network).values() if _exists(network, lease))
    if users and not force:
        raise StateError(
            f"sandboxes use the network {network.name}: {', '.join(users)}",
            option="state",
            wanted="absent",
            fix="Remove those sandboxes first. With force=true they keep running without the network.",
        )


def _exists(network: Network, lease: Lease) -> bool:
    return os.path.lexists(f"{network.state_root}/sandboxes/{lease.id}/record.json")


# --- facts -----------------------------------------------------------------------------------------------------------


def network_facts(network: Network) -> dict[str, Any]:
    """A network as results show it."""
    leases = read_leases(network)
    status = service.status(network, list(leases.values()))
    return {
        **network.definition.as_record(),
        "state": status.state,
        "missing": status.missing,
        "unit": network.unit if has_systemd() else "",
        "names_on_host": managers.has_resolver(),
        "leases": [
            {"id": lease.id, **lease.facts(), "exists": _exists(network, lease)}
            for lease in sorted(leases.values(), key=lambda lease: lease.id)
        ],
    }


def list_networks(state_root: str, names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The networks of a host, by name. One whose definition or leases cannot be used has the state `unreadable`.

    :param names: only these; empty for all
    """
    state_root = clean_path(state_root, "state_dir")
    found = []
    for name in network_names(state_root):
        if names and name not in names:
            continue
        try:
            network = find_network(name, state_root)
            if network is not None:
                found.append(network_facts(network))
        except HypervisorError as problem:
            found.append({"name": name, "state": "unreadable", "error": str(problem)})
    return found
