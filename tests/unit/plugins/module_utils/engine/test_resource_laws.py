# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The laws of `test_laws.py` for root disks, volumes, seeds and networks of the VMM, on sandboxes of the mock driver.

Networks of the host need root and a network namespace: tests/integration/networks has them.
"""

from __future__ import annotations

import pathlib
import shutil
import tempfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.killing import KILLED
from tests.support.mock_lab import MockLab
from tests.unit.plugins.module_utils.engine.test_laws import accidents, cause, comparable, outcome

MIB = 1 << 20
SCRATCH = {"name": "scratch", "size_mb": 2, "filesystem": "none", "keep": False}
LARGER = {**SCRATCH, "size_mb": 3}
OTHER = {"name": "other", "size_mb": 1, "filesystem": "none", "keep": False}
USER_DATA = "#!/bin/sh\necho secret\n"


def images(directory: pathlib.Path) -> tuple[str, str]:
    """Two small images, outside of what the sandboxes own."""
    paths = []
    for name in ("one", "other"):
        path = directory / f"{name}.img"
        path.write_bytes(name.encode() * 100 + bytes(MIB))
        paths.append(str(path))
    return paths[0], paths[1]


def boot(image: str) -> dict[str, Any]:
    return {"kernel_path": "/k", "image_path": image}


requests = st.fixed_dictionaries(
    {},
    optional={
        "state": st.sampled_from(("present", "started", "paused", "stopped", "saved", "restarted")),
        "root_disk_mb": st.sampled_from([0, 2, 3, 5]),
        "volumes": st.sampled_from([[], [SCRATCH], [LARGER], [OTHER], [LARGER, OTHER], [{**OTHER, "read_only": True}]]),
        "hostname": st.sampled_from(["", "web", "mail.example.com"]),
        "user_data": st.sampled_from(["", USER_DATA, "#cloud-config\n{}\n"]),
        "network": st.sampled_from(["none", "user"]),
        "egress": st.sampled_from(["open", "none"]),
        "vcpus": st.integers(1, 4),
        "disruption": st.sampled_from(["none", "restart", "recreate"]),
    },
)


@settings(max_examples=80)
@given(first=requests, steps=st.lists(st.tuples(accidents, requests), min_size=1, max_size=4), other=st.booleans())
def test_laws(first: dict[str, Any], steps: list[tuple[str, dict[str, Any]]], other: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        image, second = images(pathlib.Path(directory))
        lab = MockLab(pathlib.Path(directory) / "lab")
        digests = [pathlib.Path(path).read_bytes() for path in (image, second)]
        for number, (accident, request) in enumerate([("none", {**boot(image), **first}), *steps]):
            if number == 2 and other:
                request = {**request, "image_path": second}
            cause(lab, accident)
            files = lab.files()
            expected = outcome(lab.check, request)
            assert lab.files() == files, "check mode changed something"
            real = outcome(lab.run, request)
            assert real == expected, "check mode and the real run differ"
            if isinstance(real[0], str):
                assert lab.files() == files, "a refused task changed something"
                continue
            again = lab.run(
                **{**request, "state": "started" if request.get("state") == "restarted" else request.get("state")}
            )
            assert again["actions"] == []
            assert not again["changed"]
            facts = lab.facts()
            check_resources(lab, request, facts)
            assert "secret" not in str((real, again, facts))
        lab.run(state="absent")
        assert [path for path in lab.remains() if not is_volumes_own(path)] == []
        assert not lab.run(state="absent")["changed"]
        assert [pathlib.Path(path).read_bytes() for path in (image, second)] == digests, "an image was written to"


def is_volumes_own(path: str) -> bool:
    """The directory of the volumes and its lock stay."""
    return path in ("state/volumes", "state/volumes/.lock")


def check_resources(lab: MockLab, request: dict[str, Any], facts: dict[str, Any]) -> None:
    """What was requested is there, and nothing else is."""
    state = lab.root / "state"
    size = facts["options"].get("root_disk_mb", 0)
    if "root_disk_mb" in request:
        assert size == request["root_disk_mb"]
    disks = list((state / "sandboxes" / "web").glob("root.*"))
    assert [disk.stat().st_size for disk in disks] == ([size * MIB] if size else [])
    listed = {volume["name"]: volume for volume in facts["options"].get("volumes", [])}
    if "volumes" in request:
        assert sorted(listed) == sorted(volume["name"] for volume in request["volumes"])
    there = {path.parent.name: path.stat().st_size // MIB for path in (state / "volumes").glob("*/disk.raw")}
    assert there == {name: volume["size_mb"] for name, volume in listed.items()}
    devices = {device["id"] for device in facts["devices"]}
    has_seed = bool({"hostname", "user_data", "network"} & {name for name, value in facts["options"].items() if value})
    assert (state / "sandboxes" / "web" / "seed.iso").exists() == has_seed
    expected = {f"vol-{name}" for name in listed} | ({"cidata"} if has_seed else set())
    assert devices == expected | ({"network"} if facts["options"].get("network") else set())


KILL_CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "create": ([], {"root_disk_mb": 2, "volumes": [SCRATCH], "user_data": USER_DATA, "network": "user"}),
    "define": ([], {"root_disk_mb": 2, "volumes": [SCRATCH], "state": "present"}),
    "grow while it runs": (
        [{"root_disk_mb": 2, "volumes": [SCRATCH]}],
        {"root_disk_mb": 3, "volumes": [LARGER]},
    ),
    "grow while it is off": (
        [{"root_disk_mb": 2, "volumes": [SCRATCH], "state": "stopped"}],
        {"root_disk_mb": 3, "volumes": [LARGER]},
    ),
    "add and remove": ([{"volumes": [SCRATCH]}], {"volumes": [OTHER]}),
    "a new disk": (
        [{"root_disk_mb": 2, "hostname": "web"}],
        {"root_disk_mb": 0, "hostname": "", "disruption": "recreate"},
    ),
    "a disk for the first time": ([{}], {"root_disk_mb": 2, "disruption": "restart"}),
    "another seed": ([{"user_data": USER_DATA}], {"user_data": "#cloud-config\n{}\n", "disruption": "restart"}),
    "save": ([{"root_disk_mb": 2, "volumes": [SCRATCH]}], {"state": "saved"}),
    "remove": ([{"root_disk_mb": 2, "volumes": [SCRATCH], "user_data": USER_DATA}], {"state": "absent"}),
}


@pytest.mark.parametrize("case", KILL_CASES)
def test_killed_anywhere_it_is_repaired_or_removed(case: str, tmp_path: pathlib.Path) -> None:
    """A task that is killed before any of its changes to the disk is repaired by the next one, and nothing is left over."""
    preparation, request = KILL_CASES[case]
    image, _other = images(tmp_path)
    first = boot(image)
    request = {**first, **request} if request.get("state") != "absent" else request
    lab, master = MockLab(tmp_path / "lab"), tmp_path / "master"
    for step in preparation:
        lab.run(**{**first, **step})
    lab.copy(master)
    lab.run(**request)
    goal = comparable(lab.facts())
    goal.pop("changed_at", None)
    for repaired in (True, False):
        kill, code = 0, KILLED
        while code == KILLED:
            kill += 1
            shutil.rmtree(lab.root, ignore_errors=True)
            if master.exists():
                shutil.copytree(master, lab.root)
            code = lab.run_killed(kill, **request)
            assert code in (0, KILLED), f"the run that was to be killed at change {kill} failed"
            if repaired:
                expected = outcome(lab.check, request)
                assert outcome(lab.run, request) == expected
                assert comparable(lab.facts()) == goal, f"killed before change {kill}"
                assert lab.run(**request)["actions"] == []
                drafts = [path for path in lab.remains() if "new" in pathlib.Path(path).name]
                assert not drafts, f"killed before change {kill}"
            lab.run(state="absent")
            left = [path for path in lab.remains() if not is_volumes_own(path)]
            assert left == [], f"killed before change {kill}"
        assert kill > 3
