# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare the names of packages that the roles use with those that distributions publish.

    python -m tools.package_names [NAME...]     such as "debian 13" or "ubuntu"; all of them if none is named

It reads the index of each distribution and architecture, and ends with 1 if a name is in none of them. An index that cannot be reached is reported and
proves nothing.
"""

from __future__ import annotations

import gzip
import lzma
import re
import subprocess
import sys
import urllib.error
import urllib.request
import xml.etree.ElementTree
from typing import Any, Iterator, NamedTuple

import tests.support.checkout  # noqa: F401 (makes the collection importable)
from ansible_collections.kata.hypervisor.plugins.module_utils.architectures import ARCHITECTURES
from ansible_collections.kata.hypervisor.plugins.plugin_utils.package_names import QEMU_OF, names_of

SECONDS = 120


class Published(NamedTuple):
    """The packages that a distribution publishes.

    :param distribution: its name and major version as Ansible's facts have them, and its family
    :param indexes: addresses by architecture; a Packages file of apt, or the directory that repodata is in
    """

    distribution: str
    version: str
    family: str
    indexes: dict[str, list[str]]


def _apt(base: str, suites: list[str], components: list[str], machine: str) -> list[str]:
    binary = f"binary-{ARCHITECTURES[machine].debian}"
    return [f"{base}/dists/{suite}/{part}/{binary}/Packages.xz" for suite in suites for part in components]


def _debian(version: str, name: str) -> Published:
    mirror = "http://deb.debian.org/debian"
    return Published(
        "debian", version, "debian", {machine: _apt(mirror, [name], ["main"], machine) for machine in QEMU_OF}
    )


def _ubuntu(version: str, name: str) -> Published:
    suites, parts = [name, f"{name}-updates"], ["main", "universe"]
    mirrors = {"x86_64": "http://archive.ubuntu.com/ubuntu", "aarch64": "http://ports.ubuntu.com/ubuntu-ports"}
    return Published(
        "ubuntu", version, "debian", {machine: _apt(mirrors[machine], suites, parts, machine) for machine in QEMU_OF}
    )


def _fedora(version: str) -> Published:
    mirror = "https://dl.fedoraproject.org/pub/fedora/linux/releases"
    return Published(
        "fedora", version, "redhat", {machine: [f"{mirror}/{version}/Everything/{machine}/os"] for machine in QEMU_OF}
    )


def _enterprise_linux(version: str) -> Published:
    mirror, epel = f"https://repo.almalinux.org/almalinux/{version}", "https://dl.fedoraproject.org/pub/epel"
    indexes = {
        machine: [f"{mirror}/{part}/{machine}/os" for part in ("BaseOS", "AppStream")]
        + [f"{epel}/{version}/Everything/{machine}"]
        for machine in QEMU_OF
    }
    return Published("almalinux", version, "redhat", indexes)


PUBLISHED = [
    _debian("12", "bookworm"),
    _debian("13", "trixie"),
    _ubuntu("22", "jammy"),
    _ubuntu("24", "noble"),
    _ubuntu("26", "resolute"),
    _fedora("43"),
    _enterprise_linux("9"),
]


def packages_of_apt(text: str) -> dict[str, list[str]]:
    """The dependencies of each package in a Packages file, without versions and alternatives."""
    found: dict[str, list[str]] = {}
    for block in text.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Depends): *(.*)$", block, re.MULTILINE))
        if "Package" in fields:
            words = re.split(r"[,|]", fields.get("Depends", ""))
            found[fields["Package"]] = [re.split(r"[ (:]", word.strip())[0] for word in words if word.strip()]
    return found


def packages_of_rpm(text: str) -> dict[str, list[str]]:
    """The same of a primary.xml of repodata; a dependency is what the package requires."""
    space = "{http://linux.duke.edu/metadata/common}"
    rpm = "{http://linux.duke.edu/metadata/rpm}"
    found: dict[str, list[str]] = {}
    for package in xml.etree.ElementTree.fromstring(text).iter(f"{space}package"):
        requires = package.iterfind(f"{space}format/{rpm}requires/{rpm}entry")
        found[str(package.findtext(f"{space}name"))] = [entry.attrib["name"] for entry in requires]
    return found


def primary_of(text: str) -> str:
    """The path of primary.xml in a repomd.xml."""
    space = "{http://linux.duke.edu/metadata/repo}"
    for data in xml.etree.ElementTree.fromstring(text).iter(f"{space}data"):
        location = data.find(f"{space}location")
        if data.attrib["type"] == "primary" and location is not None:
            return location.attrib["href"]
    raise ValueError("it names no primary.xml")


def wanted(names: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What the roles use: the package, and the pattern that one of its dependencies must match."""
    for key in ("qemu", "virtiofsd", "network"):
        for name in names[key]:
            yield name, ""
    for packages in names["firmware"].values():
        for name in packages:
            yield name, ""
    yield names["kernel"], names["kernel_follow"]
    yield names["busybox"], ""
    yield names["qemu_img"], ""
    for name in ("qemu-guest-agent", "socat"):
        yield name, names["guest_libraries"]


def problems(names: dict[str, Any], packages: dict[str, list[str]]) -> list[str]:
    """The names that are not published, and the patterns that match no dependency."""
    found = []
    for name, pattern in sorted(set(wanted(names))):
        if name not in packages:
            found.append(f"there is no package {name}")
        elif pattern and not any(re.search(pattern, dependency) for dependency in packages[name]):
            found.append(f"no dependency of {name} matches {pattern}")
    return found


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=SECONDS) as answer:
        data: bytes = answer.read()
    if url.endswith(".xz"):
        return lzma.decompress(data)
    if url.endswith(".gz"):
        return gzip.decompress(data)
    if url.endswith(".zst"):
        return subprocess.run(["zstd", "-dc"], input=data, stdout=subprocess.PIPE, check=True).stdout
    return data


def read(url: str) -> dict[str, list[str]]:
    """The packages of an index.

    :raises OSError: it cannot be reached
    """
    if url.endswith("Packages.xz"):
        return packages_of_apt(_get(url).decode())
    primary = primary_of(_get(f"{url}/repodata/repomd.xml").decode())
    return packages_of_rpm(_get(f"{url}/{primary}").decode())


def main(chosen: list[str]) -> int:
    """Compare and report."""
    wrong = 0
    for one in PUBLISHED:
        title = f"{one.distribution} {one.version}"
        if chosen and title not in chosen and one.distribution not in chosen:
            continue
        for machine, urls in one.indexes.items():
            facts = {
                "distribution": one.distribution,
                "distribution_major_version": one.version,
                "os_family": one.family,
                "architecture": machine,
            }
            names = names_of(facts)
            packages: dict[str, list[str]] = {}
            try:
                for url in urls:
                    packages.update(read(url))
            except (OSError, urllib.error.URLError) as error:
                print(f"{title} {machine}: NOT CHECKED, {url}: {error}")
                continue
            found = problems(names, packages)
            wrong += len(found)
            print(
                f"{title} {machine}: {'; '.join(found) or f'all {len(set(wanted(names)))} names are published'}",
                flush=True,
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
