# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kinds of recorded lines of which few or none are among the visible ones: what Kata 1.x did, done through the adapters."""

from __future__ import annotations

import copy
import json
import sys
from typing import Any

import pytest

from tests.support import checkout

if sys.version_info < (3, 11):
    pytest.skip("the runner reads TOML", allow_module_level=True)

import run as runner
from adapters import (
    acrn_cmdline,
    acrn_lifecycle,
    factory,
    firecracker_requests,
    firecracker_thread_ids,
    mock,
    qemu_cmdline,
    qmp_sequences,
    toml_config,
)
from adapters.answer import Failed

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import (
    ConfigError,
    HypervisorError,
    StateError,
    Unsupported,
    VmmError,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.devices.kinds import device_for
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.qemu.machines import machine_named
from ansible_collections.kata.hypervisor.plugins.module_utils.options.config import HypervisorConfig
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.fs import Volume
from ansible_collections.kata.hypervisor.plugins.module_utils.options.device_kinds.vhost_user import VhostUserDevice

DATA = checkout.ROOT / "tests/vectors/data"


def _input(name: str, ending: str) -> dict[str, Any]:
    """The input of a recorded line, to be changed."""
    lines = map(json.loads, (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines())
    return copy.deepcopy(next(line["input"] for line in lines if line["id"].endswith(ending)))


# --- QEMU --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "device",
    [
        {"kind": "vhost_user", "fields": {"DevID": "d", "SocketPath": "/s", "Type": "vhost-user-blk-pci"}},
        {"kind": "vhost_user", "fields": {}},
        {"kind": "volume", "fields": {"mount_tag": "kataShared", "host_path": "/share"}},
    ],
)
def test_s390x_has_no_vhost_user_devices(device: dict[str, Any]) -> None:
    line = _input("qemu_cmdline_s390x", "0024-dev")
    line["config"] |= {"SharedFS": "virtio-fs", "VirtioFSDaemon": "/golden/bin/virtiofsd"}
    with pytest.raises(Unsupported, match="no other process can serve"):
        qemu_cmdline.run({**line, "devices": [device]})
    reference = {**device, "kind": "vhost_user_pointer_as_passed_by_sandbox_AppendDevice"}
    assert qemu_cmdline.run({**line, "devices": [reference]}).error is None


@pytest.mark.parametrize("device", [VhostUserDevice("d", "/s", "vhost-user-fs-pci"), Volume("tag", "/", "share")])
def test_todays_s390x_has_no_served_devices_either(device: Any) -> None:
    """Without this check QEMU was started first, and failed."""
    with pytest.raises(Unsupported, match="no other process can serve"):
        device_for(device, HypervisorConfig(shared_fs="virtio-fs")).check_machine(machine_named("s390-ccw-virtio"))
    device_for(device, HypervisorConfig(shared_fs="virtio-fs")).check_machine(machine_named("q35"))


@pytest.mark.parametrize(
    ("reply", "threads"),
    [
        ('{"return": "x"}', None),
        ('{"return": {}}', None),
        ('{"return": [7]}', None),
        ('{"return": [{"CPU": "0", "thread_id": 10}]}', None),
        ('{"return": [{"CPU": 0, "thread_id": "10"}]}', None),
        ('{"return": [{"CPU": 0, "thread_id": 1.5}]}', None),
        ('{"return": [{"CPU": 1, "thread_id": 11}, {"thread_id": 10}, {"CPU": 2}]}', {"0": 10, "1": 11}),
        ('{"return": null}', None),
    ],
)
def test_vcpu_threads_of_a_wrong_type_are_an_error(reply: str, threads: dict[str, int] | None) -> None:
    line = _qmp([{"op": "getThreadIDs", "args": {}}], {"query-cpus": [reply]})
    (step,) = qmp_sequences.run(line).output["steps"].steps
    if threads is None:
        assert isinstance(step["error"], Failed) and isinstance(step["error"].error, VmmError)
    else:
        assert (step["error"], step["result"]) == (None, threads)


def _qmp(ops: list[Any], replies: dict[str, list[str]]) -> dict[str, Any]:
    line = json.loads((DATA / "qmp_sequences.jsonl").read_text(encoding="utf-8").splitlines()[0])["input"]
    line["server"] = {
        "running": True,
        "scripted_replies": replies,
        "auto_device_deleted_event": True,
        "line_before_greeting": None,
    }
    return {**line, "ops": ops}


def test_the_console_of_a_sandbox_and_its_limit() -> None:
    steps = [{"op": "getSandboxConsole", "args": {"id": "x" * length}} for length in (83, 84)]
    short, long = qmp_sequences.run(_qmp([*steps], {})).output["steps"].steps
    assert short["result"].differences_from("result", f"/run/vc/vm/{'x' * 83}/console.sock") == []
    assert short["error"] is None and isinstance(long["error"].error, ConfigError)
    found = acrn_lifecycle.run({"op": "getSandboxConsole"}).output
    assert found.differences_from("output", "{VMDIR}/console.sock") == [] and found.differences_from(
        "output", "/other/console.sock"
    )


@pytest.mark.parametrize("tag", ["a,b", ",", "a,id=b", "a,mount_tag=c"])
def test_a_comma_in_the_tag_of_a_share_stays_a_part_of_it(tag: str) -> None:
    line = _input("qemu_cmdline", "0198-dev")
    line["devices"] = [{"kind": "volume", "fields": {"mount_tag": tag, "host_path": "/p"}}]
    vm = qemu_cmdline.run(line).output
    assert vm.facts["shares_9p"] == [(tag, "/p")]
    # What Kata 1.x writes: the comma ends the tag there.
    broken = [
        "-machine",
        "pc,accel=kvm",
        "-device",
        f"virtio-9p-pci,fsdev=x,mount_tag={tag}",
        "-fsdev",
        "local,id=x,path=/p",
    ]
    found = vm.differences_from("output", {"argv": broken})
    assert [one for one in found if one.startswith("output.commas.shares_9p: expected")]
    assert not [one for one in found if one.startswith("output.commas") and "shares_9p" not in one]
    whole = [
        "-machine",
        "pc,accel=kvm",
        "-device",
        "virtio-9p-pci,fsdev=x,mount_tag=tag",
        "-fsdev",
        "local,id=x,path=/p",
    ]
    assert "output.commas.shares_9p" in str(vm.differences_from("output", {"argv": whole}))


def test_an_image_in_the_place_of_the_configured_one_is_booted() -> None:
    """Trap T13: the parameter root= and the image go together."""
    line = _input("qemu_cmdline", "-tog-prealloc")
    line["config"] |= {"ImagePath": "/golden/guest/kata.img", "_customAssets": {"image": "/golden/guest/kata2.img"}}
    line["config"].pop("InitrdPath", None)
    facts = qemu_cmdline.run(line).output.facts
    assert facts["images"] == ["/golden/guest/kata2.img"] and facts["parameter_root"] == ["root=/dev/pmem0p1"]


@pytest.mark.parametrize(
    ("operation", "arguments", "fact", "before", "after"),
    [
        ("pauseSandbox", {}, "power", "running", "paused"),
        ("stopSandbox", {}, "power", "running", "off"),
        ("resizeVCPUs", {"vcpus": 3}, "plugged_vcpus", 0, 2),
        ("resizeMemory", {"mem_mb": 2176, "block_mb": 128}, "modules", [], [(128, False)]),
    ],
)
def test_what_an_operation_does_is_compared(operation: str, arguments: Any, fact: str, before: Any, after: Any) -> None:
    """A recorded QEMU that was asked for nothing is another VM than ours, and says so."""
    steps = qmp_sequences.run(_qmp([{"op": operation, "args": arguments}], {})).output["steps"]
    (step,) = steps.steps
    assert step["error"] is None and step["facts"][fact] == after
    nothing = [{"result": step["result"], "error": None, "qmp": []}]
    assert f"output.steps[0].{operation}.{fact}: expected {before!r}, got {after!r}" in steps.differences_from(
        "output.steps", nothing
    )


def test_a_step_that_ends_otherwise_is_told_with_what_qemu_refused() -> None:
    refused = {"blockdev-add": ['{"error": {"class": "GenericError", "desc": "no"}}']}
    plugged = {"device": {"kind": "block", "fields": {"File": "/dev/sdb", "Format": "raw", "ID": "d0"}}}
    steps = qmp_sequences.run(_qmp([{"op": "hotplugAddDevice", "args": plugged}], refused)).output["steps"]
    (found,) = steps.differences_from("output.steps", [{"result": {"data": None}, "error": None, "qmp": []}])
    assert found.startswith("output.steps[0].hotplugAddDevice.error: expected None, got error QEMU refused")
    assert found.endswith("; QEMU refused blockdev-add")
    state = {"Bridges": [{"ID": "pci-bridge-0", "Address": {}}]}
    assert (
        steps.differences_from("output.steps", [{"result": None, "error": "any text", "state": state, "qmp": []}]) == []
    )


# --- configuration files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("agent", "foo agent type is not supported"),
        ("proxy", "foo proxy type not supported"),
        ("shim", "foo shim is not supported"),
    ],
)
def test_a_second_table_of_another_kind_is_refused(name: str, words: str) -> None:
    line = _input("toml_config", "0001-image")
    assert toml_config.run(line).error is None
    with pytest.raises(ConfigError, match=words):
        toml_config.run({**line, "toml": f"{line['toml']}\n[{name}.foo]\n"})


