# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox modules, each run whole in this process."""

from __future__ import annotations

import json
import pathlib
from types import ModuleType
from typing import Any, Callable

import pytest

from ansible_collections.kata.hypervisor.plugins.modules import (
    kata_device,
    kata_host_info,
    kata_sandbox,
    kata_sandbox_info,
    kata_sandboxes,
)
from tests.support.module_arguments import module_arguments

Run = Callable[..., "dict[str, Any]"]

BOOT = {"hypervisor": "mock", "kernel_path": "/k", "initrd_path": "/i"}


@pytest.fixture
def run(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(module: ModuleType, **arguments: Any) -> dict[str, Any]:
        directories = {"state_dir": str(tmp_path / "state"), "run_dir": str(tmp_path / "run")}
        with module_arguments({**directories, **arguments}), pytest.raises(SystemExit) as end:
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert bool(end.value.code) == bool(result.get("failed"))
        return result

    return run


def test_a_sandbox_from_its_beginning_to_its_end(run: Run, tmp_path: pathlib.Path) -> None:
    assert run(kata_sandbox, id="web", _ansible_check_mode=True, **BOOT)["actions"] == ["create", "start"]
    assert list(tmp_path.iterdir()) == []
    result = run(kata_sandbox, id="web", kernel_params="console=ttyS0,115200 quiet", **BOOT)
    assert result["changed"] and result["sandbox"]["state"] == "started"
    assert result["sandbox"]["options"]["kernel_params"] == ["console=ttyS0,115200", "quiet"]
    assert not run(kata_sandbox, id="web")["changed"]
    assert run(kata_sandbox, name="web", num_vcpus=3, memory_size="512")["actions"] == [
        "resize_vcpus 1 -> 3",
        "resize_memory 2048 -> 512",
    ]
    result = run(kata_sandbox, id="web", state="paused", _ansible_diff=True)
    assert result["diff"] == {"before": {"state": "started"}, "after": {"state": "paused"}}
    assert run(kata_sandbox, id="web", state="absent")["sandbox"]["state"] == "absent"
    assert not run(kata_sandbox, id="web", state="absent")["changed"]


def test_an_error_has_its_parts(run: Run) -> None:
    run(kata_sandbox, id="web", **BOOT)
    result = run(kata_sandbox, id="web", kernel_path="/other")
    assert result["failed"] and result["kind"] == "DisruptionError"
    assert (result["sandbox"], result["option"], result["wanted"]) == ("web", "disruption", "none")
    assert "kernel_path /k -> /other needs a restart" in result["msg"] and result["fix"] in result["msg"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"id": "a/b"},
        {"id": "web", "state": "flying"},
        {"id": "web", "vcpus": "many"},
        {"id": "web", "hypervisor": "xen"},
        {},
    ],
)
def test_bad_arguments_fail(run: Run, tmp_path: pathlib.Path, arguments: dict[str, Any]) -> None:
    assert run(kata_sandbox, **arguments)["msg"]
    assert list(tmp_path.iterdir()) == []


def test_many_in_one_task(run: Run) -> None:
    items = [{"id": f"s{number}", **BOOT} for number in range(3)]
    result = run(kata_sandboxes, sandboxes=items)
    assert [item["actions"] for item in result["sandboxes"]] == [["create", "start"]] * 3
    assert not run(kata_sandboxes, sandboxes=items)["changed"]
    result = run(kata_sandboxes, sandboxes=[{"id": "s0", "state": "paused"}, {"id": "new"}])
    assert result["failed_ids"] == ["new"] and result["changed"]
    assert result["sandboxes"][0]["sandbox"]["state"] == "paused"
    assert "sandbox new" in result["msg"]


def test_an_item_that_cannot_be_right_stops_the_task_before_it_begins(run: Run, tmp_path: pathlib.Path) -> None:
    result = run(kata_sandboxes, sandboxes=[{"id": "s0", **BOOT}, {"id": "s1", "vcpus": 0, **BOOT}])
    assert result["option"] == "vcpus"
    assert list(tmp_path.iterdir()) == []


