#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_console
short_description: Attach the terminal to the console of a VM sandbox
version_added: 1.0.0
description:
  - Joins the terminal in which the playbook runs with the console of a sandbox, through the connection to its host, until B(Ctrl-]) is typed or the VM ends.
    The playbook C(kata.hypervisor.console) uses it.
  - Only for playbooks that a person runs in a terminal, on a controller with Linux. The connection of the host must be C(ssh) or C(local).
  - Everything that is typed goes to the guest, also B(Ctrl-C). What the guest prints goes to the terminal as it is, with its escape sequences. The
    terminal is restored in any case.
  - QEMU and ACRN have such a console, for one terminal at a time. The console of Firecracker has only a log, see M(kata.hypervisor.kata_logs).
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.directories
  - kata.hypervisor.attributes.actiongroup_kata
options:
  id:
    description: The sandbox's id.
    type: str
    required: true
    aliases: [name, sandbox]
attributes:
  check_mode:
    support: partial
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    details:
      - The task is skipped in check mode.
  diff_mode:
    support: N/A
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    details:
      - This module never changes anything by itself.
seealso:
  - module: kata.hypervisor.kata_logs
"""

EXAMPLES = r"""
- name: Attach the terminal to the console of web-1
  kata.hypervisor.kata_console:
    id: web-1
"""

RETURN = r"""
ended:
  description: Why the terminal is not attached any more, V(detached) or V(the console was closed).
  returned: success
  type: str
  sample: detached
"""

# The work is done by the action plugin of this name.
