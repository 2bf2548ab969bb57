# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter kata.hypervisor.missing_kernel_options."""

from __future__ import annotations

DOCUMENTATION = r"""
name: missing_kernel_options
short_description: List the options that a kernel was built without
version_added: 1.0.0
author:
  - The kata.hypervisor authors (@kata-hypervisor)
description:
  - Compares the configuration of a kernel with the options that it must have. An option counts if it is built in (C(y)) or a module (C(m)).
positional: required
options:
  _input:
    description: The text of the configuration.
    type: str
    required: true
  required:
    description: The options that the kernel must have, such as V(CONFIG_VIRTIO_NET).
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Fail if the kernel cannot use virtio
  ansible.builtin.assert:
    that: configuration.content | b64decode | kata.hypervisor.missing_kernel_options(['CONFIG_VIRTIO_BLK', 'CONFIG_VIRTIO_NET']) == []
"""

RETURN = r"""
_value:
  description: The options that are missing, sorted.
  type: list
  elements: str
  sample: [CONFIG_VIRTIO_NET]
"""

from typing import Any, Callable, Iterable

from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.kernel_options import missing_options


def missing_kernel_options(configuration: str, required: Iterable[str]) -> list[str]:
    """The options that are neither built in nor a module."""
    return missing_options(str(configuration), map(str, required))


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"missing_kernel_options": missing_kernel_options}
