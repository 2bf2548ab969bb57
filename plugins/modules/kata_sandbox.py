#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kata.hypervisor.plugins.module_utils.arguments import parse_spec, sandbox_argument_spec
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError
from ansible_collections.kata.hypervisor.plugins.module_utils.sandbox import converge


def main() -> None:
    """Bring one sandbox to what the task asks for."""
    module = AnsibleModule(argument_spec=sandbox_argument_spec(), supports_check_mode=True)
    try:
        result = converge(parse_spec(module.params), module.check_mode)
    except HypervisorError as problem:
        module.fail_json(msg=str(problem), **problem.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
