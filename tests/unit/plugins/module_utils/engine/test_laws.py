# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The laws of the house, on sandboxes of the mock driver: idempotent, check mode tells the truth, nothing said nothing changed,
observed beats remembered, and killed anywhere it is repaired."""

from __future__ import annotations

import pathlib
import shutil
import tempfile
from typing import Any, Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import HypervisorError
from tests.support.killing import KILLED
from tests.support.mock_lab import BOOT, MockLab

NETS = [{"id": name, "type": "net", "kind": "user"} for name in ("eth0", "eth1")]
DISKS = [
    {"id": "data0", "type": "block", "file": "/d0"},
    {"id": "data1", "type": "block", "file": "/d1", "read_only": True},
]
OTHER_DISK = [{"id": "data0", "type": "block", "file": "/elsewhere"}]
FS = [{"id": "share", "type": "fs", "tag": "t", "path": "/p"}]

STATES = ("present", "started", "paused", "stopped", "saved", "restarted")

wishes = st.fixed_dictionaries(
    {},
    optional={
        "state": st.sampled_from(STATES),
        "vcpus": st.integers(1, 4),
        "memory_mb": st.sampled_from([128, 256, 512]),
        "kernel_path": st.sampled_from(["/k", "/other"]),
        "kernel_params": st.sampled_from(["", "quiet", ["console=ttyS0,115200", "quiet"]]),
        "devices": st.sampled_from([[], NETS, NETS[:1], DISKS, DISKS[1:] + NETS, OTHER_DISK, FS]),
        "disruption": st.sampled_from(["none", "restart", "recreate"]),
    },
)

accidents = st.sampled_from(["none", "none", "none", "crash", "reboot", "pause", "panic", "grow"])


def cause(lab: MockLab, accident: str) -> None:
    """Something happens to the VM behind the engine's back."""
    if accident == "reboot":
        lab.reboot()
    driver = lab.driver()
    if driver.observe().power not in ("running", "paused"):
        return
    if accident == "crash":
        driver.crash()
    elif accident == "pause":
        driver.pause_sandbox()
    elif accident == "panic":
        vm = driver._running_vm("panic")
        vm.power = "failed"
        driver._store(vm)
    elif accident == "grow":
        vm = driver._running_vm("grow")
        vm.vcpus += 1
        driver._store(vm)


def outcome(run: Callable[..., dict[str, Any]], wish: dict[str, Any]) -> tuple[Any, ...]:
    """What a task tells: its result, or its error."""
    try:
        result = run(**wish)
    except HypervisorError as problem:
        return type(problem).__name__, str(problem)
    return result["changed"], result["actions"], result["diff"]


