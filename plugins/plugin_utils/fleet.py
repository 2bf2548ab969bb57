# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask many hosts for their sandboxes: one task, run by Ansible itself in a child process, with the hosts' own connection settings.

An inventory plugin is called while the inventory is being built, and a run of tasks changes a process: its signal handlers, its output, its plugins.
So the run is made by a child, which has a copy of the inventory and sends the answers back.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from ansible import constants as C
from ansible import context
from ansible.module_utils.common.collections import ImmutableDict
from ansible.plugins.callback import CallbackBase
from ansible.utils.display import Display

from ansible_collections.kata.hypervisor.plugins.plugin_utils.sandbox_hosts import KEPT_FACTS
from ansible_collections.kata.hypervisor.plugins.plugin_utils.trust import trusted

#: The host variables with a host's own directories, and the options of the module that get them.
DIRECTORIES = {"state_dir": "kata_sandbox_state_dir", "run_dir": "kata_sandbox_run_dir"}
MODULE = "kata.hypervisor.kata_sandbox_info"
#: The variable that a sandbox has and a host has not.
SANDBOX_MARK = "kata_sandbox_id"
#: The most bytes that the child can send: 100,000 sandboxes of a few KiB.
MOST_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True)
class Question:
    """What to ask, and whom.

    :param hosts: a host pattern
    :param forks: how many hosts at a time
    :param timeout: seconds that a host gets to answer
    :param selector: only sandboxes with these labels
    :param become: whether to become another user, root by default, on the hosts; None leaves that to their variables
    """

    hosts: str = "all"
    forks: int = 0
    timeout: int = 60
    selector: str = ""
    become: bool | None = None


@dataclasses.dataclass
class Answers:
    """What the hosts answered.

    :param sandboxes: the facts of the sandboxes of each host that answered
    :param errors: the errors of those that did not
    """

    sandboxes: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    errors: dict[str, str] = dataclasses.field(default_factory=dict)


class FleetError(Exception):
    """The hosts could not be asked at all."""


def ask_hosts(question: Question, inventory: Any, loader: Any, source: str) -> Answers:
    """Ask the hosts of an inventory that is being built.

    :param inventory: the `InventoryData` with the hosts of the sources that were parsed before
    :param source: the inventory source that is parsed now; variables beside it count too
    :raises FleetError: they could not be asked
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    child = _forked()
    if child == 0:
        os.close(reader)
        _child(writer, question, getattr(inventory, "__wrapped__", inventory), loader, source)
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as stream:
            text = stream.read(MOST_BYTES)
    except BaseException:
        os.kill(child, signal.SIGTERM)
        raise
    finally:
        _process, status = os.waitpid(child, 0)
    try:
        answer = json.loads(text)
    except ValueError as problem:
        raise FleetError(f"the process that asks the hosts ended with the status {status}") from problem
    if "failure" in answer:
        raise FleetError(answer["failure"])
    return Answers(**answer)


def _forked() -> int:
    """`os.fork`, while no other thread holds the lock of Ansible's output: the child could never get it."""
    lock = getattr(Display(), "_lock", None)
    if lock is None:
        return os.fork()
    with lock:
        return os.fork()


def _child(writer: int, question: Question, inventory: Any, loader: Any, source: str) -> None:
    """The child process. It writes the answers to a pipe and never returns."""
    try:
        # Standard output belongs to the parent: ansible-inventory writes JSON to it.
        os.dup2(2, 1)
        try:
            answer: dict[str, Any] = dataclasses.asdict(_asked(question, inventory, loader, source))
        except Exception as problem:
            answer = {"failure": f"{type(problem).__name__}: {problem}"}
        with os.fdopen(writer, "wb") as stream:
            stream.write(json.dumps(answer).encode())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _asked(question: Question, inventory: Any, loader: Any, source: str) -> Answers:
    from ansible.executor.task_queue_manager import TaskQueueManager
    from ansible.inventory.manager import InventoryManager
    from ansible.playbook.play import Play
    from ansible.vars.manager import VariableManager

    _reset_arguments()
    sources = [*inventory.processed_sources, source]
    manager = InventoryManager(loader=loader, sources=sources, parse=False)
    manager._inventory = inventory
    inventory.reconcile_inventory()
    _add_variables_of_sources(manager, loader, sources)
    hosts = [host for host in manager.get_hosts(question.hosts) if SANDBOX_MARK not in host.vars]
    if not hosts:
        return Answers()
    manager.restrict_to_hosts(hosts)
    variables = VariableManager(loader=loader, inventory=manager)
    collector = Collector()
    queue = TaskQueueManager(manager, variables, loader, {}, None, False, False, question.forks or C.DEFAULT_FORKS)
    # The names of these attributes and of the argument have changed. The collector is the only callback in every version.
    queue._stdout_callback = collector
    queue._callbacks_loaded = True
    queue._callback_plugins = [collector] if hasattr(collector, "_init_callback_methods") else []
    _warm_up(loader)
    try:
        queue.run(Play.load(play_of(question), variable_manager=variables, loader=loader))
    finally:
        queue.cleanup()
    answers = collector.answers
    for host in hosts:
        if host.name not in answers.sandboxes:
            answers.errors.setdefault(host.name, "it gave no answer")
    return answers


