# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Converge or observe many sandboxes of a host in parallel. A failure of one does not stop the others."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import fnmatch
import threading
from typing import Any, Callable, Iterable, Iterator, Sequence, TypeVar

from ..errors import ConfigError, HypervisorError
from ..host.turns import turn
from ..hypervisors import new_hypervisor
from ..options.resource_options import managed_network
from ..options.spec import SandboxSpec
from ..records.store import list_ids
from .converge import converge, observe_only
from .sandbox import DriverFactory

#: Sandboxes worked on at a time. Most of the work is waiting for VMMs and for guests.
PARALLEL = 8

#: The highest value of `parallel`: each sandbox is converged in a thread of its own.
MOST_PARALLEL = 256

#: The requested states for which a running VM is ended.
ENDING = ("absent", "stopped", "restarted")

#: The states that `observe_many` can report.
OBSERVED_STATES = (
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

Item = TypeVar("Item")
Result = TypeVar("Result")


def converge_many(
    specs: Sequence[SandboxSpec],
    check_mode: bool = False,
    parallel: int = PARALLEL,
    factory: DriverFactory = new_hypervisor,
) -> list[dict[str, Any]]:
    """Converge each sandbox. Returns one result per spec, in the same order; the result of a failed one has `failed` and `msg`.

    :param parallel: how many at a time
    :raises ConfigError: two specs have the same id, or request what only one can have, or `parallel` is out of range; nothing was changed
    """
    if isinstance(parallel, bool) or not 1 <= parallel <= MOST_PARALLEL:
        raise ConfigError(f"must be a number from 1 to {MOST_PARALLEL}", option="parallel", wanted=parallel)
    seen: set[tuple[str, str]] = set()
    for spec in specs:
        if (spec.id, spec.state_dir) in seen:
            raise ConfigError("the same sandbox must not be listed twice", sandbox=spec.id, option="sandboxes")
        seen.add((spec.id, spec.state_dir))
    _refuse_shared([spec for spec in specs if spec.state != "absent"])

    def one(spec: SandboxSpec) -> dict[str, Any]:
        return guarded(spec.id, lambda: converge(spec, check_mode, factory))

    # A guest has seconds to shut down. They all have them at the same time, however many sandboxes are worked on.
    ends_vms = any(spec.state in ENDING or spec.disruption != "none" for spec in specs)
    return side_by_side(one, specs, parallel, waits=ends_vms)


def _refuse_shared(specs: Sequence[SandboxSpec]) -> None:
    """Refuse sandboxes of one task that request the same address, port of the host or writable volume. One of them would fail in any case."""
    users: dict[tuple[str, ...], list[tuple[SandboxSpec, Any]]] = {}
    for spec in specs:
        for option, key, value in _claims(spec):
            known = users.setdefault((option, *key), [])
            for other, claimed in known:
                if other is not spec and (option != "ports" or value.collides_with(claimed)):
                    if option == "volumes" and value and claimed:
                        continue  # Both only read it.
                    raise ConfigError(
                        f"sandbox {other.id} of this task requests the same: {key[-1]}",
                        sandbox=spec.id,
                        option=option,
                        wanted=spec.options[option],
                        fix="Request it for one of them.",
                    )
            known.append((spec, value))


def _claims(spec: SandboxSpec) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """What a task requests for one sandbox and another one cannot have too: the option, a key that equal requests share, and a value to compare."""
    options = spec.options
    for volume in options.get("volumes") or ():
        yield "volumes", (spec.state_dir, volume["name"]), volume["read_only"]
    network = managed_network(options)
    if network:
        for name in ("address", "address6"):
            if options.get(name):
                yield name, (spec.state_dir, network, options[name]), None
    # A VM that is off does not listen on its ports, but its lease has them.
    has_ports = options.get("ports") and options.get("network")
    if has_ports and (network or spec.state in ("started", "paused", "restarted")):
        from ..options.network_options import parse_ports

        for port in parse_ports(options["ports"]):
            yield "ports", (port.protocol, str(port.host_port)), port if network else port.of_vmm


def summary(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The result of a task about many sandboxes: the results of `converge_many`, the diffs by id, and `changed` if any sandbox was changed."""
    failed = [result["id"] for result in results if result.get("failed")]
    changed = [result for result in results if result.get("changed")]
    total: dict[str, Any] = {
        "changed": bool(changed),
        "sandboxes": [{name: value for name, value in result.items() if name != "diff"} for result in results],
        "failed_ids": failed,
        "diff": {side: {result["id"]: result["diff"][side] for result in changed} for side in ("before", "after")},
    }
    if failed:
        first = next(result["msg"] for result in results if result.get("failed"))
        total["msg"] = (
            f"{len(failed)} of {len(results)} sandboxes failed ({', '.join(failed)}); the first error is: {first}"
        )
    return total


def observe_many(
    where: SandboxSpec,
    patterns: Sequence[str] = ("*",),
    states: Iterable[str] = (),
    hypervisors: Iterable[str] = (),
    selector: str = "",
    factory: DriverFactory = new_hypervisor,
) -> list[dict[str, Any]]:
    """The facts of the sandboxes on this host, by id. Changes nothing. A sandbox whose record cannot be used has the state `unreadable`.

    :param where: a spec with the directories; its id is not used
    :param patterns: shell patterns of ids
    :param states: only these; empty for all
    :param hypervisors: only these; empty for all
    :param selector: only sandboxes whose labels it selects (see `labels.py`); one without a usable record has no labels that are known
    :raises ConfigError: the selector cannot be used
    """
    from ..options.labels import parse_selector, selects

    requirements = parse_selector(selector)
    wanted_states, wanted_hypervisors = set(states), set(hypervisors)
    ids = [
        identity
        for identity in list_ids(where.state_dir, where.run_dir)
        if any(fnmatch.fnmatchcase(identity, pattern) for pattern in patterns)
    ]

    def one(identity: str) -> dict[str, Any]:
        facts = guarded(identity, lambda: observe_only(dataclasses.replace(where, id=identity), factory))
        if facts.get("failed"):
            return {"id": identity, "state": "unreadable", "error": {**facts, "failed": True}}
        return facts

    return [
        facts
        for facts in side_by_side(one, ids, PARALLEL)
        # A directory without a record, a VM or leftovers is not a sandbox.
        if facts["state"] != "absent"
        and (not wanted_states or facts["state"] in wanted_states)
        and (not wanted_hypervisors or facts.get("hypervisor") in wanted_hypervisors)
        and (not requirements or ("labels" in facts and selects(requirements, facts["labels"])))
    ]


def side_by_side(
    work: Callable[[Item], Result], items: Sequence[Item], parallel: int, waits: bool = False
) -> list[Result]:
    """The results of `work` on each item, in the same order.

    :param parallel: how many at a time
    :param waits: whether `work` may wait in `without_turn`; the items that do so do not count
    """
    if len(items) < 2:
        return [work(item) for item in items]
    turns = threading.Semaphore(parallel)

    def in_turn(item: Item) -> Result:
        with turn(turns):
            return work(item)

    threads = MOST_PARALLEL if waits else parallel
    with concurrent.futures.ThreadPoolExecutor(max_workers=min(threads, len(items))) as pool:
        return list(pool.map(in_turn, items))


def guarded(sandbox: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of `work` on one sandbox, or a result with its error."""
    try:
        return {"id": sandbox, **work()}
    except HypervisorError as problem:
        problem.sandbox = problem.sandbox or sandbox
        return {"id": sandbox, "changed": False, "failed": True, "msg": str(problem), **problem.as_result()}
    except Exception as problem:  # A bug that affects one sandbox must not lose the results of the others.
        import traceback

        message = f"sandbox {sandbox}: unexpected {type(problem).__name__}: {problem}"
        return {"id": sandbox, "changed": False, "failed": True, "msg": message, "traceback": traceback.format_exc()}
