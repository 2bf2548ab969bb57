# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the host agree with a network and its leases, or remove all that a network has there. Every function is idempotent.

The host's state follows from the definition and the leases alone. So a killed task leaves nothing that the next one does not correct.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from typing import Any, NamedTuple, Sequence

from ...errors import HostError
from ...host.atomic_files import DRAFT, make_directories, replace_file, write_problem
from ...host.programs import run
from ...host.run_directory import allow_traversal
from ...untrusted.answers import AnswerError, MapOf, Text, checked, parsed
from . import dnsmasq_process, host_links, managers, settings
from .definition import RUN_DIRECTORY, Network
from .dnsmasq import configuration, dhcp_hosts, hosts, without_stale
from .host_links import check_programs
from .lease import Lease
from .nftables import removal, ruleset

#: What was last applied: digests of the rules and of dnsmasq's files. It is lost at a reboot, as the rules are.
APPLIED = "applied.json"


def apply(network: Network, leases: Sequence[Lease], only_if_up: bool = False) -> list[str]:
    """Make the host agree. The caller holds the lock of networks.

    :param only_if_up: do nothing if the network is down
    :returns: what was changed, in words
    :raises HostError: the host refuses, or a program is missing
    :raises ConfigError: another interface has the name of the bridge
    """
    bridge = host_links.find_bridge(network)
    if only_if_up and bridge is None and not os.path.isdir(network.run_directory):
        return []
    check_programs()
    host_links.check_bridge(network, bridge)
    link_changes = host_links.bridge_differences(network, bridge)
    changed = [*managers.ensure(network), *link_changes]
    try:
        make_directories(RUN_DIRECTORY)
        # dnsmasq's user must be able to open its files below.
        allow_traversal(os.path.dirname(RUN_DIRECTORY))
        make_directories(network.run_directory, 0o750)
        os.chown(network.run_directory, -1, dnsmasq_process.user().gid)
    except OSError as problem:
        raise write_problem(problem, "the network's directory cannot be created", network.run_directory) from problem
    applied = _applied(network)
    rules = ruleset(network, leases)
    # The rules come first: no guest reaches anything without them.
    if applied.get("rules") != _digest(rules) or applied.get("listed") != _listed(network):
        changed.append("nftables rules")
        load(rules)
        applied.update(rules=_digest(rules), listed=_listed(network))
        _save_applied(network, applied)
    if link_changes:
        host_links.ensure_bridge(network, bridge)
    # The sockets of a dnsmasq that runs belong to the bridge that existed before.
    changed += [*settings.ensure(network, leases), *_apply_dnsmasq(network, leases, applied, restart=bridge is None)]
    if link_changes or "dnsmasq" in changed:
        managers.announce_names(network)
    return changed


def load(rules: str) -> None:
    """Load nftables rules in one transaction.

    :raises HostError: the kernel refuses; nothing was changed
    """
    ended = run([host_links.program("nft"), "-f", "-"], host_links.SECONDS, data=rules.encode())
    if ended.code:
        raise HostError(
            "nftables refused the rules of the network",
            option="network",
            answer=ended.words,
            fix="The kernel must have nf_tables with the families inet and bridge, nat, and connection tracking.",
        )


def _apply_dnsmasq(network: Network, leases: Sequence[Lease], applied: dict[str, str], restart: bool) -> list[str]:
    files = _files(network, leases)
    changed = []
    for name, text in files.items():
        if _read(f"{network.run_directory}/{name}") != text:
            _write(network, name, text)
    process = dnsmasq_process.find(network)
    given = _read(f"{network.run_directory}/dnsmasq.leases")
    restart = restart or without_stale(given, network, leases) != given
    if process is None or restart or applied.get("configuration") != _digest(files["dnsmasq.conf"]):
        dnsmasq_process.stop(network)
        # dnsmasq has written its file for the last time.
        given = _read(f"{network.run_directory}/dnsmasq.leases")
        _write(network, "dnsmasq.leases", without_stale(given, network, leases))
        dnsmasq_process.start(network)
        changed.append("dnsmasq")
    elif applied.get("names") != _names(files):
        dnsmasq_process.reload(process)
        changed.append("names and DHCP")
    if changed:
        applied.update(configuration=_digest(files["dnsmasq.conf"]), names=_names(files))
        _save_applied(network, applied)
    return changed


