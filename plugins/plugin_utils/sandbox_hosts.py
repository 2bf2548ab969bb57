# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sandboxes as hosts of an inventory: their names, groups and variables. Pure.

What a host tells about its sandboxes has passed that host, and labels and guest facts are texts of others. So everything has a declared shape, and no
sandbox can take the name of another host of the inventory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, printable
from ansible_collections.kata.hypervisor.plugins.module_utils.options.labels import checked_labels
from ansible_collections.kata.hypervisor.plugins.module_utils.options.network_options import parse_ports
from ansible_collections.kata.hypervisor.plugins.module_utils.records.layout import (
    RUN_ROOT,
    SANDBOX_ID,
    STATE_ROOT,
    clean_path,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.untrusted.answers import (
    AnswerError,
    Anything,
    ListOf,
    MapOf,
    Maybe,
    Number,
    Record,
    Text,
    checked,
)

#: The states of sandboxes that exist; `engine.batch.OBSERVED_STATES` has the same, and takes the engine to import.
STATES = (
    "started",
    "paused",
    "stopped",
    "saved",
    "crashed",
    "failed",
    "unresponsive",
    "changing",
    "incomplete",
    "unreadable",
)
#: Names that a sandbox cannot have, since Ansible gives them a meaning.
RESERVED = ("all", "ungrouped", "localhost", "127.0.0.1", "::1")
HOST_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}")
#: The port of a guest's ssh server.
SSH = 22
#: The most sandboxes of one host.
MOST_SANDBOXES = 4096

_NETWORK = Record(
    {"network": Text(64, pattern="[a-z][a-z0-9-]*")},
    {
        # An address becomes an argument of ssh, so it must not look like an option.
        **{name: Text(45, pattern="[0-9A-Fa-f.:]*") for name in ("address", "address6", "gateway", "gateway6", "mac")},
        "name": Text(256),
        "ports": ListOf(Text(100), 256),
    },
)
_FACTS = Record(
    {"id": Text(64, pattern=SANDBOX_ID.pattern), "state": Text(32, choices=STATES)},
    {
        "desired": Text(32),
        "hypervisor": Text(64, pattern="[a-z][a-z0-9_-]*"),
        "labels": MapOf(Text(256), 64),
        "vcpus": Maybe(Number()),
        "memory_mb": Maybe(Number()),
        "network": _NETWORK,
        "reason": Maybe(Text()),
        "guest": MapOf(Anything(depth=8, most=4096)),
        "created_at": Text(64),
        "changed_at": Text(64),
        "state_dir": Text(4096),
        "run_dir": Text(4096),
    },
)
#: The facts that an inventory has of a sandbox.
KEPT_FACTS = (*_FACTS.required, *_FACTS.optional)


class SandboxHost(NamedTuple):
    """A sandbox of a host.

    :param facts: the checked part of its facts
    :param stale: whether they come from the cache since the host does not answer
    """

    host: str
    facts: dict[str, Any]
    stale: bool

    @property
    def key(self) -> tuple[str, str]:
        """What is unique of it."""
        return self.host, self.facts["id"]


def usable_facts(host: str, answer: Iterable[Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """The sandboxes in the answer of a host, and an error for each that cannot be used."""
    usable: dict[str, dict[str, Any]] = {}
    errors = []
    for number, facts in enumerate(answer):
        if number == MOST_SANDBOXES:
            errors.append(f"{host} has more than {MOST_SANDBOXES} sandboxes, and the others are left out")
            break
        try:
            one = checked(_FACTS, facts, f"the answer of {host} about a sandbox")
            if "labels" in one:
                one["labels"] = checked_labels("labels", one["labels"])
            for name in ("state_dir", "run_dir"):
                if name in one:
                    one[name] = clean_path(one[name], name)
        except (AnswerError, ConfigError) as problem:
            errors.append(str(problem))
        else:
            usable[one["id"]] = one
    return list(usable.values()), errors


def host_names(
    sandboxes: Iterable[SandboxHost], wanted: Mapping[tuple[str, str], str], taken: Collection[str]
) -> tuple[dict[tuple[str, str], str], list[str]]:
    """The inventory names of sandboxes by `SandboxHost.key`, and an error for each that gets none.

    A sandbox has the wanted name, by default its id. Where that is not its alone, each of those that want it is called `NAME.HOST`.

    :param wanted: by key, the names that the source's option gives
    :param taken: the names of all hosts and groups of the inventory
    """
    claims: dict[str, list[tuple[str, str]]] = {}
    for sandbox in sandboxes:
        claims.setdefault(wanted.get(sandbox.key, sandbox.facts["id"]), []).append(sandbox.key)
    chosen: dict[str, list[tuple[str, str]]] = {}
    for name, keys in claims.items():
        alone = len(keys) == 1 and name not in taken and name not in RESERVED
        for key in keys:
            chosen.setdefault(name if alone else f"{name}.{key[0]}", []).append(key)
    names = {}
    errors = []
    for name, keys in chosen.items():
        if len(keys) == 1 and name not in taken and name not in RESERVED and HOST_NAME.fullmatch(name):
            names[keys[0]] = name
        else:
            what = " and ".join(f"sandbox {identity} of {host}" for host, identity in keys)
            errors.append(f"{what} cannot be called {printable(name)}, which must be a host name that nothing else has")
    return names, errors


def group_names(sandbox: SandboxHost, prefix: str = "") -> list[str]:
    """The groups of a sandbox."""
    facts = sandbox.facts
    stem = re.sub(r"[._-]?[0-9]+$", "", facts["id"])
    groups = ["sandboxes", f"state_{facts['state']}", f"host_{sandbox.host}"]
    if stem:
        groups.append(f"sandbox_{stem}")
    if facts.get("hypervisor"):
        groups.append(f"hypervisor_{facts['hypervisor']}")
    if facts.get("network"):
        groups.append(f"network_{facts['network']['network']}")
    groups += [
        f"label_{name}_{value}" if value else f"label_{name}" for name, value in (facts.get("labels") or {}).items()
    ]
    return [prefix + re.sub(r"[^A-Za-z0-9_]", "_", group) for group in groups]


def variables(sandbox: SandboxHost) -> dict[str, Any]:
    """The variables of a sandbox that say what it is. All values are those of its host."""
    shown = {name: value for name, value in sandbox.facts.items() if name not in ("state_dir", "run_dir")}
    found: dict[str, Any] = {
        "kata_sandbox_id": sandbox.facts["id"],
        "kata_sandbox_host": sandbox.host,
        "kata_sandbox": shown,
    }
    if sandbox.stale:
        found["kata_sandbox_stale"] = True
    for name, root, depth in (("state_dir", STATE_ROOT, 2), ("run_dir", RUN_ROOT, 1)):
        path = sandbox.facts.get(name)
        for _level in range(depth):
            path = os.path.dirname(path) if path else path
        if path and path != root:
            found[f"kata_sandbox_{name}"] = path
    return found


def ssh_address(facts: Mapping[str, Any]) -> tuple[str, int] | None:
    """The address and port of a guest's ssh server as its host sees them; None where the host has no way to it."""
    network = facts.get("network") or {}
    address = network.get("address") or network.get("address6")
    if address:
        return str(address), SSH
    try:
        ports = parse_ports(network.get("ports") or [])
    except ConfigError:
        return None
    published = [port for port in ports if port.guest_port == SSH and port.protocol == "tcp"]
    return (published[0].of_vmm.address or "127.0.0.1", published[0].host_port) if published else None
