# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that a kernel was built with, as its configuration lists them."""

from __future__ import annotations

import re
from typing import Iterable

#: The largest configuration that is read, bytes.
MOST_CONFIGURATION = 16 << 20


def missing_options(configuration: str, required: Iterable[str]) -> list[str]:
    """The required options that are neither built in nor a module, sorted."""
    built = set(re.findall(r"^(CONFIG_\w+)=[ym]$", configuration, re.MULTILINE))
    return sorted(set(required) - built)


def missing_options_of(path: str, required: Iterable[str]) -> list[str]:
    """The same for the file of a kernel's configuration.

    :raises OSError: it cannot be read
    """
    with open(path, encoding="utf-8", errors="replace") as stream:
        return missing_options(stream.read(MOST_CONFIGURATION), required)
