# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin kata.hypervisor.sandboxes."""

from __future__ import annotations

DOCUMENTATION = r"""
name: sandboxes
short_description: The sandboxes of the hosts of other inventory sources
version_added: 1.0.0
author:
  - The kata.hypervisor authors (@kata-hypervisor)
description:
  - Asks the hosts of the inventory for their sandboxes, and adds each sandbox as a host with groups, variables and a connection through its host.
  - The hosts are those of the sources that Ansible parsed before this one. The sources of a directory are parsed in the order of their names, and those of
    the command line in their order. A host is asked with its own variables (connection, user, key, become), and all hosts are asked in parallel.
  - The source is a YAML file whose name ends in C(sandboxes.yml), C(sandboxes.yaml), C(kata.yml) or C(kata.yaml).
  - A host that does not answer is a warning. With O(cache), its sandboxes are those of its last answer, and have the variable C(kata_sandbox_stale).
  - Each sandbox has the variables C(kata_sandbox_id), C(kata_sandbox_host) and C(kata_sandbox) with the facts of
    M(kata.hypervisor.kata_sandbox_info) about its state, size, network, labels and guest. They are told by the host, and never rendered as templates.
extends_documentation_fragment:
  - constructed
  - inventory_cache
options:
  plugin:
    description: Marks the file as a source of this plugin.
    type: str
    required: true
    choices: [kata.hypervisor.sandboxes]
  hosts:
    description: A pattern of the hosts to ask. Sandboxes of other sources of this plugin are never asked.
    type: str
    default: all
  forks:
    description: How many hosts are asked at a time. The default is the C(forks) of C(ansible.cfg), or of the command line where it has the option.
    type: int
  timeout:
    description: Seconds that a host gets to answer.
    type: int
    default: 60
  become:
    description:
      - Whether to become another user on the hosts, by default root, who owns the sandboxes. If omitted, the variables of the hosts decide.
    type: bool
  selector:
    description: Only sandboxes with these labels, such as V(tier=web,!old), see O(kata.hypervisor.kata_sandbox_info#module:selector).
    type: str
    default: ""
  connection:
    description:
      - How Ansible connects to the sandboxes.
      - With V(agent), through the host and the guest's agent. It needs no network, no ssh server and no password in the guest.
      - With V(ssh), by ssh to the sandbox's address, or to the port of the host that is published for its port 22, and through the host unless that is the
        controller. A sandbox with neither is reached as with V(agent).
    type: str
    choices: [agent, ssh]
    default: agent
  hostname:
    description:
      - An expression for the name of a sandbox in the inventory, such as C(kata_sandbox_id ~ '.' ~ kata_sandbox_host).
      - The default is its id. Where several sandboxes would have a name, or a host or a group of another source has it already, each of the sandboxes is
        called C(NAME.HOST).
    type: str
    default: kata_sandbox_id
  default_groups:
    description:
      - Whether to add each sandbox to the groups C(sandboxes), C(state_STATE), C(hypervisor_NAME), C(network_NAME), C(host_HOST), C(label_NAME_VALUE) and
        C(sandbox_STEM), where the stem of V(web-1) is V(web).
      - Characters other than letters, digits and underscores become underscores.
    type: bool
    default: true
  group_prefix:
    description: A text before the names of these groups.
    type: str
    default: ""
  filters:
    description:
      - Decide which sandboxes are added, by the first filter whose expression is true. Without one, a sandbox is added.
    type: list
    elements: dict
    default: []
    suboptions:
      include:
        description: An expression. Sandboxes for which it is true are added.
        type: str
      exclude:
        description: An expression. Sandboxes for which it is true are left out.
        type: str
seealso:
  - module: kata.hypervisor.kata_sandbox_info
notes:
  - Passwords that a command asks for (C(--ask-pass), C(--ask-become-pass)) are not known while the inventory is read. Set them as variables.
"""

