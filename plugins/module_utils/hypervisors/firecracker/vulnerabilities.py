# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Firecracker versions with known vulnerabilities. Pure."""

from __future__ import annotations

import dataclasses

from ...errors import HypervisorError
from .api.dialect import parse_version
from .api.endpoints import Version


@dataclasses.dataclass(frozen=True)
class Vulnerability:
    """A known vulnerability.

    :param ranges: first vulnerable and first repaired version, for each line of releases
    :param when: always, `jailer` or `pci`
    """

    name: str
    what: str
    ranges: tuple[tuple[Version, Version], ...]
    when: str = ""


VULNERABILITIES = (
    Vulnerability(
        "CVE-2020-27174",
        "a guest can make it use memory without limit through the serial console",
        (((0, 0), (0, 21, 3)), ((0, 22), (0, 22, 1))),
    ),
    Vulnerability(
        "CVE-2026-1386",
        "links planted in a jail's directory let its user overwrite files of the host",
        (((0, 0), (1, 13, 2)), ((1, 14), (1, 14, 1))),
        "jailer",
    ),
    Vulnerability(
        "CVE-2026-5747",
        "a guest can write beyond the bounds of a PCI device's memory",
        (((1, 13), (1, 14, 4)), ((1, 15), (1, 15, 1))),
        "pci",
    ),
)


def known_vulnerabilities(version: Version, jailer: bool = False, pci: bool = False) -> list[Vulnerability]:
    """The known vulnerabilities of a version, used in a certain way."""
    used = {"": True, "jailer": jailer, "pci": pci}
    return [
        hole
        for hole in VULNERABILITIES
        if used[hole.when] and any(first <= tuple(version) < repaired for first, repaired in hole.ranges)
    ]


def refuse_vulnerable(name: str, version: str, jailed: bool) -> None:
    """Refuse to install a version with known vulnerabilities.

    :param name: of the asset; only Firecracker's are known here
    :param jailed: whether its jailer is installed too
    :raises HypervisorError: names them
    """
    if name != "firecracker":
        return
    numbers = parse_version(version if version.startswith("v") else f"v{version}")
    holes = (
        [
            *known_vulnerabilities(numbers, False, False),
            *(known_vulnerabilities(numbers, True, False) if jailed else []),
        ]
        if numbers
        else []
    )
    if holes:
        raise HypervisorError(
            f"{name} {version} is vulnerable: " + "; ".join(sorted({f"{hole.name}, {hole.what}" for hole in holes})),
            option="version",
            wanted=version,
            fix="Choose a version without it, or set allow_vulnerable to install this one.",
        )
