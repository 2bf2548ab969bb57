# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept on disk of networks: a definition per network, a lease per sandbox, and the lock of all networks of a host."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from typing import Any, Iterator

from ...errors import ConfigError, HostError, StoreError
from ...host.atomic_files import DRAFT, ensure_directory, locked, make_directories, replace_file, sync, write_problem
from ...untrusted.answers import AnswerError, parsed
from ...untrusted.files import Directory, UntrustedFile, check_parents
from .definition import NAME, RUN_DIRECTORY, Definition, Network, network_directory
from .lease import Lease, record_key

#: Seconds to wait for another task that changes networks.
LOCK_SECONDS = 60.0
#: The most that a file of ours may have, bytes.
MOST_BYTES = 256 * 1024
DEFINITION = "network.json"
LEASES = "leases"
FIX = "Create it with the module kata_network or the role kata_network."


@contextlib.contextmanager
def networks_lock(seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold the lock of all networks of the host.

    :raises LockTimeout: another task held it all the time
    :raises HostError: it cannot be created
    """
    try:
        check_parents(os.path.dirname(RUN_DIRECTORY), "network")
        make_directories(RUN_DIRECTORY)
        with locked(f"{RUN_DIRECTORY}/lock", seconds, "the networks of this host", "network"):
            yield
    except OSError as problem:
        raise HostError(
            "the lock of the networks cannot be created",
            option="network",
            wanted=RUN_DIRECTORY,
            answer=str(problem),
            fix="The task must run as root.",
        ) from problem


def network_names(state_root: str) -> list[str]:
    """The names of the networks that are defined, sorted."""
    try:
        names = os.listdir(f"{state_root}/networks")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as problem:
        raise _unreadable(f"{state_root}/networks", problem) from problem
    return sorted(
        name for name in names if NAME.fullmatch(name) and os.path.lexists(f"{state_root}/networks/{name}/{DEFINITION}")
    )


def find_network(name: str, state_root: str) -> Network | None:
    """A network by its name; None if it is not defined.

    :raises StoreError: its definition cannot be used
    """
    if not NAME.fullmatch(name):
        return None
    found = _read_json(network_directory(name, state_root), DEFINITION)
    if found is None:
        return None
    source = f"{network_directory(name, state_root)}/{DEFINITION}"
    try:
        definition = Definition.from_record(found, source)
    except (AnswerError, ConfigError) as problem:
        raise _unreadable(source, problem) from problem
    if definition.name != name:
        raise _unreadable(source, ValueError(f"it defines the network {definition.name}"))
    return Network(definition, state_root)


def open_network(name: str, state_root: str) -> Network:
    """A network by its name.

    :raises ConfigError: it is not defined; the error names those that are
    :raises StoreError: its definition cannot be used
    """
    network = find_network(name, state_root)
    if network is None:
        others = network_names(state_root)
        raise ConfigError(
            f"must be a network of the host: {', '.join(others)}" if others else "the host has no network",
            option="network",
            wanted=name,
            fix=FIX,
        )
    return network


def all_networks(state_root: str) -> list[Network]:
    """All networks that are defined, by name."""
    return [network for name in network_names(state_root) if (network := find_network(name, state_root))]


def save_definition(network: Network) -> None:
    """Write a network's definition. The caller holds the lock.

    :raises HostError: it cannot be written
    """
    try:
        check_parents(network.state_root, "state_dir")
        ensure_directory(os.path.dirname(network.directory))
        make_directories(network.directory, 0o700)
        _write_json(network.directory, DEFINITION, network.definition.as_record())
    except OSError as problem:
        raise write_problem(problem, "the network's definition cannot be written", network.directory) from problem


def remove_definition(network: Network) -> None:
    """Remove a network's directory; its definition goes last, so that a killed removal is continued. Idempotent. The caller holds the lock.

    :raises HostError: it cannot be removed
    """
    try:
        shutil.rmtree(f"{network.directory}/{LEASES}", ignore_errors=True)
        for name in (*_drafts(network.directory), DEFINITION):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{network.directory}/{name}")
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(network.directory)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(network.directory))
        with contextlib.suppress(OSError):
            sync(network.state_root)
    except OSError as problem:
        raise HostError(
            "the network's directory cannot be removed", wanted=network.directory, answer=str(problem)
        ) from problem


def is_incomplete(name: str, state_root: str) -> bool:
    """Whether a killed task left directories of a network that has no definition."""
    directory = network_directory(name, state_root)
    try:
        return os.path.isdir(directory) or not os.listdir(os.path.dirname(directory))
    except OSError:
        return False


def remove_incomplete(name: str, state_root: str) -> None:
    """Remove the directory of a network that a killed task has not defined yet, or has almost removed. The caller holds the lock."""
    directory = network_directory(name, state_root)
    for draft in _drafts(directory):
        with contextlib.suppress(OSError):
            os.unlink(f"{directory}/{draft}")
    for path in (f"{directory}/{LEASES}", directory, os.path.dirname(directory)):
        with contextlib.suppress(OSError):
            os.rmdir(path)


# --- leases ----------------------------------------------------------------------------------------------------------


def read_leases(network: Network) -> dict[str, Lease]:
    """The recorded leases of a network, by sandbox.

    :raises StoreError: one cannot be used
    """
    directory = f"{network.directory}/{LEASES}"
    try:
        with Directory.open(directory) as opened:
            names = opened.names()
    except FileNotFoundError:
        return {}
    except OSError as problem:
        raise _unreadable(directory, problem) from problem
    found = {}
    for name in names:
        if name.startswith(".") or not name.endswith(".json"):
            continue
        value = _read_json(directory, name)
        if value is None:
            continue
        try:
            lease = Lease.from_record(value, network.definition, f"{directory}/{name}")
        except (AnswerError, ConfigError) as problem:
            raise _unreadable(f"{directory}/{name}", problem) from problem
        if record_key(lease.sandbox) != name:
            raise _unreadable(f"{directory}/{name}", ValueError(f"it is the lease of the sandbox {lease.sandbox}"))
        found[lease.sandbox] = lease
    return found


def read_lease(network: Network, sandbox: str) -> Lease | None:
    """The recorded lease of one sandbox.

    :raises StoreError: it cannot be used
    """
    path = f"{network.directory}/{LEASES}"
    value = _read_json(path, record_key(sandbox))
    if value is None:
        return None
    try:
        return Lease.from_record(value, network.definition, f"{path}/{record_key(sandbox)}")
    except (AnswerError, ConfigError) as problem:
        raise _unreadable(f"{path}/{record_key(sandbox)}", problem) from problem


def has_lease(network_name: str, state_root: str, sandbox: str) -> bool:
    """Whether a network has a file with a sandbox's lease, usable or not."""
    return os.path.lexists(f"{network_directory(network_name, state_root)}/{LEASES}/{record_key(sandbox)}")


def save_lease(network: Network, lease: Lease) -> None:
    """Write a lease. The caller holds the lock.

    :raises HostError: it cannot be written
    """
    directory = f"{network.directory}/{LEASES}"
    try:
        make_directories(directory, 0o700)
        _write_json(directory, record_key(lease.sandbox), lease.as_record())
    except OSError as problem:
        raise write_problem(problem, "the lease cannot be written", directory) from problem


def remove_lease(network: Network, sandbox: str) -> bool:
    """Remove a lease. False if there was none. The caller holds the lock.

    :raises HostError: it cannot be removed
    """
    directory = f"{network.directory}/{LEASES}"
    try:
        os.unlink(f"{directory}/{record_key(sandbox)}")
        sync(directory)
        return True
    except FileNotFoundError:
        return False
    except OSError as problem:
        raise HostError("the lease cannot be removed", wanted=directory, answer=str(problem)) from problem


def remove_drafts(network: Network) -> None:
    """Remove what killed tasks left. The caller holds the lock."""
    for directory in (network.directory, f"{network.directory}/{LEASES}", network.run_directory):
        for name in _drafts(directory):
            with contextlib.suppress(OSError):
                os.unlink(f"{directory}/{name}")


def _drafts(directory: str) -> list[str]:
    try:
        return [name for name in os.listdir(directory) if name.startswith(DRAFT)]
    except OSError:
        return []


# --- files -----------------------------------------------------------------------------------------------------------


def _read_json(directory: str, name: str) -> Any:
    """The JSON value in a file of ours; None if the file does not exist.

    :raises StoreError: it cannot be used
    """
    try:
        with Directory.open(directory) as opened:
            return parsed(opened.read(name, MOST_BYTES), f"{directory}/{name}", MOST_BYTES)
    except FileNotFoundError:
        return None
    except (OSError, UntrustedFile, AnswerError) as problem:
        raise _unreadable(f"{directory}/{name}", problem) from problem


def _write_json(directory: str, name: str, value: Any) -> None:
    data = json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"
    replace_file(f"{directory}/{name}", data, 0o600, f"{directory}/{DRAFT}{name}")


def _unreadable(path: str, problem: Exception) -> StoreError:
    return StoreError(
        f"{path} cannot be used",
        answer=str(problem),
        fix="See that the task runs as root, or remove the file and run the task again.",
    )