def _warm_up(loader: Any) -> None:
    """Load what each worker process would load by itself, once for each host: plugins, the filters of templates, the files of the engine."""
    from ansible.plugins.loader import action_loader, connection_loader, shell_loader
    from ansible.template import Templar

    from ansible_collections.kata.hypervisor.plugins.plugin_utils.engine import engine_digest

    engine_digest()
    action_loader.get(MODULE, class_only=True)
    shell_loader.get("sh", class_only=True)
    for connection in ("ssh", "local"):
        connection_loader.get(connection, class_only=True)
    Templar(loader=loader, variables={}).template(trusted("{{ missing | default('') }}"))


def play_of(question: Question) -> dict[str, Any]:
    """The play that asks the hosts."""
    arguments: dict[str, Any] = {
        option: trusted(f"{{{{ {variable} | default(omit) }}}}") for option, variable in DIRECTORIES.items()
    }
    arguments["facts"] = list(KEPT_FACTS)
    if question.selector:
        arguments["selector"] = question.selector
    play: dict[str, Any] = {
        "name": "Ask the hosts for their sandboxes",
        "hosts": question.hosts,
        "gather_facts": False,
        "strategy": "linear",
        "any_errors_fatal": False,
        "tasks": [
            {
                "name": "List the sandboxes",
                "action": MODULE,
                "args": arguments,
                "timeout": question.timeout,
            }
        ],
    }
    if question.become is not None:
        play["become"] = question.become
    return play


def _reset_arguments() -> None:
    """Forget the arguments of the command that say which tasks of its own playbook to run. Those of connections stay."""
    arguments = {
        **dict.fromkeys(("step", "listhosts", "listtasks", "listtags", "syntax", "module_path")),
        **dict(context.CLIARGS or {}),
        "start_at_task": None,
        "tags": ["all"],
        "skip_tags": [],
        "step": False,
        "diff": False,
    }
    context.CLIARGS = ImmutableDict(arguments)


def _add_variables_of_sources(manager: Any, loader: Any, sources: list[str]) -> None:
    """Add the variables of `group_vars` and `host_vars`, as `InventoryManager.parse_sources` does when all sources are parsed."""
    from ansible.utils.vars import combine_vars
    from ansible.vars.plugins import get_vars_from_inventory_sources

    for entity in (*manager.groups.values(), *manager.hosts.values()):
        entity.vars = combine_vars(entity.vars, get_vars_from_inventory_sources(loader, sources, [entity], "inventory"))


class Collector(CallbackBase):
    """Collects the answers of the hosts, and prints nothing."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "collector"

    def __init__(self) -> None:
        super().__init__()
        self.answers = Answers()
        self._load_name = self.CALLBACK_NAME
        if hasattr(self, "_init_callback_methods"):
            self._init_callback_methods()

    def v2_runner_on_ok(self, result: Any) -> None:
        """A host answered."""
        name, content = _host_and_content(result)
        sandboxes = content.get("sandboxes")
        if not isinstance(sandboxes, (list, tuple)):
            self.answers.errors[name] = "its answer has no list of sandboxes"
            return
        self.answers.sandboxes[name] = [
            {fact: facts[fact] for fact in KEPT_FACTS if fact in facts}
            for facts in sandboxes
            if isinstance(facts, Mapping)
        ]

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """The task failed on a host."""
        name, content = _host_and_content(result)
        self.answers.errors[name] = str(content.get("msg") or "the task failed")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A host cannot be reached."""
        name, content = _host_and_content(result)
        self.answers.errors[name] = str(content.get("msg") or "it cannot be reached")


def _host_and_content(result: Any) -> tuple[str, Mapping[str, Any]]:
    """The host's name and the module's result, with the names of ansible-core 2.17 to 2.21."""
    host = getattr(result, "host", None) or result._host
    content = result.result if hasattr(type(result), "result") else result._result
    return str(host.get_name()), content
