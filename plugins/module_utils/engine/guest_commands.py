# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one command in the guests of many sandboxes of a host. A failure in one does not stop the others."""

from __future__ import annotations

import dataclasses
import fnmatch
import io
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ..errors import ConfigError, DeadlineExceeded
from ..guest.channel import Channel
from ..options.spec import SandboxSpec
from ..records.layout import validate_id
from ..records.store import list_ids
from .batch import MOST_PARALLEL, guarded, side_by_side
from .guests import explained, guest_channel, guest_ways
from .sandbox import Sandbox
from .states import state_of

#: Bytes of each output that a result has. What comes after them is read and dropped.
MAX_OUTPUT = 4 * 1024 * 1024
#: Characters that make a pattern of an id.
PATTERN = re.compile(r"[*?\[]")
#: What has a meaning in a pattern of paths: `!` only at the start of a bracket.
SPECIAL = re.compile(r"(\[!?|[*?\]-])")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclasses.dataclass
class GuestCommand:
    """A command, as a task requests it.

    :param argv: a program and its arguments; empty where `shell` is set
    :param shell: a text for `/bin/sh -c`
    :param environment: variables to set
    :param chdir: the directory to run in
    :param stdin: its standard input
    :param creates: a pattern of paths; if one exists, the command is not run
    :param removes: a pattern of paths; if none exists, the command is not run
    :param timeout: seconds until it must have ended
    """

    argv: Sequence[str] = ()
    shell: str = ""
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    chdir: str = ""
    stdin: bytes = b""
    creates: str = ""
    removes: str = ""
    timeout: float | None = None

    def __post_init__(self) -> None:
        if bool(self.argv) == bool(self.shell):
            raise ConfigError("exactly one of argv and cmd must be set", option="argv")
        for name in self.environment:
            if not VARIABLE.fullmatch(name):
                raise ConfigError("must have names of shell variables", option="environment", wanted=name)
        for option, path in (("creates", self.creates), ("removes", self.removes), ("chdir", self.chdir)):
            if path and not path.startswith("/"):
                raise ConfigError("must be an absolute path in the guest", option=option, wanted=path)

    def text(self) -> str:
        """The command for the guest's shell."""
        lines = [f"export {name}={shlex.quote(value)}" for name, value in self.environment.items()]
        if self.chdir:
            lines.append(f"cd {shlex.quote(self.chdir)} || exit")
        return "\n".join([*lines, self.shell or f"exec {shlex.join(self.argv)}"])


def exists_command(pattern: str) -> str:
    """A command that succeeds if a path exists that the pattern names. Only `*`, `?` and `[...]` have a meaning in it."""
    parts = (part for part in SPECIAL.split(pattern) if part)
    words = "".join(part if SPECIAL.fullmatch(part) else shlex.quote(part) for part in parts)
    return f'for one in {words}; do [ ! -e "$one" ] && [ ! -L "$one" ] || exit 0; done; exit 1'


def chosen_ids(where: SandboxSpec, wanted: Sequence[str]) -> list[str]:
    """The ids that a task names. A pattern names those of its sandboxes that run.

    :raises ConfigError: an id is not valid
    """
    found: list[str] = []
    known: list[str] | None = None
    for one in wanted:
        if not PATTERN.search(one):
            found.append(validate_id(one))
            continue
        known = list_ids(where.state_dir, where.run_dir) if known is None else known
        found += [
            identity
            for identity in known
            if fnmatch.fnmatchcase(identity, one) and _runs(dataclasses.replace(where, id=identity))
        ]
    return list(dict.fromkeys(found))


def _runs(spec: SandboxSpec) -> bool:
    sandbox = Sandbox(spec)
    try:
        return guarded(spec.id, lambda: {"state": _state(sandbox)}).get("state") == "started"
    finally:
        sandbox.disconnect()


def _state(sandbox: Sandbox) -> str:
    sandbox.load()
    return state_of(sandbox.record, sandbox.observed)