# --- ACRN --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "fits"), [(83, True), (84, False)])
def test_acrn_refuses_a_console_whose_path_is_too_long(length: int, fits: bool) -> None:
    line = {**_input("acrn_cmdline", "0004-tog-mem"), "sandbox_id": "f" * length, "devices": []}
    if fits:
        assert acrn_cmdline.run(line).error is None
    else:
        with pytest.raises(ConfigError, match="the kernel takes 107"):
            acrn_cmdline.run(line)


def test_acrn_needs_a_registered_sandbox() -> None:
    with pytest.raises(StateError):
        acrn_cmdline.run({**_input("acrn_cmdline", "0004-tog-mem"), "sandbox_registered": False})


@pytest.mark.parametrize("kind", [*range(10), -1, 10, 42])
def test_acrn_plugs_nothing_that_is_no_disk(kind: int) -> None:
    with pytest.raises(HypervisorError):
        acrn_lifecycle.run({"op": "hotplugAddDevice", "device_type": kind})


def test_acrn_starts_a_vm_where_there_is_a_store() -> None:
    assert acrn_lifecycle.run({"op": "startSandbox", "timeout": 5}).output["vm_dir_exists"] is True
    for broken in ({"store": None, "timeout": 5}, {"acrn_dm": "missing at launch time", "timeout": 5}, {"timeout": -1}):
        with pytest.raises(HypervisorError):
            acrn_lifecycle.run({"op": "startSandbox", **broken})


