# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The versions of ansible-core and Python are the same wherever they are named, and in ansible-core itself."""

from __future__ import annotations

import pathlib
import re

import yaml
from ansible.release import __version__
from ansible_test._util.target.common import constants

from tools.versions import CONTROLLER_PYTHONS, HOST_PYTHONS, host_pythons

ROOT = pathlib.Path(__file__).resolve().parents[3]
OLDEST = next(iter(CONTROLLER_PYTHONS))


def read(path: str) -> dict:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_the_page_has_the_versions() -> None:
    page = (ROOT / "docs/versions.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ansible-core (\S+) \| (\S+) to (\S+) \| (\S+) to (\S+) \|", page, re.MULTILINE)
    assert rows == [
        (core, pythons[0], pythons[-1], HOST_PYTHONS[0], host_pythons(core)[-1])
        for core, pythons in CONTROLLER_PYTHONS.items()
    ]


def test_ansible_core_supports_these_pythons() -> None:
    core = ".".join(__version__.split(".")[:2])
    assert list(constants.CONTROLLER_PYTHON_VERSIONS) == CONTROLLER_PYTHONS[core]
    supported = {*constants.CONTROLLER_PYTHON_VERSIONS, *constants.REMOTE_ONLY_PYTHON_VERSIONS}
    assert set(host_pythons(core)) <= supported and supported <= {"3.7", "3.8", *host_pythons(core)}


def test_the_minimums_are_the_same_everywhere() -> None:
    assert read("meta/runtime.yml")["requires_ansible"] == f">={OLDEST}.0"
    assert read("tests/config.yml")["modules"]["python_requires"] == f">= {HOST_PYTHONS[0]}"
    assert {
        read(f"roles/{role.name}/meta/main.yml")["galaxy_info"]["min_ansible_version"]
        for role in (ROOT / "roles").iterdir()
    } == {OLDEST}
    named = {
        (path.name, core)
        for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
        for core in re.findall(r"ansible-core (2\.\d+) or later", path.read_text(encoding="utf-8"))
    }
    assert ("README.md", OLDEST) in named and {core for _, core in named} == {OLDEST}
