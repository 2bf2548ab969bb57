# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Attributes of the modules."""

    # A module that changes things.
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    details:
      - Check mode uses the planner and the checks of a real run. It changes nothing on the host, and takes no lock.
  diff_mode:
    support: full
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
  idempotent:
    support: full
    description: When run twice in a row with the same arguments, the second invocation indicates that nothing changed.
"""

    # A module that only reads.
    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    details:
      - This module never changes anything.
  diff_mode:
    support: N/A
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    details:
      - This module never changes anything.
  idempotent:
    support: full
    description: When run twice in a row with the same arguments, the second invocation indicates that nothing changed.
"""

    ACTIONGROUP_KATA = r"""
options: {}
attributes:
  action_group:
    support: full
    membership:
      - kata.hypervisor.kata
    description: Use C(group/kata.hypervisor.kata) in C(module_defaults) to set defaults for this module.
"""
