# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What kata_volume reports: check mode predicts what the task does, and a task that is killed anywhere converges."""

from __future__ import annotations

import os
import pathlib
import subprocess
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, HypervisorError, StateError
from ansible_collections.kata.hypervisor.plugins.module_utils.records.layout import SandboxLayout
from ansible_collections.kata.hypervisor.plugins.module_utils.resources import volumes
from ansible_collections.kata.hypervisor.plugins.module_utils.resources.volume_task import converge_volume, list_facts
from tests.support.killing import KILLED, run_killed

#: More changes to the file system than any of these tasks makes.
MOST_CHANGES = 60


class Tasks:
    """Tasks of one host."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = str(root)

    def run(self, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        """Run a task of kata_volume."""
        nothing = {"state": "present", "size_mb": None, "filesystem": None, "label": None, "force": False}
        return converge_volume({"name": "data", "state_dir": self.root, **nothing, **options}, check_mode)

    def tree(self) -> list[tuple[str, int, int]]:
        """Everything in the directory, with size and time of change."""
        return sorted(
            (str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in pathlib.Path(self.root).rglob("*")
        )


@pytest.fixture
def tasks(tmp_path: pathlib.Path) -> Tasks:
    return Tasks(tmp_path)


STEPS = [
    ({"size_mb": 16}, ["create volume data"]),
    ({"size_mb": 16}, []),
    ({}, []),
    ({"size_mb": 16, "filesystem": "ext4", "label": "data"}, []),
    ({"size_mb": 24}, ["grow volume data from 16 to 24 MiB"]),
    ({"state": "absent"}, ["remove volume data"]),
    ({"state": "absent"}, []),
]


def test_check_mode_predicts_every_step_and_changes_nothing(tasks: Tasks) -> None:
    for options, actions in STEPS:
        before = tasks.tree()
        predicted = tasks.run(check_mode=True, **options)
        assert tasks.tree() == before
        done = tasks.run(**options)
        assert (done["actions"], done["changed"]) == (actions, bool(actions))
        for part in ("actions", "changed", "diff", "warnings"):
            assert predicted[part] == done[part]
        for fact in ("name", "path", "size_mb", "filesystem", "label", "sandboxes"):
            assert predicted.get("volume", {}).get(fact) == done.get("volume", {}).get(fact)
    assert os.listdir(os.path.join(tasks.root, "volumes")) == [".lock"]


def test_the_diff_shows_what_changes(tasks: Tasks) -> None:
    created = tasks.run(size_mb=16, filesystem="none")["diff"]
    assert created == {"before": {}, "after": {"name": "data", "size_mb": 16, "filesystem": "none", "label": ""}}
    grown = tasks.run(size_mb=20)["diff"]
    assert (grown["before"]["size_mb"], grown["after"]["size_mb"]) == (16, 20)


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({}, "size_mb"),
        ({"size_mb": 0}, "size_mb"),
        ({"size_mb": -5}, "size_mb"),
        ({"size_mb": 16, "name": "a/b"}, "name"),
        ({"size_mb": 16, "label": "x" * 17}, "label"),
        ({"size_mb": 16, "state_dir": "relative"}, "state_dir"),
    ],
)
@pytest.mark.parametrize("check_mode", [True, False])
def test_bad_input_fails_before_anything_has_changed(
    tasks: Tasks, options: dict[str, Any], option: str, check_mode: bool
) -> None:
    with pytest.raises(ConfigError) as caught:
        tasks.run(check_mode, **options)
    assert caught.value.option == option
    assert tasks.tree() == []


@pytest.mark.parametrize("check_mode", [True, False])
def test_the_volume_of_a_sandbox_stays_unless_forced(tasks: Tasks, check_mode: bool) -> None:
    tasks.run(size_mb=4, filesystem="none")
    layout = SandboxLayout("web", tasks.root, f"{tasks.root}/run")
    os.makedirs(layout.state_dir)
    volumes.claim_volume(layout, "data", read_only=True)
    assert tasks.run()["volume"]["sandboxes"] == [{"id": "web", "read_only": True}]
    assert list_facts(tasks.root, None) == list_facts(tasks.root, "data") == [tasks.run()["volume"]]
    assert list_facts(tasks.root, "other") == []
    with pytest.raises(StateError, match="sandbox web has volume data"):
        tasks.run(check_mode, state="absent")
    assert tasks.run(check_mode, state="absent", force=True)["changed"]


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_volume_of_a_saved_sandbox_does_not_grow(tasks: Tasks, check_mode: bool) -> None:
    tasks.run(size_mb=4, filesystem="none")
    layout = SandboxLayout("web", tasks.root, f"{tasks.root}/run")
    os.makedirs(os.path.join(layout.state_dir, "saved"))
    volumes.claim_volume(layout, "data")
    with pytest.raises(StateError, match="sandbox web was saved with volume data"):
        tasks.run(check_mode, size_mb=8)


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_volume_that_a_vm_has_open_does_not_grow_here(tasks: Tasks, check_mode: bool) -> None:
    path = tasks.run(size_mb=4, filesystem="none")["volume"]["path"]
    with open(path, "r+b") as stream, subprocess.Popen(["sleep", "60"], stdin=stream) as holder:
        try:
            with pytest.raises(StateError, match="which grows the volume while it runs"):
                tasks.run(check_mode, size_mb=8)
        finally:
            holder.kill()
    assert os.stat(path).st_size == 4 << 20


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ([], {"size_mb": 16}),
        ([{"size_mb": 16}], {"size_mb": 32}),
        ([{"size_mb": 16}], {"state": "absent"}),
    ],
)
def test_killed_at_every_step_the_next_task_converges_and_leaves_nothing(
    tmp_path: pathlib.Path, first: list[dict[str, Any]], then: dict[str, Any]
) -> None:
    for change in range(1, MOST_CHANGES):
        tasks = Tasks(tmp_path / str(change))
        os.mkdir(tasks.root)
        for options in first:
            tasks.run(**options)
        code = run_killed(pathlib.Path(tasks.root), change, lambda tasks=tasks: tasks.run(**then))  # type: ignore[misc]
        assert code in (0, KILLED)
        found = volumes.find_volume(tasks.root, "data")
        if found is not None:
            # Whole, or not there.
            subprocess.run(["e2fsck", "-fn", found.path], check=True, capture_output=True)
        tasks.run(**then)
        assert tasks.run(**then)["changed"] is False
        assert [name for name in os.listdir(os.path.join(tasks.root, "volumes")) if name not in (".lock", "data")] == []
        if then.get("state") != "absent":
            assert sorted(os.listdir(os.path.join(tasks.root, "volumes/data"))) == ["disk.raw", "volume.json"]
        if code == 0:
            return
    raise AssertionError("the task makes more changes than expected")


def test_what_is_damaged_is_an_error_and_is_not_touched(tasks: Tasks) -> None:
    volume = tasks.run(size_mb=4, filesystem="none")["volume"]
    note = os.path.join(os.path.dirname(volume["path"]), "volume.json")
    for text in ("", "[]", '{"name": "data"}', "x" * 100):
        pathlib.Path(note).write_text(text)
        before = tasks.tree()
        for options in ({"size_mb": 8}, {"size_mb": 4, "filesystem": "ext4"}, {"state": "absent"}):
            with pytest.raises(HypervisorError, match="volume data cannot be read"):
                tasks.run(**options)
        assert tasks.tree() == before
