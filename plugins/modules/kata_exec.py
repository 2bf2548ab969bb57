#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_exec
short_description: Run a command in the guests of VM sandboxes
version_added: 1.0.0
description:
  - Runs a command in the guests of one or many sandboxes of a host, several at a time. It runs as root.
  - The guests need no network, no ssh server and no Python. They must run the QEMU guest agent, which must be allowed to run programs, and have a
    POSIX shell. See P(kata.hypervisor.sandbox#connection) for tasks with other modules in a guest.
  - If the command fails in one guest, it is still run in the others. The task fails if it failed in any of them.
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.guests
  - kata.hypervisor.directories
  - kata.hypervisor.attributes
  - kata.hypervisor.attributes.actiongroup_kata
attributes:
  check_mode:
    support: partial
    details:
      - The command is not run. The sandboxes are looked for, and O(creates) and O(removes) are looked up in the guests.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details:
      - Set O(creates) or O(removes), or C(changed_when).
options:
  argv:
    description:
      - The program and its arguments. No shell interprets them.
      - Exactly one of O(argv) and O(cmd) must be set.
    type: list
    elements: str
  cmd:
    description: A text for C(/bin/sh -c) in the guest.
    type: str
    aliases: [shell]
  stdin:
    description: The standard input of the command.
    type: str
  stdin_add_newline:
    description: Whether to add a line feed to O(stdin) if it has none at its end.
    type: bool
    default: true
  environment_variables:
    description: Environment variables of the command.
    type: dict
    default: {}
    aliases: [env]
  chdir:
    description: The directory in the guest to run the command in. The default is the home directory of root.
    type: str
  creates:
    description: A path in the guest, or a pattern with C(*), C(?) and C([...]). If it exists, the command is not run.
    type: str
  removes:
    description: A path in the guest, or a pattern with C(*), C(?) and C([...]). If it does not exist, the command is not run.
    type: str
  timeout:
    description:
      - Seconds until the command must have ended in a guest. If it has not, it is ended with its child processes, and fails.
      - By default there is no limit.
    type: float
seealso:
  - module: kata.hypervisor.kata_copy
  - plugin: kata.hypervisor.sandbox
    plugin_type: connection
"""

EXAMPLES = r"""
- name: See which kernel a guest runs
  kata.hypervisor.kata_exec:
    id: web
    argv: [uname, -r]
  register: kernel
  changed_when: false

- name: Create a database once, in all guests whose ids begin with "db-"
  kata.hypervisor.kata_exec:
    ids: ["db-*"]
    cmd: initdb -D "$PGDATA" && touch "$PGDATA/.done"
    env:
      PGDATA: /srv/data
    creates: /srv/data/.done
    timeout: 300
"""

RETURN = r"""
sandboxes:
  description: One result for each sandbox.
  returned: when all options are valid
  type: list
  elements: dict
  contains:
    id:
      description: The sandbox's id.
      type: str
      returned: always
      sample: web
    rc:
      description: The exit code of the command; 128 and the number of the signal if a signal ended it.
      type: int
      returned: when it ended
      sample: 0
    stdout:
      description: Its standard output, at most 4 MiB of it. What is no UTF-8 is replaced.
      type: str
      returned: when it ended
      sample: "6.1.0-56-cloud-amd64\n"
    stderr:
      description: Its standard error, at most 4 MiB of it.
      type: str
      returned: when it ended
      sample: ""
    truncated:
      description: Set if the command printed more than the result has.
      type: bool
      returned: when it printed more
      sample: true
    seconds:
      description: How long the command ran.
      type: float
      returned: when it ended
      sample: 0.071
    failed:
      description: Set if the command could not be run, did not end in time, or ended with another code than 0.
      type: bool
      returned: when it failed
      sample: true
    msg:
      description: Why it failed or was not run.
      type: str
      returned: when it failed or was not run
      sample: the command ended with code 1
rc:
  description: The exit code, and further fields of RV(sandboxes), where O(ids) is one id.
  returned: when O(ids) is one id
  type: int
  sample: 0
stdout_lines:
  description: The lines of the standard output.
  returned: when O(ids) is one id
  type: list
  elements: str
  sample: ["6.1.0-56-cloud-amd64"]
failed_ids:
  description: Ids of the sandboxes in which the command failed.
  returned: when all options are valid
  type: list
  elements: str
  sample: []
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.guest_commands import (
    GuestCommand,
    check_guests,
    chosen_ids,
    in_each_guest,
    run_command,
    summary,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import fail_on_error
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import DIRECTORY_SPEC, GUESTS_SPEC
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import SandboxSpec


def requested(params: dict[str, Any]) -> GuestCommand:
    """The command that the task's options describe."""
    stdin = params["stdin"] or ""
    if stdin and params["stdin_add_newline"] and not stdin.endswith("\n"):
        stdin += "\n"
    return GuestCommand(
        argv=params["argv"] or (),
        shell=params["cmd"] or "",
        environment={name: str(value) for name, value in params["environment_variables"].items()},
        chdir=params["chdir"] or "",
        stdin=stdin.encode("utf-8", "surrogateescape"),
        creates=params["creates"] or "",
        removes=params["removes"] or "",
        timeout=params["timeout"],
    )


def main() -> None:
    """Run a command in the guests of this host."""
    argument_spec: dict[str, Any] = {
        "argv": {"type": "list", "elements": "str"},
        "cmd": {"type": "str", "aliases": ["shell"]},
        "stdin": {"type": "str"},
        "stdin_add_newline": {"type": "bool", "default": True},
        "environment_variables": {"type": "dict", "default": {}, "aliases": ["env"]},
        "chdir": {"type": "str"},
        "creates": {"type": "str"},
        "removes": {"type": "str"},
        "timeout": {"type": "float"},
        **GUESTS_SPEC,
        **DIRECTORY_SPEC,
    }
    module = AnsibleModule(argument_spec=argument_spec, supports_check_mode=True)
    params = module.params
    where = SandboxSpec("any", state_dir=params["state_dir"], run_dir=params["run_dir"])
    with fail_on_error(module):
        command = requested(params)
        ids = chosen_ids(where, params["ids"])
        if module.check_mode and not (command.creates or command.removes):
            results = check_guests(where, ids)
        else:
            results = in_each_guest(
                where,
                ids,
                lambda _spec, channel: run_command(command, channel, module.check_mode),
                params["parallel"],
                params["connect_timeout"],
            )
    total = summary(results, params["ids"])
    if total["failed_ids"]:
        module.fail_json(**total)
    module.exit_json(**total)


if __name__ == "__main__":
    main()
