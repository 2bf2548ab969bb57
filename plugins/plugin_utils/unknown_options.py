# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The error about an option that a module does not have: the options with similar names instead of all of them."""

from __future__ import annotations

import difflib
import re

#: What ansible-core's AnsibleModule says.
UNSUPPORTED = re.compile(
    r"Unsupported parameters for \((\S+)\) module: (.+?)\. Supported parameters include: (.+?)\.?\s*", re.DOTALL
)


def with_suggestions(message: str) -> str:
    """The message with the options of similar names; any other message as it is."""
    found = UNSUPPORTED.fullmatch(message)
    if not found:
        return message
    module = found[1]
    known = re.findall(r"\w+", found[3])
    sentences = []
    for name in found[2].split(", "):
        near = difflib.get_close_matches(name.rpartition(".")[2].lower(), known, 3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        sentences.append(f"{module} has no option {name}.{hint}")
    return f"{' '.join(sentences)} ansible-doc {module} shows all options."
