#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_engine
short_description: Internal, runs other modules from a compiled copy cached on the host
version_added: 1.0.0
description:
  - Do not call this module. The modules that drive hypervisors use it. With a compiled copy of the collection on the host, a task is about as fast
    as C(ansible.builtin.ping).
  - The copy is in C(/var/cache/kata-hypervisor/engine), in a directory named by the digest of its files. It can be removed at any time. A copy that was
    not used for a week is removed. A copy is only used if it belongs to the user of the task and nobody else may write to it.
  - Set the variable C(kata_hypervisor_keep_engine) to C(false) for hosts that must not cache anything. Each task then transfers the module.
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.attributes
attributes:
  check_mode:
    details:
      - Depends on the module that is run. No copy is created in check mode.
  diff_mode:
    details:
      - Depends on the module that is run.
  idempotent:
    details:
      - Depends on the module that is run. A new copy is not reported as a change.
options:
  digest:
    description: The digest of all files of the copy.
    type: str
    required: true
  run:
    description: The name of the module to run.
    type: str
    required: true
  options:
    description: The options of that module.
    type: dict
    default: {}
  archive:
    description: A zip archive on the host with the files of the copy.
    type: path
"""

EXAMPLES = r"""
- name: Start a sandbox without a copy of the collection on the host
  kata.hypervisor.kata_sandbox:
    id: web-1
    state: started
  vars:
    kata_hypervisor_keep_engine: false
"""

RETURN = r"""
engine_missing:
  description: Set if there is no copy. All other values are those of the module that was run.
  returned: when no module was run
  type: bool
  sample: true
can_install:
  description: Whether a copy can be installed on this host.
  returned: when no module was run
  type: bool
  sample: true
"""

import importlib
import json
import os

from ansible.module_utils import basic

from ansible_collections.kata.hypervisor.plugins.module_utils.delivery.engine_copy import PLUGINS, EngineCopy


def can_install(copy: EngineCopy) -> bool:
    """Whether this host could keep a copy."""
    return os.geteuid() == 0 and copy.is_possible()


def main() -> None:
    """Run a module from the host's copy, or report that there is none."""
    module = basic.AnsibleModule(
        argument_spec={
            "digest": {"type": "str", "required": True},
            "run": {"type": "str", "required": True},
            "options": {"type": "dict", "default": {}, "no_log": True},
            "archive": {"type": "path"},
        },
        supports_check_mode=True,
    )
    copy = EngineCopy(module.params["digest"])
    if module.params["archive"] and not copy.is_usable():
        # Imported here, since hardly any task installs a copy.
        from ansible_collections.kata.hypervisor.plugins.module_utils.delivery.engine_installation import install

        try:
            install(copy, module.params["archive"])
        except (OSError, ValueError) as problem:
            module.exit_json(changed=False, engine_missing=True, can_install=False, reason=str(problem))
    if not copy.is_usable():
        module.exit_json(
            changed=False, engine_missing=True, can_install=can_install(copy) and not module.params["archive"]
        )
    name = f"{PLUGINS}.modules.{module.params['run']}"
    # The module reads its options as if it had been sent by itself; what Ansible says beside them is the same.
    sent = json.loads(basic._ANSIBLE_ARGS)["ANSIBLE_MODULE_ARGS"]
    beside = {key: value for key, value in sent.items() if key.startswith("_ansible_")}
    arguments = {
        **beside,
        "_ansible_module_name": f"kata.hypervisor.{module.params['run']}",
        **module.params["options"],
    }
    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
    copy.enter()
    try:
        run = importlib.import_module(name).main
    except Exception:
        # Nothing has been done yet. A copy that is damaged is removed, and the controller sends another one.
        if copy.is_intact():
            raise
        module.exit_json(changed=False, engine_missing=True, can_install=can_install(copy))
    try:
        run()
    except Exception as problem:
        if copy.is_intact():
            raise
        module.fail_json(
            msg=f"The copy of the collection on this host is damaged ({type(problem).__name__}: {problem}). It has been removed. Run the task again.",
            kind="HostError",
        )


if __name__ == "__main__":
    main()
