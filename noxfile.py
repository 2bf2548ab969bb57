# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make matrix` runs: every supported ansible-core with the Pythons that it supports (tools/versions.py).

The list at the end says what passed, and what was skipped for which reason. tests/hosts/pythons.py finds the Pythons.
"""

from __future__ import annotations

import os
import pathlib
import sys
from typing import Any, Callable

import nox

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from tests.hosts.pythons import LINKS
from tests.support.guest_assets import cache_directory
from tools.versions import CONTROLLER_PYTHONS, HOST_PYTHONS, host_pythons

os.environ["PATH"] = f"{LINKS}:{os.environ['PATH']}"
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
nox.options.envdir = cache_directory() / "nox"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = "yes"


def exists(python: str) -> bool:
    """Whether that Python was found."""
    return (LINKS / f"python{python}").exists()


#: Each core with the newest of its Pythons that was found.
NEWEST = [(core, [*pythons[-1:], *filter(exists, pythons)][-1]) for core, pythons in CONTROLLER_PYTHONS.items()]
ALL = [(core, python) for core, pythons in CONTROLLER_PYTHONS.items() for python in pythons]
#: How hosts are reached, and their Python. Mitogen starts Python under another name, and one that was moved to a cache finds its library by its name only.
LANES = [
    *((core, python, "local", python) for core, python in ALL),
    *((core, python, "ssh", host_python) for core, python in NEWEST for host_python in host_pythons(core)),
    *((core, python, "paramiko_ssh", python) for core, python in NEWEST),
    *((core, python, "mitogen", "system") for core, python in NEWEST),
]


def with_each(names: str, rows: list[tuple[str, ...]]) -> Callable[[Any], Any]:
    """Run a session with each row of parameters, which are its name too."""
    return nox.parametrize(names, [nox.param(*row, id="-".join(row)) for row in rows])


def install(session: nox.Session, core: str, *packages: str) -> None:
    """Install an ansible-core and what the tests import."""
    session.install(
        f"ansible-core~={core}.0", "-r", "requirements-test.txt", "-r", "meta/ee-requirements.txt", *packages
    )


def test(session: nox.Session, *words: str, **environment: str) -> None:
    """Run pytest."""
    session.run("python", "-m", "pytest", "-p", "no:cacheprovider", *words, *session.posargs, env=environment)


@nox.session
@with_each("core,python,lane,host_python", LANES)
def smoke(session: nox.Session, core: str, lane: str, host_python: str) -> None:
    """The life of a sandbox, by ad hoc commands and a playbook, with the mock driver and with QEMU."""
    if lane == "paramiko_ssh" and core == "2.21":
        session.skip("ansible-core 2.21 has no connection plugin for paramiko")
    if host_python != "system" and not exists(host_python):
        session.skip(f"Python {host_python} was not found")
    interpreter = "/usr/bin/python3" if host_python == "system" else str(LINKS / f"python{host_python}")
    install(session, core, *(["mitogen >= 0.3.54, < 0.4"] if lane == "mitogen" else []))
    test(session, "tests/integration/test_smoke.py", KATA_SMOKE_CONNECTION=lane, KATA_SMOKE_PYTHON=interpreter)


@nox.session
@with_each("core,python", NEWEST)
def tarball(session: nox.Session, core: str) -> None:
    """The collection from its tarball, and nothing of the checkout."""
    install(session, core)
    test(session, "tests/integration/test_tarball.py")


@nox.session
@with_each("core,python", NEWEST)
def sanity(session: nox.Session, core: str) -> None:
    """ansible-test sanity, which compiles and imports everything with all Pythons that it finds."""
    install(session, core)
    session.run("python", "tools/lint.py", "ansible-test sanity")


@nox.session(python=HOST_PYTHONS)
def host_units(session: nox.Session) -> None:
    """The unit tests of what runs on hosts, without ansible-core."""
    session.install("-r", "requirements-test.txt", "pyyaml")
    test(session, "-n", "2", "tests/unit/plugins/module_utils")


@nox.session
@with_each("core,python", ALL)
def units(session: nox.Session, core: str) -> None:
    """The unit tests. Those of the repository itself need other tools, and run in `make test`."""
    install(session, core)
    test(session, "-n", "2", "tests/unit", "--ignore", "tests/unit/repository")
