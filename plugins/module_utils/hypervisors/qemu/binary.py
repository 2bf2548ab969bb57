# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The QEMU binary: which one, which version, is it one at all."""

from __future__ import annotations

import re

from ...errors import AssetError, Unsupported
from ...host.programs import find_program, version_text
from ...untrusted.answers import brief
from .machines import Architecture

OLDEST = (5, 2)
VERSION = re.compile(r"QEMU emulator version ([0-9]{1,4})\.([0-9]{1,4})(?:\.([0-9]{1,4}))?(?![0-9])")


def find_binary(wanted: str, architecture: Architecture) -> str:
    """The binary that was asked for, or the first of the architecture's usual places.

    :raises AssetError: there is none, or it can't be run
    """
    return find_program(wanted, architecture.binaries, "QEMU")


def parse_version(text: str) -> tuple[int, int, int] | None:
    """The version in a QEMU's words, None when there is none."""
    found = VERSION.search(text)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def version_of(path: str) -> tuple[int, int, int]:
    """The version a binary reports.

    :raises AssetError: it is no QEMU
    :raises Unsupported: it is older than the oldest that this driver knows
    """
    output = version_text(path)
    version = parse_version(output)
    if version is None:
        raise AssetError("this is not a QEMU", option="hypervisor_path", wanted=path, answer=brief(output))
    if version < OLDEST:
        raise Unsupported(
            f"QEMU {version[0]}.{version[1]} is older than {OLDEST[0]}.{OLDEST[1]}",
            option="hypervisor_path",
            wanted=path,
            fix="Install a newer QEMU.",
        )
    return version