# --- Firecracker -------------------------------------------------------------------------------------------------------


def _disk(name: str, **fields: Any) -> dict[str, Any]:
    return {"device": {"kind": "block", "fields": {"File": f"/golden/{name}", "Format": "raw", "ID": name, **fields}}}


def _patched(ops: list[dict[str, Any]]) -> list[str]:
    line = {**_input("firecracker_requests", "0001-minimal_unjailed"), "ops": ops}
    steps = firecracker_requests.run(line).output["steps"]
    assert not any(step["error"] for step in steps)
    return [
        entry["path"].rpartition("/")[2]
        for step in steps
        for entry in step["log"].entries
        if entry["method"] == "PATCH"
    ]


@pytest.mark.parametrize("cold", [0, 1, 3])
def test_placeholders_are_counted_from_the_disks_before_the_start(cold: int) -> None:
    before = [
        {"op": "addDevice", "args": _disk(f"cold{number}", **({"Index": number} if number else {}))}
        for number in range(cold)
    ]
    hot = [{"op": "hotplugAddDevice", "args": _disk(f"hot{number}")} for number in range(2)]
    start = {"op": "startSandbox", "args": {"timeout": 10}}
    assert _patched([*before, start, *hot]) == [f"drive_{cold}", f"drive_{cold + 1}"]
    assert _patched([*before, start, {"op": "hotplugAddDevice", "args": _disk("hot", Index=5)}]) == ["drive_5"]


