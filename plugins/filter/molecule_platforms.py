# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: molecule_platforms
short_description: The sandboxes, volumes and inventory of a molecule scenario's platforms
version_added: 1.0.0
description:
  - The playbooks C(kata.hypervisor.molecule_create) and C(kata.hypervisor.molecule_destroy) create and remove the sandboxes of a scenario with it.
    See C(docs/molecule.md).
  - Each platform is a sandbox. C(host) is the host that runs it, and C(sandbox) has its options of M(kata.hypervisor.kata_sandbox).
  - Ids and names of volumes end in a digest of the scenario's directory, so that projects that share a host do not meet.
positional: _input, directory
options:
  _input:
    description: The platforms of C(molecule.yml).
    type: list
    elements: dict
    required: true
  directory:
    description: The ephemeral directory of the scenario.
    type: str
    required: true
author:
  - The kata.hypervisor authors (@kata-hypervisor)
"""

EXAMPLES = r"""
- name: Show the ids of the sandboxes
  ansible.builtin.debug:
    msg: "{{ (molecule_yml.platforms | kata.hypervisor.molecule_platforms(molecule_ephemeral_directory)).hosts }}"
"""

RETURN = r"""
_value:
  description:
    - C(hosts) are the hosts, each with C(name), C(sandboxes) (items of M(kata.hypervisor.kata_sandboxes)) and C(volumes) (names).
    - C(inventory) is the inventory of the guests.
  type: dict
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

#: What a sandbox for a test gets unless its platform says otherwise.
DEFAULTS: dict[str, Any] = {"network": "user", "wait_for": "agent", "wait_timeout": 600, "disruption": "recreate"}
HOST = "localhost"
HOST_VARIABLES = "{{ hostvars[kata_sandbox_host] | kata.hypervisor.connection_vars }}"


def molecule_platforms(platforms: Sequence[Mapping[str, Any]], directory: str) -> dict[str, Any]:
    """The filter."""
    suffix = hashlib.sha256(str(directory).encode()).hexdigest()[:8]
    hosts: dict[str, dict[str, Any]] = {}
    guests: dict[str, Any] = {}
    groups: dict[str, Any] = {}
    for platform in platforms:
        if not isinstance(platform, Mapping) or not platform.get("name"):
            raise AnsibleFilterError(f"each platform must have a name: {platform!r}")
        name, host = str(platform["name"]), str(platform.get("host") or HOST)
        if name in guests:
            raise AnsibleFilterError(f"two platforms must not have the same name: {name}")
        identity = f"{name}-{suffix}"
        # Molecule's schema has its own idea of keys such as volumes, so the options have a key of their own.
        options = dict(platform.get("sandbox") or {})
        if options.get("volumes"):
            if not all(isinstance(volume, Mapping) and volume.get("name") for volume in options["volumes"]):
                raise AnsibleFilterError(f"each volume of the platform {name} must have a name")
            options["volumes"] = [{**volume, "name": f"{volume['name']}-{suffix}"} for volume in options["volumes"]]
        on_host = hosts.setdefault(host, {"name": host, "sandboxes": [], "volumes": []})
        on_host["sandboxes"].append({**DEFAULTS, "hostname": name, **options, "id": identity, "state": "started"})
        on_host["volumes"] += [volume["name"] for volume in options.get("volumes") or []]
        guests[name] = {
            "ansible_connection": "kata.hypervisor.sandbox",
            "kata_sandbox_id": identity,
            **{f"kata_sandbox_{option}": options[option] for option in ("state_dir", "run_dir") if options.get(option)},
            **({} if host == HOST else {"kata_sandbox_host": host, "kata_sandbox_host_vars": HOST_VARIABLES}),
        }
        for group in platform.get("groups") or []:
            groups.setdefault(str(group), {"hosts": {}})["hosts"][name] = None
    return {"hosts": list(hosts.values()), "inventory": {"all": {"hosts": guests, "children": groups}}}


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"molecule_platforms": molecule_platforms}