@settings(max_examples=120)
@example(first={}, steps=[("grow", {"state": "saved"}), ("none", {"state": "started", "vcpus": 1})])
@given(first=wishes, steps=st.lists(st.tuples(accidents, wishes), min_size=1, max_size=4))
def test_laws(first: dict[str, Any], steps: list[tuple[str, dict[str, Any]]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        lab = MockLab(pathlib.Path(directory))
        for accident, wish in [("none", {**BOOT, **first}), *steps]:
            cause(lab, accident)
            before = lab.facts()
            files = lab.files()
            foretold = outcome(lab.check, wish)
            assert lab.files() == files, "check mode touched something"
            real = outcome(lab.run, wish)
            assert real == foretold, "check mode said something else"
            facts = lab.facts()
            if isinstance(real[0], str):
                assert lab.files() == files, "a refused task touched something"
                continue
            again = lab.run(**{**wish, "state": "started" if wish.get("state") == "restarted" else wish.get("state")})
            assert again["actions"] == [] and not again["changed"], "not idempotent"
            assert real[0] == (real[2]["before"] != real[2]["after"]), (
                "changed, and the diff does not say what; or the other way"
            )
            check_goal(wish, before, facts)
        lab.run(state="absent")
        assert lab.remains() == []
        assert not lab.run(state="absent")["changed"]


def check_goal(wish: dict[str, Any], before: dict[str, Any], facts: dict[str, Any]) -> None:
    """What was said is true now, what was not said is what it was."""
    state = wish.get("state")
    if state in ("started", "paused", "stopped", "saved"):
        assert facts["state"] == state
    elif state == "restarted":
        assert facts["state"] == "started"
    else:
        assert facts["state"] == before.get("desired", "started" if state is None else "stopped")
    alive = facts["state"] in ("started", "paused")
    for name in ("vcpus", "memory_mb", "kernel_path"):
        if name in wish:
            assert facts["options"][name] == wish[name]
        elif "options" in before and wish.get("disruption") != "recreate":
            assert facts["options"][name] == before["options"][name]
    for name in ("vcpus", "memory_mb"):
        if name in wish and alive:
            assert facts[name] == wish[name]
    devices = {device["id"]: device for device in facts["devices"]}
    if "devices" in wish:
        assert set(devices) == {device["id"] for device in wish["devices"]}
    elif "devices" in before:
        assert set(devices) == {device["id"] for device in before["devices"]}
    assert all(device["plugged"] == alive for device in devices.values())
    assert facts.get("leftovers", []) == []


KILL_CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "create and start": ([], {**BOOT, "devices": NETS + DISKS}),
    "define": ([], {**BOOT, "state": "present"}),
    "create and save": ([], {**BOOT, "state": "saved"}),
    "pause": ([BOOT], {"state": "paused"}),
    "resume": ([{**BOOT, "state": "paused"}], {"state": "started"}),
    "resize": ([BOOT], {"vcpus": 4, "memory_mb": 512}),
    "plug and unplug": ([{**BOOT, "devices": NETS[:1] + DISKS[:1]}], {"devices": NETS[1:] + OTHER_DISK}),
    "save": ([BOOT], {"state": "saved"}),
    "restore": ([BOOT, {"state": "saved"}], {"state": "started", "vcpus": 3}),
    "restore, paused": ([BOOT, {"state": "saved"}], {"state": "paused"}),
    "stop": ([BOOT], {"state": "stopped"}),
    "discard": ([BOOT, {"state": "saved"}], {"state": "stopped", "disruption": "restart"}),
    "restart for an option": ([BOOT], {"kernel_path": "/other", "vcpus": 2, "disruption": "restart"}),
    "remove": ([BOOT], {"state": "absent"}),
    "remove what is saved": ([BOOT, {"state": "saved"}], {"state": "absent"}),
}


@pytest.mark.parametrize("case", KILL_CASES)
def test_killed_anywhere_it_is_repaired(case: str, tmp_path: pathlib.Path) -> None:
    """A task that is killed before any of its changes to the disk is made good by the next one, and nothing is left over."""
    preparation, wish = KILL_CASES[case]
    lab, master = MockLab(tmp_path / "lab"), tmp_path / "master"
    for step in preparation:
        lab.run(**step)
    lab.copy(master)
    lab.run(**wish)
    goal = comparable(lab.facts())
    kill = 0
    while True:
        kill += 1
        shutil.rmtree(lab.root, ignore_errors=True)
        if master.exists():
            shutil.copytree(master, lab.root)
        code = lab.run_killed(kill, **wish)
        assert code in (0, KILLED), f"the run that was to be killed at change {kill} failed"
        foretold = outcome(lab.check, wish)
        assert outcome(lab.run, wish) == foretold
        assert comparable(lab.facts()) == goal, f"killed before change {kill}"
        assert lab.run(**wish)["actions"] == []
        if wish.get("state") == "absent":
            assert lab.remains() == []
        elif code == KILLED:
            assert not any(path.endswith(".new") for path in lab.remains())
            assert ("state/sandboxes/web/saved" in lab.remains()) == (goal["state"] == "saved")
            lab.run(state="absent")
            assert lab.remains() == []
        if code == 0:
            break
    assert kill > 3


@pytest.mark.parametrize("case", KILL_CASES)
def test_killed_anywhere_it_can_be_removed(case: str, tmp_path: pathlib.Path) -> None:
    """Whatever a killed task left, state=absent removes."""
    preparation, wish = KILL_CASES[case]
    lab, master = MockLab(tmp_path / "lab"), tmp_path / "master"
    for step in preparation:
        lab.run(**step)
    lab.copy(master)
    kill, code = 0, KILLED
    while code == KILLED:
        kill += 1
        shutil.rmtree(lab.root, ignore_errors=True)
        if master.exists():
            shutil.copytree(master, lab.root)
        code = lab.run_killed(kill, **wish)
        lab.run(state="absent")
        assert lab.remains() == [], f"killed before change {kill}"


def comparable(facts: dict[str, Any]) -> dict[str, Any]:
    """What two sandboxes made at different times have in common."""
    return {
        name: value for name, value in facts.items() if name not in ("created_at", "changed_at", "pid", "thread_ids")
    }