def test_one_device_and_the_others_stay(run: Run) -> None:
    first = {"id": "d0", "type": "block", "file": "/d0"}
    second = {"sandbox": "web", "id": "d1", "type": "block", "file": "/d1"}
    run(kata_sandbox, id="web", devices=[first], **BOOT)
    assert run(kata_device, _ansible_check_mode=True, **second)["actions"] == ["plug block d1"]
    plugged = run(kata_device, _ansible_diff=True, **second)
    assert plugged["actions"] == ["plug block d1"] and plugged["device"]["plugged"]
    assert [device["id"] for device in plugged["diff"]["after"]["devices"]] == ["d0", "d1"]
    assert [device["id"] for device in plugged["sandbox"]["devices"]] == ["d0", "d1"]
    assert not run(kata_device, **second)["changed"]
    replaced = run(kata_device, **{**second, "read_only": True})
    assert replaced["actions"] == ["unplug block d1", "plug block d1"]
    gone = run(kata_device, sandbox="web", id="d1", state="absent")
    assert gone["actions"] == ["unplug block d1"] and gone["device"] is None
    assert [device["id"] for device in gone["sandbox"]["devices"]] == ["d0"]
    assert not run(kata_device, sandbox="web", id="d1", state="absent")["changed"]


def test_a_device_of_a_stopped_sandbox_waits_for_its_start(run: Run) -> None:
    run(kata_sandbox, id="web", state="stopped", **BOOT)
    result = run(kata_device, sandbox="web", id="d0", type="block", file="/d0")
    assert result["changed"] and result["sandbox"]["state"] == "stopped" and not result["device"]["plugged"]
    assert run(kata_sandbox, id="web", state="started")["sandbox"]["devices"][0]["plugged"]


def test_a_device_of_no_sandbox(run: Run, tmp_path: pathlib.Path) -> None:
    missing = run(kata_device, sandbox="web", id="d0", type="block", file="/d0")
    assert missing["kind"] == "StateError" and missing["sandbox"] == "web"
    assert not run(kata_device, sandbox="web", id="d0", state="absent")["changed"]
    assert not list(tmp_path.rglob("web"))
    assert run(kata_device, sandbox="web", id="d,0", state="absent")["option"] == "id"
    assert "type" in run(kata_device, sandbox="web", id="d0")["msg"]


def test_info(run: Run) -> None:
    run(kata_sandboxes, sandboxes=[{"id": "a", **BOOT}, {"id": "b", "state": "paused", **BOOT}])
    result = run(kata_sandbox_info)
    assert [(found["id"], found["state"]) for found in result["sandboxes"]] == [("a", "started"), ("b", "paused")]
    assert [found["id"] for found in run(kata_sandbox_info, ids="b*")["sandboxes"]] == ["b"]
    assert [found["id"] for found in run(kata_sandbox_info, state="started")["sandboxes"]] == ["a"]
    assert run(kata_sandbox_info, hypervisors=["qemu"])["sandboxes"] == []


def test_host_info(run: Run, tmp_path: pathlib.Path) -> None:
    fake = tmp_path / "qemu"
    fake.write_text("#!/bin/sh\necho I am a teapot\n")
    fake.chmod(0o755)
    paths = {name: ["/nowhere"] for name in ("firecracker_paths", "acrn_dm_paths")}
    host = run(kata_host_info, probe=False, qemu_paths=[str(fake), "/nowhere"], **paths)["host"]
    assert [vmm["hypervisor"] for vmm in host["hypervisors"]] == ["qemu", "qemu", "firecracker", "acrn"]
    assert [(vmm["usable"], vmm["version"]) for vmm in host["hypervisors"]] == [(False, "")] * 4
    assert "I am a teapot" in host["hypervisors"][0]["reason"] and "no program" in host["hypervisors"][1]["reason"]
    assert host["memory"]["total_mb"] > host["memory"]["available_mb"] > 0
    assert set(host["devices"]) == {"kvm", "vhost_net", "vhost_vsock", "tun", "vfio", "acrn_hsm", "acrn_vhm"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["qemu"]


@pytest.mark.parametrize("parallel", [0, -1, 257])
def test_parallel_has_a_range(run: Run, tmp_path: pathlib.Path, parallel: int) -> None:
    for check in (True, False):
        result = run(kata_sandboxes, sandboxes=[{"id": "web", **BOOT}], parallel=parallel, _ansible_check_mode=check)
        assert result["option"] == "parallel" and "from 1 to 256" in result["msg"]
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_listed_is_an_error_that_says_what_to_do(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    def denied(path: str) -> Any:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("os.scandir", denied)
    result = run(kata_sandbox_info)
    assert result["option"] == "state_dir" and "become" in result["fix"] and "Permission denied" in result["answer"]


def test_a_device_task_names_its_own_options(run: Run) -> None:
    from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError
    from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import errors_of_one_device

    params = {"id": "d0", "type": "block", "file": "/gone", "sandbox": "web"}
    for wanted, option in (("/gone", "file"), ("d0", "id"), ({"id": "d0"}, "id")):
        with pytest.raises(AssetError) as caught, errors_of_one_device(params):
            raise AssetError("the disk does not exist", option="devices", wanted=wanted)
        assert caught.value.option == option
