#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# There is no "from __future__ import annotations" here, so that Python 3.6 reads this file and says what Ansible says about it.

DOCUMENTATION = r"""
module: kata_engine
short_description: Internal, runs other modules from a compiled copy cached on the host
version_added: 1.0.0
description:
  - Do not call this module. The modules that drive hypervisors use it. With a compiled copy of the collection and of Ansible's module_utils on the host,
    a task is as fast as C(ansible.builtin.ping).
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
  engine_copy:
    description: The Python code that finds and checks the copy.
    type: str
    required: true
  run:
    description: The name of the module to run.
    type: str
    required: true
  options:
    description: The options of that module, JSON in Base64.
    type: str
    required: true
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

import os
import sys

# Nothing is imported from the current directory, or from the directory that this file was copied to. What is read from a pipe has no `__file__`.
for _directory in ("", ".", *([os.path.dirname(os.path.abspath(__file__))] if "__file__" in globals() else [])):
    while _directory in sys.path:
        sys.path.remove(_directory)

import base64
import importlib
import json
import traceback
import types
from typing import Any, Callable, NoReturn

#: Ansible replaces this by the arguments, JSON. So it sends this file alone, and not with the 50 files of its own that a module imports, which
#: Python would compile for each task. No user's text is in the arguments as it is, since Ansible replaces such words in them too.
ARGUMENTS = r"""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"""
SPEC = {
    "digest": {"type": "str", "required": True},
    "engine_copy": {"type": "str", "required": True},
    "run": {"type": "str", "required": True},
    "options": {"type": "str", "required": True, "no_log": True},
    "archive": {"type": "path"},
}


def answer(**values: Any) -> NoReturn:
    """Print the result and end."""
    sys.stdout.write(json.dumps({"changed": False, **values}) + "\n")
    raise SystemExit(1 if values.get("failed") else 0)


def find_copy(arguments: Any) -> Any:
    """The host's copy. It is installed if there is an archive with it. If there is none, this module ends here."""
    if sys.version_info < (3, 9):  # noqa: UP036 (this file is sent to any Python)
        answer(engine_missing=True, can_install=False)
    code = types.ModuleType("engine_copy")
    exec(arguments["engine_copy"], code.__dict__)  # noqa: S102 (the controller sends it as it sends this file)
    copy = code.EngineCopy(arguments["digest"])
    archive = arguments.get("archive")
    if archive and not copy.is_usable():
        sys.path.insert(0, archive)
        try:
            importlib.import_module("module_utils.delivery.engine_installation").install(copy, archive)
        except (ImportError, OSError, ValueError) as problem:
            answer(engine_missing=True, can_install=False, reason=str(problem))
        finally:
            sys.path.remove(archive)
    if not copy.is_usable():
        answer(engine_missing=True, can_install=can_install(copy) and not archive)
    return copy


def can_install(copy: Any) -> bool:
    """Whether this host could keep a copy."""
    return os.geteuid() == 0 and bool(copy.is_possible())


def load(copy: Any, arguments: Any) -> Callable[[], None]:
    """The function that runs the module, with its options, as if the module had been sent by itself."""
    copy.enter()
    basic = importlib.import_module("ansible.module_utils.basic")
    basic._ANSIBLE_PROFILE = "legacy"  # Of the JSON; since ansible-core 2.19.
    given = {key: value for key, value in arguments.items() if key.startswith("_ansible_")}
    given["_ansible_module_name"] = "kata.hypervisor." + arguments["run"]
    given.update(json.loads(base64.b64decode(arguments["options"])))
    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": given}).encode()
    name = "ansible_collections.kata.hypervisor.plugins.modules." + arguments["run"]
    run: Callable[[], None] = importlib.import_module(name).main
    return run


def main() -> None:
    """Run a module from the host's copy, or report that there is none."""
    if not ARGUMENTS.startswith("{"):
        # Not sent by Ansible: a test reads the options.
        importlib.import_module("ansible.module_utils.basic").AnsibleModule(
            argument_spec=SPEC, supports_check_mode=True
        )
    arguments = json.loads(ARGUMENTS)
    copy = find_copy(arguments)
    run = None
    try:
        run = load(copy, arguments)
        run()
    except Exception as problem:
        reason = f"{type(problem).__name__}: {problem}"
        if copy.is_intact():
            answer(failed=True, msg=reason, exception=traceback.format_exc())
        if run is None:
            # Nothing has been done yet. A copy that is damaged is removed, and the controller sends another one.
            answer(engine_missing=True, can_install=can_install(copy))
        answer(
            failed=True,
            msg=f"The copy of the collection on this host is damaged ({reason}). It has been removed. Run the task again.",
            kind="HostError",
        )


if __name__ == "__main__":
    main()