EXAMPLES = r"""
# inventory/hosts.yml has the hosts, and this is inventory/sandboxes.yml.
plugin: kata.hypervisor.sandboxes

# Only the web sandboxes that run, with a group for each owner, and a cache.
---
plugin: kata.hypervisor.sandboxes
hosts: kvm_hosts
become: true
selector: tier=web
filters:
  - exclude: kata_sandbox.state != 'started'
compose:
  ansible_user: "'debian'"
keyed_groups:
  - key: kata_sandbox.labels.owner | default('nobody')
    prefix: owner
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/kata-inventory

# By ssh, with the host as a jump host.
---
plugin: kata.hypervisor.sandboxes
connection: ssh
"""

from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable, get_cache_plugin
from ansible.plugins.loader import connection_loader

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, printable
from ansible_collections.kata.hypervisor.plugins.module_utils.options.labels import parse_selector, selects
from ansible_collections.kata.hypervisor.plugins.plugin_utils import sandbox_hosts
from ansible_collections.kata.hypervisor.plugins.plugin_utils.fleet import Answers, FleetError, Question, ask_hosts
from ansible_collections.kata.hypervisor.plugins.plugin_utils.sandbox_hosts import SandboxHost
from ansible_collections.kata.hypervisor.plugins.plugin_utils.trust import trusted, untrusted

