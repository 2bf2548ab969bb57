# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages of the distribution that are installed on this host, and those that a role needs there.

Whether a package is installed is asked of the package database, in some hundredths of a second. The package manager, which reads the lists of
all packages for a second or more, runs only if one is missing.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import time
from typing import Any, Iterable

from ..errors import ConfigError
from ..host.programs import Ended, run
from .packages import Apt, package_manager

#: A name, possibly with an architecture (name:arch) and a version (name=version, which may be a pattern); dnf also knows groups (@name).
NAME = re.compile(r"@?[A-Za-z0-9][A-Za-z0-9+._/:~-]*(=[A-Za-z0-9+.:~*?-]+)?")
LISTS = "/var/lib/apt/lists"
#: Lists of packages that are older than this are fetched again before an installation, seconds.
OLD_SECONDS = 86400.0
_SECONDS = 3600
_QUERY_SECONDS = 10
_APT_OPTIONS = ("-q", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=600")
# As Ansible's own module does: a configuration file that the administrator changed stays as it is.
_KEEP_FILES = ("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold")


def install(names: list[str], check_mode: bool = False) -> dict[str, Any]:
    """Install the packages that are missing.

    :returns: what the module returns
    :raises ConfigError: a text is not the name of a package
    :raises HostError: the packages cannot be installed
    """
    for name in names:
        if not NAME.fullmatch(name):
            raise ConfigError("this cannot be the name of a package", option="names", wanted=name)
    manager = package_manager()
    missing = missing_of_apt(names, _dpkg()) if isinstance(manager, Apt) else _missing_of_dnf(names)
    result = {"changed": bool(missing), "missing": missing, "actions": [f"install {name}" for name in missing]}
    if missing and not check_mode:
        if isinstance(manager, Apt):
            _install_with_apt(manager, missing)
        else:
            result["changed"] = _install_with_dnf(missing)
    return {**result, "diff": {"before": {"missing": missing}, "after": {"missing": []}}}


def missing_of_apt(names: Iterable[str], database: str) -> list[str]:
    """The packages that are not installed, neither themselves nor by another one that provides them.

    :param database: lines with the fields state, name, architecture, version and what it provides, separated by tabs
    """
    versions: dict[str, str] = {}
    for line in database.splitlines():
        state, name, architecture, version, provides = line.split("\t")
        if state[1:2] == "i":
            others = [one.split()[0] for one in provides.split(",") if one.strip()]
            versions |= {other: "" for other in others if other not in versions}
            versions |= {name: version, f"{name}:{architecture}": version}
    missing = []
    for wanted in names:
        name, _equals, pattern = wanted.partition("=")
        found = versions.get(name)
        if found is None or (pattern and not fnmatch.fnmatchcase(found, pattern)):
            missing.append(wanted)
    return missing


def _dpkg() -> str:
    form = "${db:Status-Abbrev}\t${Package}\t${Architecture}\t${Version}\t${Provides}\n"
    return run(["dpkg-query", "--show", f"--showformat={form}"], _QUERY_SECONDS).raise_on_failure().text


def _install_with_apt(manager: Apt, names: list[str]) -> None:
    lists = glob.glob(f"{LISTS}/*_Packages*")
    if not lists or time.time() - max(map(os.path.getmtime, [LISTS, *lists])) > OLD_SECONDS:
        manager.refresh()
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "DEBIAN_PRIORITY": "critical", "LC_ALL": "C"}
    argv = ["apt-get", *_APT_OPTIONS, *_KEEP_FILES, "install", *names]
    ended = run(argv, _SECONDS, environment=environment)
    if ended.code:
        # The lists may name a version that the archive has replaced since.
        manager.refresh()
        ended = run(argv, _SECONDS, environment=environment)
    ended.raise_on_failure()


def _missing_of_dnf(names: list[str]) -> list[str]:
    return [name for name in names if _rpm("--query", name).code and _rpm("--query", "--whatprovides", name).code]


def _install_with_dnf(names: list[str]) -> bool:
    """Returns whether that changed the host: a group of packages is not in the database, so it always counts as missing."""
    before = _rpm("--query", "--all").text.splitlines()
    run(["dnf", "-q", "-y", "--setopt=install_weak_deps=False", "install", *names], _SECONDS).raise_on_failure()
    return sorted(_rpm("--query", "--all").text.splitlines()) != sorted(before)


def _rpm(*arguments: str) -> Ended:
    return run(["rpm", *arguments], _QUERY_SECONDS)
