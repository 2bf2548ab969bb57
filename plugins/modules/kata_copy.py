#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_copy
short_description: Copy a file into the guests of VM sandboxes, or out of them
version_added: 1.0.0
description:
  - Copies one file into the guests of one or many sandboxes of a host, or from the guests to the host.
  - The guests need no network, no ssh server and no Python. They need what M(kata.hypervisor.kata_exec) needs.
  - A file that has the same content, permissions and owner already is not copied. A new file appears complete or not at all.
  - If it fails for one guest, it is still done for the others. The task fails if it failed for any of them.
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.guests
  - kata.hypervisor.directories
  - kata.hypervisor.attributes
  - kata.hypervisor.attributes.actiongroup_kata
attributes:
  check_mode:
    details:
      - The files in the guests are compared, and nothing is changed.
options:
  src:
    description:
      - The file to copy. It is a file of the controller, looked for in C(files) as M(ansible.builtin.copy) does.
      - With O(remote_src=true) it is an absolute path on the host, in which C({id}) stands for the sandbox's id.
      - With O(from_guest=true) it is an absolute path in the guest.
    type: str
  content:
    description: The content of the file, instead of O(src).
    type: str
  dest:
    description:
      - An absolute path in the guest. If it is a directory, the file gets the name that O(src) has. With O(content) it must not be a directory.
      - With O(from_guest=true) it is an absolute path on the host, in which C({id}) stands for the sandbox's id. Its directory must exist. For more than
        one sandbox it must contain C({id}).
    type: str
    required: true
  from_guest:
    description: Copy from the guest to the host.
    type: bool
    default: false
  remote_src:
    description: Whether O(src) is on the host.
    type: bool
    default: false
  mode:
    description:
      - The permissions of the file, octal, such as V('0644'). Quote them, so that YAML does not read a number.
      - By default a file that exists keeps its permissions. A new one gets V('0644') in a guest and V('0600') on the host.
    type: str
  owner:
    description: The owner of the file in the guest. By default a file that exists keeps its owner, and a new one belongs to root.
    type: str
  group:
    description: The group of the file in the guest. By default a file that exists keeps its group.
    type: str
  force:
    description: Whether to replace a file that exists and has another content.
    type: bool
    default: true
  timeout:
    description:
      - Seconds for each step in a guest, such as the transfer of the file. After that, the copy to or from that guest fails, and its draft is removed.
      - By default there is no limit.
    type: float
seealso:
  - module: kata.hypervisor.kata_exec
  - plugin: kata.hypervisor.sandbox
    plugin_type: connection
"""

EXAMPLES = r"""
- name: Give all web guests the same page
  kata.hypervisor.kata_copy:
    ids: ["web-*"]
    content: "<h1>Hello</h1>\n"
    dest: /srv/www/index.html
    mode: '0644'

- name: Bring a guest's log to the host
  kata.hypervisor.kata_copy:
    ids: ["web-*"]
    from_guest: true
    src: /var/log/app.log
    dest: /var/log/guests/{id}-app.log
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
      sample: web-1
    changed:
      description: Whether a file was copied or changed, or would be in check mode.
      type: bool
      returned: always
      sample: true
    destination:
      description: The path of the copy.
      type: str
      returned: success
      sample: /srv/www/index.html
    size:
      description: The size of the file, bytes.
      type: int
      returned: success
      sample: 16
    msg:
      description: Why it failed.
      type: str
      returned: when it failed
      sample: "sandbox web-1: the directory must exist in the guest. Option dest was '/srv/www'."
failed_ids:
  description: Ids of the sandboxes for which it failed.
  returned: when all options are valid
  type: list
  elements: str
  sample: []
"""

import os
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.guest_commands import (
    chosen_ids,
    in_each_guest,
    summary,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.engine.guest_copies import FileCopy, copy_file
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, fail_on_error
from ansible_collections.kata.hypervisor.plugins.module_utils.guest.channel import Channel
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import DIRECTORY_SPEC, GUESTS_SPEC
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import SandboxSpec


def requested(module: Any, params: dict[str, Any], source: str) -> FileCopy:
    """The copy that the task's options describe."""
    if params["from_guest"] and (params["content"] is not None or params["remote_src"]):
        raise ConfigError("must not be set together with content or remote_src", option="from_guest", wanted=True)
    return FileCopy(
        src=source or params["src"],
        dest=params["dest"],
        from_guest=params["from_guest"],
        mode=params["mode"] or "",
        owner=params["owner"] or "",
        group=params["group"] or "",
        force=params["force"],
        diff=module._diff,
        is_content=bool(source),
    )


def main() -> None:
    """Copy a file for each guest of this host."""
    argument_spec: dict[str, Any] = {
        "src": {"type": "str"},
        "content": {"type": "str", "no_log": True},
        "dest": {"type": "str", "required": True},
        "from_guest": {"type": "bool", "default": False},
        "remote_src": {"type": "bool", "default": False},
        "mode": {"type": "str"},
        "owner": {"type": "str"},
        "group": {"type": "str"},
        "force": {"type": "bool", "default": True},
        "timeout": {"type": "float"},
        **GUESTS_SPEC,
        **DIRECTORY_SPEC,
    }
    module = AnsibleModule(
        argument_spec=argument_spec,
        mutually_exclusive=[("src", "content")],
        required_one_of=[("src", "content")],
        supports_check_mode=True,
    )
    # The content is in no result but the diff that was asked for. Ansible would hide each of its words everywhere.
    module.no_log_values.clear()
    params = dict(module.params)
    module.params["content"] = None
    where = SandboxSpec("any", state_dir=params["state_dir"], run_dir=params["run_dir"])
    with tempfile.TemporaryDirectory() as work, fail_on_error(module):
        source = ""
        if params["content"] is not None:
            source = os.path.join(work, "content")
            with open(source, "wb") as target:
                target.write(params["content"].encode("utf-8", "surrogateescape"))
        wanted = requested(module, params, source)
        ids = chosen_ids(where, params["ids"])
        wanted.check_places(ids)

        def copy_one(spec: SandboxSpec, channel: Channel) -> dict[str, Any]:
            channel.time_limit = params["timeout"]
            return copy_file(wanted, spec.id, channel, module.check_mode)

        results = in_each_guest(
            where,
            ids,
            copy_one,
            params["parallel"],
            params["connect_timeout"],
        )
    total = summary(results, params["ids"])
    total["diff"] = []
    for result in results:
        if "diff" in result:
            path = f"{result['id']}:{result['destination']}"
            total["diff"].append({**result.pop("diff"), "before_header": path, "after_header": path})
    if total["failed_ids"]:
        module.fail_json(**total)
    module.exit_json(**total)


if __name__ == "__main__":
    main()
