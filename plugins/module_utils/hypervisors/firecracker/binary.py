# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Firecracker and jailer binaries: where they are, what version they report, and whether that one may be used."""

from __future__ import annotations

from ...errors import AssetError, Unsupported
from ...host.programs import version_text
from ...untrusted.answers import brief
from .api.dialect import parse_version, shown
from .api.endpoints import Version
from .vulnerabilities import known_vulnerabilities

PLACES = ("/usr/local/bin/firecracker", "/usr/bin/firecracker", "/opt/kata/bin/firecracker")


def version_of(path: str, word: str, option: str) -> Version:
    """The version a binary reports.

    :param word: what its answer begins with, Firecracker or Jailer
    :raises AssetError: it is something else
    """
    output = version_text(path)
    version = parse_version(output) if word.lower() in output.lower() else ()
    if not version:
        raise AssetError(f"must be a {word}", option=option, wanted=path, answer=brief(output))
    return version


def refuse_holes(version: Version, option: str, path: str, jailer: bool = False, pci: bool = False) -> None:
    """Refuse a version with known vulnerabilities that count for this use of it.

    :raises Unsupported: names them, and the option that allows it all the same
    """
    holes = known_vulnerabilities(version, jailer, pci)
    if holes:
        raise Unsupported(
            f"version {shown(version)} is vulnerable: " + "; ".join(f"{hole.name}, {hole.what}" for hole in holes),
            option=option,
            wanted=path,
            fix="Install a version without it, or set allow_vulnerable_vmm to use this one all the same.",
        )
