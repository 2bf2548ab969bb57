# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host says of its Firecracker, its jailer and its ACRN: on stand-ins, and on real ones where the environment names them."""

from __future__ import annotations

import os
import pathlib

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.acrn import facts as acrn_facts
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.acrn import start
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker import facts as firecracker_facts
from tests.support.stand_ins import DOUBLES, FIRECRACKER, JAILER, double_only


def test_firecracker_and_the_jailer_beside_it(tmp_path: pathlib.Path) -> None:
    for name, program in (("firecracker", FIRECRACKER), ("jailer", JAILER)):
        (tmp_path / name).symlink_to(program)
    (facts,) = firecracker_facts.firecrackers([str(tmp_path / "firecracker")])
    assert facts["version"].startswith("1.") and facts["known_vulnerabilities"] == []
    assert facts["usable"] is os.access("/dev/kvm", os.R_OK | os.W_OK)
    assert facts["capabilities"]["pause"] and not facts["capabilities"]["block_device_hotplug"]
    assert facts["capabilities_with_pci"]["pmem_hotplug"]
    assert facts["jailer"]["usable"] and facts["jailer"]["version"] == facts["version"]


def test_no_rights_to_kvm_are_told() -> None:
    facts = firecracker_facts.firecracker_facts(FIRECRACKER, "/nowhere/kvm")
    assert not facts["usable"] and facts["reason"] == "/nowhere/kvm cannot be opened"


@double_only
@pytest.mark.parametrize(
    ("version", "holes", "usable", "jailed"),
    [
        ("0.21.2", ["CVE-2020-27174", "CVE-2026-1386"], False, False),
        ("1.13.0", ["CVE-2026-5747", "CVE-2026-1386"], True, False),
        ("1.14.4", [], True, True),
    ],
)
def test_known_vulnerabilities_are_reported(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, version: str, holes: list[str], usable: bool, jailed: bool
) -> None:
    monkeypatch.setenv("FIRECRACKER_DOUBLE_VERSION", version)
    (tmp_path / "kvm").touch()
    facts = firecracker_facts.firecracker_facts(FIRECRACKER, str(tmp_path / "kvm"))
    assert (facts["version"], facts["usable"], facts["jailer"]["usable"]) == (version, usable, jailed)
    assert [
        hole["name"] for hole in [*facts["known_vulnerabilities"], *facts["jailer"]["known_vulnerabilities"]]
    ] == holes
    assert facts["known_holes"] == facts["known_vulnerabilities"]
    assert usable or "allow_vulnerable_vmm" in facts["reason"]


@pytest.mark.parametrize("version", ["2.5", "3.4"])
def test_acrn(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setenv("ACRN_DOUBLE_VERSION", version)
    (facts,) = acrn_facts.acrns([str(DOUBLES / "acrn-dm")])
    assert facts["version"].startswith(version) and facts["vms_are_known_by"] == (
        "uuid" if version == "2.5" else "name"
    )
    assert not facts["usable"] and "this host does not run on ACRN" in facts["reason"]
    monkeypatch.setattr(start, "HSM_DEVICES", ("/dev/null",))
    assert acrn_facts.acrn_facts(str(DOUBLES / "acrn-dm"))["usable"]
    assert acrn_facts.acrn_facts(str(DOUBLES / "acrnctl"))["reason"]


def test_what_is_none_is_told() -> None:
    assert [
        facts["usable"]
        for facts in (*firecracker_facts.firecrackers(["/bin/true", "/nowhere"]), *acrn_facts.acrns(["/bin/true"]))
    ] == [False] * 3