def differences(network: Network, leases: Sequence[Lease]) -> list[str]:
    """What `apply` would change, in words. Reads only."""
    bridge = host_links.find_bridge(network)
    found = [*managers.differences(network), *host_links.bridge_differences(network, bridge)]
    applied = _applied(network)
    if applied.get("rules") != _digest(ruleset(network, leases)) or applied.get("listed") != _listed(network):
        found.append("nftables rules")
    found += settings.differences(network, leases)
    files = _files(network, leases)
    if dnsmasq_process.find(network) is None or applied.get("configuration") != _digest(files["dnsmasq.conf"]):
        found.append("dnsmasq")
    elif applied.get("names") != _names(files):
        found.append("names and DHCP")
    return found


def remove(network: Network) -> None:
    """Remove all that the network has on the host, except its definition and its leases. The caller holds the lock of networks.

    :raises HostError: something cannot be removed
    """
    dnsmasq_process.stop(network)
    with contextlib.suppress(HostError):
        load(removal(network.table))
    host_links.remove_bridge(network)
    managers.remove(network)
    settings.restore(network)
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(network.run_directory):
            os.unlink(f"{network.run_directory}/{name}")
        os.rmdir(network.run_directory)


class Status(NamedTuple):
    """How a network is.

    :param state: up, down, or degraded if something of it is missing
    :param missing: what is missing, in words
    """

    state: str
    missing: list[str]


def status(network: Network, leases: Sequence[Lease]) -> Status:
    """How a network is. Reads only."""
    missing = differences(network, leases)
    if not missing:
        return Status("up", [])
    is_down = host_links.find_bridge(network) is None and dnsmasq_process.find(network) is None
    return Status("down" if is_down else "degraded", missing)


# --- what was applied ------------------------------------------------------------------------------------------------


def _listed(network: Network) -> str:
    """A digest of the network's tables as the kernel has them; empty if one is missing."""
    text = b""
    for family in ("inet", "bridge"):
        ended = run([host_links.program("nft"), "-s", "list", "table", family, network.table], host_links.SECONDS)
        if ended.code:
            return ""
        text += ended.output
    return hashlib.sha256(text).hexdigest()


def _files(network: Network, leases: Sequence[Lease]) -> dict[str, str]:
    who = dnsmasq_process.user()
    return {
        "dnsmasq.conf": configuration(network, who.name, who.group),
        "dhcp-hosts": dhcp_hosts(leases),
        "hosts": hosts(leases),
    }


def _names(files: dict[str, str]) -> str:
    return _digest(files["dhcp-hosts"] + "\0" + files["hosts"])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _applied(network: Network) -> dict[str, str]:
    text = _read(f"{network.run_directory}/{APPLIED}")
    try:
        found: dict[str, str] = checked(MapOf(Text(100), 10), parsed(text, APPLIED, 10_000), APPLIED)
        return found
    except AnswerError:
        return {}


def _save_applied(network: Network, applied: dict[str, Any]) -> None:
    _write(network, APPLIED, json.dumps(applied, sort_keys=True))


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read(1 << 22)
    except (OSError, UnicodeDecodeError):
        return ""


def _write(network: Network, name: str, text: str) -> None:
    """Write a file that dnsmasq's group may read."""
    path, draft = f"{network.run_directory}/{name}", f"{network.run_directory}/{DRAFT}{name}"
    try:
        replace_file(path, text.encode(), 0o640, draft)
        os.chown(path, -1, dnsmasq_process.user().gid)
    except OSError as problem:
        raise write_problem(problem, "a file of dnsmasq cannot be written", path) from problem