def test_all_placeholders_can_be_taken() -> None:
    before = [{"op": "addDevice", "args": _disk("cold")}]
    hot = [{"op": "hotplugAddDevice", "args": _disk(f"hot{number}")} for number in range(8)]
    assert sorted(_patched([*before, {"op": "startSandbox", "args": {"timeout": 10}}, *hot])) == [
        f"drive_{number}" for number in range(8)
    ]


def test_a_firecracker_whose_api_never_answers_does_not_start() -> None:
    line = {
        **_input("firecracker_requests", "0001-minimal_unjailed"),
        "ops": [{"op": "startSandbox", "args": {"timeout": 1}}, {"op": "getSandboxConsole"}],
    }
    for broken in ({"server": {**line["server"], "running": False}}, {"store": False}):
        first, second = firecracker_requests.run({**line, **broken}).output["steps"]
        assert first["error"] and not first["process_alive"] and second["error"] is None


@pytest.mark.parametrize("names", [None, [], ["api"]])
def test_a_firecracker_without_vcpu_threads(names: Any) -> None:
    assert firecracker_thread_ids.run({"thread_comms": names}).output == {"vcpu_ids": []}


@pytest.mark.parametrize(
    "name", ["fc_vcpu", "fc_vcpu" + "9" * 5000, "fc_vcpu1.5", "fc_vcpu\u0665", "fc_vcpu99999999999999999999"]
)
def test_a_thread_without_a_number_is_an_error(name: str) -> None:
    with pytest.raises(VmmError):
        firecracker_thread_ids.run({"thread_comms": [name]})


# --- factory and mock --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "file"), [(None, "record.json"), ("state file only", "/ram/memory"), ("memory file only", "/saved")]
)
def test_a_template_that_lacks_a_file_serves_nobody(state: Any, file: str) -> None:
    line = {"op": "new_factory", "template": True, "fetch_only": True, "state": state}
    with pytest.raises(StateError, match=file):
        factory.run(line)


@pytest.mark.parametrize(
    ("kind", "value"),
    [(8, "x"), (8, None), (8, {}), (8, -1), (8, True), (9, "x"), (9, None), (9, {"size_mb": "x"}), (9, 1.5)],
)
def test_a_mock_refuses_a_value_of_a_wrong_type(kind: int, value: Any) -> None:
    line = {"id": "x", "input": {"op": "hotplug", "device_type": kind, "value": value}}
    error = mock.run(line["input"]).error
    assert isinstance(error, ConfigError) and "must be" in str(error)
    nothing = {"add": None, "add_error": None, "remove": None, "remove_error": None}
    assert runner.check_line(mock.run, {**line, "output": {}, "error": "PANIC: interface conversion"}) == []
    assert (
        runner.check_line(
            mock.run, {**line, "output": {**nothing, "add_error": "PANIC: interface conversion"}, "error": None}
        )
        == []
    )
    assert runner.check_line(mock.run, {**line, "output": nothing, "error": None}) != []


@pytest.mark.parametrize("kind", [0, 3, 6, 7, 10, -1, 99])
def test_a_mock_takes_every_other_kind(kind: int) -> None:
    nothing = {"add": None, "add_error": None, "remove": None, "remove_error": None}
    assert mock.run({"op": "hotplug", "device_type": kind, "value": None}).output == nothing


@pytest.mark.parametrize("name", sorted(path.stem for path in DATA.glob("*.jsonl")))
def test_an_operation_that_there_is_not_is_an_error(name: str) -> None:
    adapter = runner.find_adapter(DATA / f"{name}.jsonl")
    assert adapter is not None
    found = runner.check_line(adapter, {"id": "x", "input": {"op": "no such operation"}, "output": {}, "error": "any"})
    assert not any(difference.startswith((runner.CRASH, "not ported")) for difference in found)
