# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other programs that manage the host's interfaces or names: they leave a network's interfaces alone, and the host asks the network for its names."""

from __future__ import annotations

import contextlib
import os
import shutil

from ...errors import HostError
from ...host.atomic_files import replace_file, write_problem
from ...host.programs import run
from .definition import Network
from .host_links import program

#: A directory that exists while the program is installed or runs, the directory of its configuration, and the command that reads it again.
NETWORK_MANAGER = ("/etc/NetworkManager/conf.d", "/run/NetworkManager", ("nmcli", "general", "reload", "conf"))
NETWORKD = ("/etc/systemd/network", "/run/systemd/netif", ("networkctl", "reload"))
RESOLVED = "/run/systemd/resolve/io.systemd.Resolve"
SECONDS = 10.0


def files(network: Network) -> dict[str, str]:
    """The configuration files that this host needs, by path.

    NetworkManager and systemd-networkd would otherwise configure the bridge if a rule of theirs matches every interface. ifupdown only configures
    interfaces that its files name.
    """
    found = {}
    if os.path.isdir(NETWORK_MANAGER[0]):
        found[f"{NETWORK_MANAGER[0]}/90-{network.table}.conf"] = (
            f"# The Ansible collection kata.hypervisor writes this file.\n[device-{network.table}]\n"
            f"match-device=interface-name:{network.bridge};interface-name:kh*\nmanaged=0\n"
        )
    if os.path.isdir(NETWORKD[1]) and os.path.isdir(NETWORKD[0]):
        found[f"{NETWORKD[0]}/00-{network.table}.network"] = (
            f"# The Ansible collection kata.hypervisor writes this file.\n[Match]\nName={network.bridge} kh*\n\n"
            "[Link]\nUnmanaged=yes\n"
        )
    return found


def differences(network: Network) -> list[str]:
    """The files that must be written, in words. Reads only."""
    return [f"file {path}" for path, text in files(network).items() if _content(path) != text]


def ensure(network: Network) -> list[str]:
    """Write the files, before the bridge is created. Returns what was changed, in words.

    :raises HostError: a file cannot be written
    """
    changed = differences(network)
    if changed:
        for path, text in files(network).items():
            try:
                replace_file(path, text.encode())
            except OSError as problem:
                raise write_problem(problem, "a configuration file cannot be written", path) from problem
        _reload()
    return changed


def remove(network: Network) -> None:
    """Remove the files. Idempotent."""
    removed = False
    for path in (
        f"{NETWORK_MANAGER[0]}/90-{network.table}.conf",
        f"{NETWORKD[0]}/00-{network.table}.network",
    ):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(path)
            removed = True
    if removed:
        _reload()


def _reload() -> None:
    for _files, running, command in (NETWORK_MANAGER, NETWORKD):
        if os.path.isdir(running):
            with contextlib.suppress(HostError):
                run(list(command), SECONDS)


def has_resolver() -> bool:
    """Whether systemd-resolved runs, which can ask a network's DNS for the names of its domain."""
    return os.path.exists(RESOLVED)


def announce_names(network: Network) -> None:
    """Make the host's resolver ask the network's DNS for names of its domain. The setting ends with the bridge."""
    if not has_resolver():
        return
    definition = network.definition
    with contextlib.suppress(HostError):
        run(["resolvectl", "dns", network.bridge, definition.gateway], SECONDS)
        run(["resolvectl", "domain", network.bridge, f"~{definition.domain}"], SECONDS)
        run(["resolvectl", "default-route", network.bridge, "false"], SECONDS)


def obstacles(network: Network) -> list[str]:
    """Rules of others that drop the network's packets, each with the command that allows them. A table of our own cannot allow what another one drops."""
    found = []
    bridge = network.bridge
    chain = _output(program("nft"), "list", "chain", "ip", "filter", "FORWARD")
    if "policy drop" in chain and f'"{bridge}"' not in _output(program("nft"), "list", "table", "ip", "filter"):
        found.append(
            f"Rules of the host, such as docker's, drop what they do not know, so guests of the network {network.name} do not reach other hosts. "
            f"Allow it: iptables -I FORWARD -i {bridge} -j ACCEPT; iptables -I FORWARD -o {bridge} -j ACCEPT "
            "(with docker: in the chain DOCKER-USER)."
        )
    if "table inet firewalld" in _output(program("nft"), "list", "tables") and shutil.which("firewall-cmd"):
        if _output("firewall-cmd", f"--get-zone-of-interface={bridge}").strip() != "trusted":
            found.append(
                f"firewalld runs, and drops packets of the network {network.name} unless its bridge is in a zone that allows them. "
                f"Allow it: firewall-cmd --permanent --zone=trusted --add-interface={bridge}; firewall-cmd --reload."
            )
    return found


def _output(*argv: str) -> str:
    try:
        ended = run(list(argv), SECONDS)
        return "" if ended.code else ended.text
    except HostError:
        return ""


def _content(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except (OSError, UnicodeDecodeError):
        return ""
