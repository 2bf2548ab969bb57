# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates with the mock driver: made once, verified, begun from, killed anywhere, removed."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.template_building import (
    converge_template,
    list_templates,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import (
    ConfigError,
    HostError,
    HypervisorError,
    LockTimeout,
    StateError,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import parse_template_spec
from ansible_collections.kata.hypervisor.plugins.module_utils.options.spec import TemplateSpec
from ansible_collections.kata.hypervisor.plugins.module_utils.records.layout import TemplateLayout
from ansible_collections.kata.hypervisor.plugins.module_utils.records.store import Store
from tests.support.killing import KILLED, run_killed
from tests.support.mock_lab import MockLab

MADE = ["create", "start", "pause", "save", "stop the VMM"]


class TemplateLab(MockLab):
    """A laboratory with a kernel and an initrd to make templates from."""

    def __init__(self, root: pathlib.Path) -> None:
        super().__init__(root / "lab")
        self.kernel, self.initrd = root / "vmlinuz", root / "initrd"
        self.kernel.write_text("a kernel")
        self.initrd.write_text("an initrd")
        self.wish = {
            "kernel_path": str(self.kernel),
            "initrd_path": str(self.initrd),
            "max_vcpus": 4,
            "memory_mb": 128,
            "max_memory_mb": 1024,
            "wait_for": "running",
        }

    def template_spec(self, **options: Any) -> TemplateSpec:
        paths = {"state_dir": str(self.root / "state"), "run_dir": str(self.root / "run")}
        return parse_template_spec({"id": "base", "hypervisor": "mock", "lock_timeout": 1, **paths, **options})

    def make(self, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        return converge_template(self.template_spec(**{**self.wish, **options}), check_mode, self.factory)

    def remove(self, **options: Any) -> dict[str, Any]:
        return converge_template(self.template_spec(state="absent", **options), factory=self.factory)

    def listed(self) -> list[dict[str, Any]]:
        return list_templates(self.template_spec(), self.factory)


@pytest.fixture
def lab(tmp_path: pathlib.Path) -> TemplateLab:
    return TemplateLab(tmp_path)


def test_made_once_and_removed(lab: TemplateLab) -> None:
    foretold = lab.make(True)
    assert not lab.root.exists() and foretold["template"]["state"] == "ready"
    made = lab.make()
    assert made["actions"] == foretold["actions"] == MADE and made["changed"]
    assert (made["diff"]["before"]["state"], made["diff"]["after"]["state"]) == ("absent", "ready")
    assert made["template"]["state"] == "ready" and os.path.exists(made["template"]["memory_path"])
    assert [file["option"] for file in made["template"]["files"]] == ["kernel_path", "initrd_path"]
    before = lab.files()
    assert not lab.make()["changed"] and not lab.make(True)["changed"]
    assert lab.files() == before
    assert [facts["state"] for facts in lab.listed()] == ["ready"]
    assert lab.remove()["actions"] == ["remove"]
    assert lab.listed() == [] and lab.remains() == ["state/templates"]
    assert not lab.remove()["changed"]


def test_a_sandbox_may_have_the_templates_name(lab: TemplateLab) -> None:
    lab.make()
    assert lab.run(id="base", template="base")["sandbox"]["state"] == "started"
    assert lab.run(id="base", state="absent")["sandbox"]["state"] == "absent"
    assert [facts["state"] for facts in lab.listed()] == ["ready"]


def test_clones_have_what_their_template_has(lab: TemplateLab) -> None:
    lab.make()
    clone = lab.run(template="base")
    assert clone["actions"] == ["create", "start from template base"]
    options = clone["sandbox"]["options"]
    assert (options["kernel_path"], options["memory_mb"], options["max_vcpus"]) == (str(lab.kernel), 128, 4)
    assert not lab.run(template="base")["changed"] and not lab.run()["changed"]
    assert lab.run(vcpus=3)["actions"] == ["resize_vcpus 1 -> 3"]
    assert lab.run(state="stopped")["changed"]
    assert lab.run(state="started")["actions"] == ["start from template base"]
    assert lab.listed()[0]["clones"] == ["web"]
    # Without its template it boots by itself, as what it was.
    assert lab.run(template="", disruption="restart")["actions"][-1] == "start"
    assert lab.run()["sandbox"]["options"]["kernel_path"] == str(lab.kernel)
    assert lab.listed()[0]["clones"] == []


def test_a_changed_file_is_noticed_by_its_content(lab: TemplateLab) -> None:
    lab.make()
    os.utime(lab.kernel, (1, 1))
    assert not lab.make()["changed"]
    lab.run(id="before", template="base")
    lab.kernel.write_text("A kernel")
    with pytest.raises(StateError, match=r"kernel_path .* has changed"):
        lab.run(template="base")
    assert lab.facts()["state"] == "absent"
    assert lab.listed()[0]["state"] == "stale"
    assert lab.make(True)["actions"] == lab.make()["actions"]
    assert not lab.make()["changed"] and lab.run(template="base")["changed"]
    lab.initrd.unlink()
    with pytest.raises(StateError, match=r"initrd_path .* is gone"):
        lab.run(id="more", template="base")


def test_what_is_wanted_otherwise_is_made_anew(lab: TemplateLab) -> None:
    lab.make()
    first = lab.listed()[0]
    made = lab.make(memory_mb=256)
    assert "set memory_mb 128 -> 256" in made["actions"] and made["template"]["options"]["memory_mb"] == 256
    assert made["diff"]["before"]["stale"] == ["the task changes memory_mb"]
    elsewhere = lab.root / "elsewhere"
    elsewhere.mkdir()
    moved = lab.make(memory_mb=256, memory_dir=str(elsewhere))
    assert moved["template"]["memory_path"] == str(elsewhere / "base/memory")
    assert not os.path.exists(first["memory_path"])
    # Where nothing is said of it, it stays where it is.
    assert not lab.make(memory_mb=256)["changed"]
    lab.remove()
    assert list(elsewhere.iterdir()) == []


def test_another_files_memory_is_not_overwritten(lab: TemplateLab, tmp_path: pathlib.Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base/memory").write_text("somebody's")
    with pytest.raises(HostError, match="must not exist, or be a directory"):
        lab.make(memory_dir=str(tmp_path))
    with pytest.raises(HostError, match="directory does not exist"):
        lab.make(memory_dir=str(tmp_path / "none"))
    assert (tmp_path / "base/memory").read_text() == "somebody's" and not lab.root.exists()


def test_a_memory_that_was_written_to_is_not_used(lab: TemplateLab) -> None:
    memory = pathlib.Path(lab.make()["template"]["memory_path"])
    memory.write_text("changed")
    with pytest.raises(StateError, match="was written to"):
        lab.run(template="base")
    memory.unlink()
    with pytest.raises(StateError, match="is gone"):
        lab.run(template="base")
    assert "start" in lab.make()["actions"]
    assert lab.run(template="base")["changed"]


def test_it_is_not_taken_away_from_running_clones(lab: TemplateLab) -> None:
    lab.make()
    lab.run(template="base")
    lab.run(id="off", template="base", state="present")
    with pytest.raises(StateError, match="no clone of this template may run, but these do: web"):
        lab.remove()
    lab.run(state="stopped")
    assert lab.remove()["changed"]
    with pytest.raises(StateError, match="no such template"):
        lab.run(state="started")
    lab.make()
    lab.run(state="started")
    assert lab.remove(force=True)["changed"]
    assert lab.run()["sandbox"]["state"] == "started"
    # A clone is removed without its template.
    assert lab.run(state="absent")["sandbox"]["state"] == "absent"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kernel_path": "/other"}, "created with kernel_path"),
        ({"kernel_params": "quiet"}, "created with kernel_params none"),
        ({"max_vcpus": 8, "vcpus": 8}, "created with max_vcpus 4"),
        ({"hypervisor": "qemu"}, "must be the template.s, mock"),
        ({"template": "other"}, "no such template"),
        ({"template": "../base"}, "must be a valid id"),
    ],
)
def test_what_a_clone_cannot_be(lab: TemplateLab, options: dict[str, Any], words: str) -> None:
    lab.make()
    before = lab.files()
    for check_mode in (lab.check, lab.run):
        with pytest.raises(HypervisorError, match=words):
            check_mode(**{"template": "base", **options})
    assert [line for line in lab.files() if "sandboxes" not in line] == before


def test_the_same_file_under_another_name_is_the_same(lab: TemplateLab, tmp_path: pathlib.Path) -> None:
    lab.make()
    copy = tmp_path / "copy"
    copy.write_text("a kernel")
    assert lab.run(template="base", kernel_path=str(copy))["changed"]


@pytest.mark.parametrize(
    ("options", "error"),
    [({"wait_for": None}, ConfigError), ({"kernel_path": ""}, ConfigError), ({"memory_dir": "relative"}, ConfigError)],
)
def test_a_wish_that_cannot_be_changes_nothing(
    lab: TemplateLab, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        lab.make(**options)
    assert not lab.root.exists() or lab.remains() == []
    lab.make()
    before = lab.files()
    lab.kernel.write_text("A kernel")
    with pytest.raises(error):
        lab.make(**options)
    assert lab.files() == before, "the old one is still there"


@pytest.mark.parametrize("fault", ["fails_on_start", "dies_after_start", "pause_fails", "save_fails"])
def test_what_cannot_be_made_leaves_nothing(lab: TemplateLab, fault: str) -> None:
    lab.faults = (fault,)
    with pytest.raises(HypervisorError):
        lab.make()
    assert lab.remains() == []
    lab.faults = ()
    assert lab.make()["actions"] == MADE


def test_who_makes_it_anew_waits_for_those_who_begin_from_it(lab: TemplateLab) -> None:
    lab.make()
    store = Store(TemplateLayout("base", str(lab.root / "state"), str(lab.root / "run")))
    with store.lock(1, shared=True):
        # Others can begin from it meanwhile, and nobody can take it away.
        assert lab.run(template="base", state="started")["changed"]
        with pytest.raises(LockTimeout):
            lab.make(memory_mb=256)
    with store.lock(1), pytest.raises(LockTimeout):
        lab.run(id="later", template="base")
    assert lab.facts("later")["state"] == "absent"


@pytest.mark.parametrize("first", [False, True])
def test_killed_anywhere_it_is_made_good(tmp_path: pathlib.Path, first: bool) -> None:
    """A task that makes a template, or makes it anew, is killed before each of its changes to the disk."""
    for number in range(1, 200):
        (tmp_path / str(number)).mkdir()
        lab = TemplateLab(tmp_path / str(number))
        if not first:
            lab.make()
        spec = lab.template_spec(**{**lab.wish, "memory_mb": 256})
        code = run_killed(lab.root, number, lambda spec=spec, lab=lab: converge_template(spec, factory=lab.factory))  # type: ignore[misc]
        assert code in (0, KILLED)
        try:
            lab.run(template="base")
        except StateError:
            assert lab.facts()["state"] == "absent"
        made = lab.make(memory_mb=256)
        assert made["template"]["state"] == "ready" and not lab.make(memory_mb=256)["changed"]
        lab.run(id="clone", template="base")
        for sandbox in ("clone", "web"):
            lab.run(id=sandbox, state="absent")
        lab.remove()
        assert [path for path in lab.remains() if path != "state/templates"] == []
        if code == 0:
            assert number > 5
            return
    raise AssertionError("the task never came to its end")


@pytest.mark.parametrize("state", ["started", "absent"])
def test_a_clone_killed_anywhere_is_made_good_and_its_template_stays(tmp_path: pathlib.Path, state: str) -> None:
    devices = [{"id": "d0", "type": "block", "file": "/d0"}]
    for number in range(1, 100):
        (tmp_path / str(number)).mkdir()
        lab = TemplateLab(tmp_path / str(number))
        lab.make()
        wish = {"template": "base", "vcpus": 2, "devices": devices} if state == "started" else {"state": "absent"}
        if state == "absent":
            lab.run(template="base")
        code = lab.run_killed(number, **wish)
        facts = lab.run(**wish)["sandbox"]
        assert facts["state"] == state
        if state == "started":
            assert facts["vcpus"] == 2 and facts["devices"][0]["plugged"]
        assert not lab.run(**wish)["changed"]
        assert [facts["state"] for facts in lab.listed()] == ["ready"] and not lab.make()["changed"]
        if code == 0:
            return
    raise AssertionError("the task never came to its end")


def test_other_devices_make_it_anew(lab: TemplateLab) -> None:
    nets = [{"id": name, "type": "net", "kind": "tap"} for name in ("eth0", "eth1")]
    assert lab.make(devices=nets)["actions"] == MADE
    assert not lab.make(devices=nets[::-1])["changed"] and not lab.make()["changed"]
    assert "the task changes devices" in str(lab.make(devices=nets[:1])["diff"]["before"]["stale"])


def test_a_clone_has_its_templates_hypervisor_where_the_task_names_none(lab: TemplateLab) -> None:
    lab.make()
    for run in (lab.check, lab.run):
        assert run(template="base", hypervisor=None)["sandbox"]["hypervisor"] == "mock"
    with pytest.raises(StateError, match="hypervisor"):
        lab.check(id="other", template="base", hypervisor="qemu")
    with pytest.raises(StateError, match="no such template"):
        lab.check(id="other", template="gone", hypervisor=None)


@pytest.mark.parametrize("memory", [5, True, "", "relative/memory", "/etc/passwd"])
def test_a_record_that_names_something_else_as_memory_is_refused(lab: TemplateLab, memory: Any) -> None:
    lab.make()
    _edit(lab, memory)
    for run in (lambda: lab.make(True), lab.make, lambda: lab.run(template="base")):
        with pytest.raises(HypervisorError, match="record"):
            run()
    assert lab.remove()["changed"] and lab.listed() == []


def test_a_foreign_directory_that_a_record_names_is_not_removed(lab: TemplateLab, tmp_path: pathlib.Path) -> None:
    lab.make()
    (tmp_path / "theirs/below").mkdir(parents=True)
    (tmp_path / "theirs/letters").write_text("dear")
    _edit(lab, str(tmp_path / "theirs/memory"))
    lab.remove()
    assert (tmp_path / "theirs/letters").read_text() == "dear" and (tmp_path / "theirs/below").is_dir()


def test_memory_below_a_directory_that_others_can_write_to_is_refused(lab: TemplateLab, tmp_path: pathlib.Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for check in (True, False):
        with pytest.raises(HostError, match="others can write to it") as caught:
            lab.make(check, memory_dir=str(tmp_path / "open"))
        assert caught.value.option == "memory_dir"


def _edit(lab: TemplateLab, memory: Any) -> None:
    path = lab.root / "state/templates/base/record.json"
    record = json.loads(path.read_text())
    record["template"]["memory"] = memory
    path.write_text(json.dumps(record))