ENDINGS = ("sandboxes.yml", "sandboxes.yaml", "kata.yml", "kata.yaml")
CONNECTION = "kata.hypervisor.sandbox"
HOST_VARS = "{{ hostvars[kata_sandbox_host] | kata.hypervisor.connection_vars }}"
JUMP_ARGS = "{{ hostvars[kata_sandbox_host] | kata.hypervisor.jump_args }}"


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """Sandboxes as hosts."""

    NAME = "kata.hypervisor.sandboxes"

    def verify_file(self, path: str) -> bool:
        """Whether the file's name is one of a source of this plugin."""
        return bool(super().verify_file(path)) and path.endswith(ENDINGS)

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Add the sandboxes to the inventory.

        :raises AnsibleParserError: the source cannot be used
        """
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        try:
            parse_selector(self.get_option("selector"))
        except ConfigError as problem:
            raise AnsibleParserError(str(problem)) from problem
        filters = [self._filter(entry) for entry in self.get_option("filters")]
        sandboxes = [
            one for one in self._sandboxes(path, cache) if self._is_wanted(filters, sandbox_hosts.variables(one))
        ]
        wanted = {one.key: self._wanted_name(one) for one in sandboxes}
        taken = {*self.inventory.hosts, *self.inventory.groups}
        names, errors = sandbox_hosts.host_names(sandboxes, wanted, taken)
        for error in errors:
            self.display.warning(error)
        for sandbox in sandboxes:
            if sandbox.key in names:
                self._add(names[sandbox.key], sandbox)
        if names:
            # Loaded here, before Ansible forks: Ansible keeps no compiled files of collections, so each task in a guest would compile it again.
            connection_loader.get(CONNECTION, class_only=True)

    # --- what there is ----------------------------------------------------------------------------------------------

    def _sandboxes(self, path: str, may_use_cache: bool) -> list[SandboxHost]:
        """The sandboxes of all hosts, from the hosts or from the cache."""
        answers, stale = self._answers(path, may_use_cache)
        selector = parse_selector(self.get_option("selector"))
        found = []
        for host, answer in sorted(answers.items()):
            usable, errors = sandbox_hosts.usable_facts(host, answer)
            for error in errors:
                self.display.warning(error)
            found += [
                SandboxHost(host, facts, host in stale)
                for facts in usable
                if not selector or ("labels" in facts and selects(selector, facts["labels"]))
            ]
        return found

    def _answers(self, path: str, may_use_cache: bool) -> tuple[dict[str, Any], set[str]]:
        """The answers by host, and the hosts whose answers are those of an earlier time."""
        key = self.get_cache_key(path)
        has_cache = self.get_option("cache")
        if has_cache and may_use_cache:
            try:
                kept = self._cache[key]
            except KeyError:
                pass
            else:
                return dict(kept["sandboxes"]), set(kept["stale"])
        asked = self._ask(path)
        answers, stale = dict(asked.sandboxes), set()
        known = self._last_answers(key) if has_cache and asked.errors else {}
        for host, error in asked.errors.items():
            if host in known:
                answers[host] = known[host]
                stale.add(host)
            where = "Its sandboxes are those of its last answer" if host in known else "Its sandboxes are missing"
            self.display.warning(f"Host {host} did not tell its sandboxes: {printable(error)}. {where}.")
        if has_cache:
            self._cache[key] = {"sandboxes": answers, "stale": sorted(stale)}
        return answers, stale

    def _ask(self, path: str) -> Answers:
        question = Question(
            self.get_option("hosts"),
            self.get_option("forks") or 0,
            self.get_option("timeout"),
            self.get_option("selector") if not self.get_option("cache") else "",
            self.get_option("become"),
        )
        try:
            return ask_hosts(question, self.inventory, self.loader, path)
        except FleetError as problem:
            raise AnsibleParserError(f"The hosts could not be asked for their sandboxes: {problem}") from problem

    def _last_answers(self, key: str) -> dict[str, Any]:
        """The answers in the cache, however old they are."""
        options = {"_timeout": 0}
        for name, option in (("_uri", "cache_connection"), ("_prefix", "cache_prefix")):
            if self.get_option(option) is not None:
                options[name] = self.get_option(option)
        try:
            return dict(get_cache_plugin(self.get_option("cache_plugin"), **options)[key]["sandboxes"])
        except KeyError:
            return {}

    # --- which of them, and how they are called ---------------------------------------------------------------------

    def _filter(self, entry: Any) -> tuple[bool, Any]:
        """A filter of the source: whether it includes, and its expression."""
        given = {name: value for name, value in entry.items() if value is not None} if isinstance(entry, dict) else {}
        if len(given) != 1 or not set(given) <= {"include", "exclude"}:
            raise AnsibleParserError("Each entry of filters must have either include or exclude, with an expression.")
        ((name, expression),) = given.items()
        return name == "include", expression

    def _is_wanted(self, filters: list[tuple[bool, Any]], variables: dict[str, Any]) -> bool:
        for includes, expression in filters:
            try:
                matches = bool(self._compose(expression, untrusted(variables)))
            except Exception as problem:
                if self.get_option("strict"):
                    raise AnsibleParserError(f"The filter {expression!r} cannot be used: {problem}") from problem
                continue
            if matches:
                return includes
        return True

    def _wanted_name(self, sandbox: SandboxHost) -> str:
        expression = self.get_option("hostname")
        if expression == "kata_sandbox_id":
            return str(sandbox.facts["id"])
        try:
            return str(self._compose(expression, untrusted(sandbox_hosts.variables(sandbox))))
        except Exception as problem:
            if self.get_option("strict"):
                raise AnsibleParserError(f"The hostname {expression!r} cannot be used: {problem}") from problem
            return str(sandbox.facts["id"])

    # --- adding one ---------------------------------------------------------------------------------------------------

    def _add(self, name: str, sandbox: SandboxHost) -> None:
        variables = untrusted(sandbox_hosts.variables(sandbox))
        self.inventory.add_host(name)
        for variable, value in {**variables, **self._connection(sandbox)}.items():
            self.inventory.set_variable(name, variable, value)
        if self.get_option("default_groups"):
            for group in sandbox_hosts.group_names(sandbox, self.get_option("group_prefix")):
                self.inventory.add_child(self.inventory.add_group(group), name)
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, name, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, name, strict=strict)

    def _connection(self, sandbox: SandboxHost) -> dict[str, Any]:
        """The variables of the connection to a sandbox."""
        address = sandbox_hosts.ssh_address(sandbox.facts) if self.get_option("connection") == "ssh" else None
        if address is None:
            become = self.get_option("become")
            return {
                "ansible_connection": trusted(CONNECTION),
                "kata_sandbox_host_vars": trusted(HOST_VARS),
                **({} if become is None else {"kata_sandbox_host_become": become}),
            }
        return {
            "ansible_connection": trusted("ssh"),
            "ansible_host": untrusted(address[0]),
            "ansible_port": address[1],
            "ansible_ssh_common_args": trusted(JUMP_ARGS),
        }
