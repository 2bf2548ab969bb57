# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter kata.hypervisor.query."""

from __future__ import annotations

DOCUMENTATION = r"""
name: query
short_description: Choose from sandboxes, or from anything else, with a JMESPath expression
version_added: 1.0.0
author:
  - The kata.hypervisor authors (@kata-hypervisor)
description:
  - Applies a JMESPath expression to data, such as what M(kata.hypervisor.kata_sandbox_info) returns.
requirements:
  - jmespath on the controller
positional: expression
options:
  _input:
    description: The data.
    type: raw
    required: true
  expression:
    description: The expression.
    type: str
    required: true
seealso:
  - name: JMESPath
    description: The language.
    link: https://jmespath.org
"""

EXAMPLES = r"""
- name: Stop what uses more than a gigabyte
  kata.hypervisor.kata_sandbox:
    id: "{{ item }}"
    state: stopped
  loop: "{{ info.sandboxes | kata.hypervisor.query('[?memory_mb > `1024`].id') }}"
"""

RETURN = r"""
_value:
  description: What the expression chose.
  type: raw
"""

from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible.module_utils.basic import missing_required_lib

try:
    import jmespath
    from jmespath.exceptions import JMESPathError

    MISSING = False
except ImportError:
    MISSING = True


def query(data: Any, expression: str) -> Any:
    """What a JMESPath expression chooses from data.

    :raises AnsibleFilterError: jmespath is missing, or the expression is none
    """
    if MISSING:
        raise AnsibleFilterError(missing_required_lib("jmespath"))
    try:
        return jmespath.search(expression, _plain(data))
    except JMESPathError as problem:
        raise AnsibleFilterError(f"The query {expression!r} cannot be used: {problem}") from problem


def _plain(data: Any) -> Any:
    """Data of plain types: jmespath tells types by their exact classes, and Ansible marks strings."""
    if isinstance(data, dict):
        return {str(name): _plain(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_plain(value) for value in data]
    return str(data) if isinstance(data, str) else data


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"query": query}
