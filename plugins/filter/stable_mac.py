# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter kata.hypervisor.stable_mac."""

from __future__ import annotations

DOCUMENTATION = r"""
name: stable_mac
short_description: Derive a MAC address from a text
version_added: 1.0.0
author:
  - The kata.hypervisor authors (@kata-hypervisor)
description:
  - Derives a locally administered MAC address from a text. The same text always gives the same address, and another text gives another address.
options:
  _input:
    description: The text, such as the names of a host and an interface.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the MAC address of a bridge
  ansible.builtin.debug:
    msg: "{{ (inventory_hostname ~ '/kata0') | kata.hypervisor.stable_mac }}"
"""

RETURN = r"""
_value:
  description: The address. The sample is that of V(host1/kata0).
  type: str
  sample: "02:b7:81:55:e0:5d"
"""

import hashlib
from typing import Any, Callable

#: The first byte of a unicast address that is locally administered (IEEE 802).
LOCAL = "02"


def stable_mac(text: str) -> str:
    """The address: the local byte, and the first five bytes of the text's SHA-256."""
    digest = hashlib.sha256(str(text).encode()).digest()
    return ":".join([LOCAL, *(f"{byte:02x}" for byte in digest[:5])])


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"stable_mac": stable_mac}