def in_each_guest(
    where: SandboxSpec,
    ids: Sequence[str],
    work: Callable[[SandboxSpec, Channel], dict[str, Any]],
    parallel: int,
    connect_timeout: float,
) -> list[dict[str, Any]]:
    """The result of some work with a channel into each guest, in the order of the ids.

    :param where: a spec with the directories
    :param connect_timeout: seconds until a guest's agent and channel must have answered
    """
    if isinstance(parallel, bool) or not 1 <= parallel <= MOST_PARALLEL:
        raise ConfigError(f"must be a number from 1 to {MOST_PARALLEL}", option="parallel", wanted=parallel)

    def one(identity: str) -> dict[str, Any]:
        spec = dataclasses.replace(where, id=identity)

        def enter() -> dict[str, Any]:
            with guest_channel(spec, connect_timeout) as channel:
                # What this process prints is the task's result: if nobody reads it, the task was interrupted.
                channel.watched = 1
                return work(spec, channel)

        return guarded(identity, enter)

    return side_by_side(one, ids, parallel)


def check_guests(where: SandboxSpec, ids: Sequence[str]) -> list[dict[str, Any]]:
    """A result for each sandbox: that its guest could be entered, or the error. No guest is asked."""

    def one(identity: str) -> dict[str, Any]:
        spec = dataclasses.replace(where, id=identity)

        def check() -> dict[str, Any]:
            with explained(spec):
                guest_ways(spec)
            return {"changed": True, "msg": "not run in check mode"}

        return guarded(identity, check)

    return [one(identity) for identity in ids]


def summary(results: Sequence[dict[str, Any]], wanted: Sequence[str]) -> dict[str, Any]:
    """The result of a task: one result for each sandbox, and the fields of that one if the task names one id.

    :param wanted: the ids and patterns that the task names
    """
    failed = [result["id"] for result in results if result.get("failed")]
    total: dict[str, Any] = {}
    if len(results) == 1 and not PATTERN.search(wanted[0]):
        total = {name: value for name, value in results[0].items() if name not in ("id", "failed", "sandbox")}
    total.update(changed=any(result.get("changed") for result in results), sandboxes=list(results), failed_ids=failed)
    if failed:
        problem = next(result["msg"] for result in results if result.get("failed"))
        total["msg"] = (
            f"{len(failed)} of {len(results)} sandboxes failed ({', '.join(failed)}); the first error is: {problem}"
        )
        if len(results) == 1:
            total["msg"] = problem
    return total


class Collected:
    """An output that is kept up to a limit."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.truncated = False

    def add(self, data: bytes) -> None:
        """Receive a part."""
        left = MAX_OUTPUT - len(self._data)
        self._data += data[:left]
        self.truncated = self.truncated or len(data) > left

    @property
    def text(self) -> str:
        """As text; what is no UTF-8 is replaced."""
        return self._data.decode("utf-8", "replace")


def run_command(command: GuestCommand, channel: Channel, check_mode: bool = False) -> dict[str, Any]:
    """Run a command, unless `creates` or `removes` says that it need not be run. Returns the fields of a result.

    :param check_mode: only predict whether it would be run
    """
    for pattern, unless in ((command.creates, "exists"), (command.removes, "does not exist")):
        if pattern:
            exists = channel.run(exists_command(pattern).encode(), timeout=command.timeout) == 0
            if exists == (unless == "exists"):
                return {"changed": False, "rc": 0, "msg": f"not run, since {pattern} {unless}"}
    if check_mode:
        return {"changed": True, "msg": "not run in check mode"}
    output, errors = Collected(), Collected()
    begun = time.monotonic()
    result: dict[str, Any] = {"changed": True}
    try:
        result["rc"] = channel.run(
            command.text().encode("utf-8", "surrogateescape"),
            io.BytesIO(command.stdin),
            len(command.stdin),
            output.add,
            errors.add,
            command.timeout,
        )
        if result["rc"]:
            result.update(failed=True, msg=f"the command ended with code {result['rc']}")
    except DeadlineExceeded as problem:
        result.update(failed=True, msg=str(problem), **problem.as_result())
    result.update(stdout=output.text, stderr=errors.text, seconds=round(time.monotonic() - begun, 3))
    if output.truncated or errors.truncated:
        result["truncated"] = True
    return result
