# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Split a text into words, as Go's strings.Fields does. Pure."""

from __future__ import annotations

import re

#: Unicode white space. `str.split` also splits at the control characters 0x1c to 0x1f, which are not white space.
WHITE_SPACE = re.compile("[\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")


def split_words(text: str) -> list[str]:
    """The words of a text, split at white space."""
    return [word for word in WHITE_SPACE.split(text) if word]
