# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong beside Firecracker: files that two VMs have, changes behind our back, tasks that are killed half way, strange endings."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import signal
import time
from typing import Any, Callable

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import (
    ConfigError,
    HostError,
    HypervisorError,
    StateError,
    VmmError,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.host import network
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker import jail_files
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.api.client import (
    ApiConnectionError,
)
from tests.support.cgroup_orders import ORDERS, check_order
from tests.support.firecracker_lab import FirecrackerLab
from tests.support.lab import nothing_ran
from tests.support.stand_ins import FIRECRACKER, JAILER, double_only, needs_guest, needs_root, needs_tun
from tests.support.waiting import wait_until


def block(path: str, name: str = "data", **more: Any) -> dict[str, Any]:
    return {"id": name, "type": "block", "file": path, **more}


# --- one file for two ----------------------------------------------------------------------------------------------------


def other_name(lab: FirecrackerLab, path: str, how: str) -> str:
    name = str(lab.root / how)
    if how == "symlink":
        os.symlink(path, name)
    elif how == "hardlink":
        os.link(path, name)
    else:
        return path
    return name


@pytest.mark.parametrize("how", ["same", "symlink", "hardlink"])
def test_two_sandboxes_with_one_writable_disk(lab: FirecrackerLab, how: str) -> None:
    path = lab.file("data")
    lab.start("one", devices=[block(path)])
    again = [block(other_name(lab, path, how))]
    for run in (lab.check, lab.run):
        with pytest.raises(StateError, match=r"is in use: sandbox one \((firecracker|jailer), pid \d+\) writes to it"):
            run("two", state="started", **lab.options, devices=again)
    assert lab.facts("two")["state"] == "absent"
    # One that does not run may have it.
    assert lab.run("two", state="stopped", **lab.options, devices=again)["sandbox"]["state"] == "stopped"
    for run in (lab.check, lab.run):
        with pytest.raises(StateError, match="is in use: sandbox one"):
            run("two", state="started")
    # As long as nobody writes to it, two may read one.
    lab.run("one", state="absent", stop_timeout=0)
    for name in ("one", "two"):
        lab.start(name, devices=[block(path, read_only=True)])
    if "jailer_path" not in lab.options:  # A jail has a copy of what its user could write to.
        with pytest.raises(StateError, match=r"in use: sandbox (one|two) .* reads it"):
            lab.start("three", devices=[block(path)])


def test_a_disk_that_another_sandbox_boots_from(lab: FirecrackerLab) -> None:
    lab.start("one")
    os.chmod(lab.options["image_path"], 0o666)
    with pytest.raises((StateError, ConfigError)):
        lab.start("two", image_path=lab.file("image2", 1 << 20, 0o644), devices=[block(lab.options["image_path"])])


@pytest.mark.parametrize("second", ["block", "pmem"])
@pytest.mark.parametrize("how", ["same", "symlink", "hardlink"])
def test_two_devices_with_one_writable_file(lab: FirecrackerLab, how: str, second: str) -> None:
    path = lab.file("data", 2 << 20)
    devices = [block(path), {"id": "again", "type": second, "file": other_name(lab, path, how)}]
    for run in (lab.check, lab.run):
        with pytest.raises(ConfigError, match="must not be the same file"):
            run(state="started", **lab.options, devices=devices)
    nothing_ran(lab)
    os.chmod(lab.options["image_path"], 0o666)  # Else the user of a jail may not write to it, which is found first.
    with pytest.raises(ConfigError, match="image_path must not be the same file"):
        lab.start(devices=[block(lab.options["image_path"])])


def test_a_disk_that_is_plugged_twice(lab: FirecrackerLab) -> None:
    disk = block(lab.file("data"))
    lab.start(placeholder_drives=2, devices=[disk])
    with pytest.raises(ConfigError, match="must not be the same file"):
        lab.run(devices=[disk, block(lab.file("data"), "again")])
    lab.run(devices=[disk, block(lab.file("other"), "again")])
    assert lab.run(devices=[{**disk, "file": lab.file("third")}, block(lab.file("other"), "again")])["changed"]
    lab.start("two", devices=[block(lab.file("fourth"))])
    for run in (lab.check, lab.run):
        with pytest.raises(StateError, match="in use: sandbox two"):
            run(devices=[{**disk, "file": lab.file("fourth")}, block(lab.file("other"), "again")])
        with pytest.raises(ConfigError, match="must not be the same file"):
            run(devices=[{**disk, "file": lab.file("other")}, block(lab.file("other"), "again")])


# --- what changes while nobody looks -------------------------------------------------------------------------------------


def test_limits_that_were_changed_behind_our_back_are_set_again(lab: FirecrackerLab) -> None:
    disk = block(lab.file("data"), rate_limit={"ops": 100, "bandwidth": 4096, "bandwidth_burst": 512})
    lab.start(devices=[disk])
    assert not lab.run(devices=[disk])["changed"]
    lab.driver().vmm.api().patch(
        "/drives/data", {"drive_id": "data", "rate_limiter": {"ops": {"size": 7, "refill_time": 1000}}}
    )
    assert not lab.run()["changed"]
    assert lab.check(devices=[disk])["actions"] == ["change block data"]
    assert lab.run(devices=[disk])["actions"] == ["change block data"]
    assert not lab.run(devices=[disk])["changed"]
    machine = lab.driver().vmm
    (found,) = [drive for drive in machine.config(machine.api())["drives"] if drive["drive_id"] == "data"]
    assert found["rate_limiter"]["ops"]["size"] == 100


@needs_tun
@needs_root
def test_metadata_and_interfaces_that_were_changed_behind_our_back(lab: FirecrackerLab) -> None:
    devices = [
        {"id": "eth0", "type": "net", "kind": "tap", "tx_rate_limit": {"bandwidth": 1000}},
        {"id": "md", "type": "mmds", "interfaces": ["eth0"], "contents": {"a": {"b": "c"}}},
    ]
    lab.start(devices=devices)
    assert not lab.run(devices=devices)["changed"]
    api = lab.driver().vmm.api()
    api.patch("/mmds", {"a": {"b": "other"}})
    api.patch(
        "/network-interfaces/eth0",
        {"iface_id": "eth0", "tx_rate_limiter": {"bandwidth": {"size": 5, "refill_time": 1000}}},
    )
    assert lab.run(devices=devices)["actions"] == ["change net eth0", "change mmds md"]
    assert not lab.run(devices=devices)["changed"]
    assert lab.driver().vmm.api().get("/mmds") == {"a": {"b": "c"}}


def test_limits_alone_do_not_touch_the_file(jailed: FirecrackerLab, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = block(jailed.file("data"))
    jailed.start(devices=[disk])

    def never(*_arguments: Any, **_named: Any) -> None:
        raise AssertionError("the file was touched")

    with monkeypatch.context() as patched:
        patched.setattr(jail_files, "bring", never)
        patched.setattr(jail_files, "drop", never)
        assert jailed.run(devices=[{**disk, "rate_limit": {"ops": 5}}])["changed"]
        assert jailed.run(devices=[disk])["changed"]


def test_a_disk_that_is_refused_leaves_the_old_one(jailed: FirecrackerLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another file system, and mounts that a jail does not see: what was there stays there."""
    disk = block(jailed.file("data"))
    jailed.start(devices=[disk])
    found = jailed.driver()
    monkeypatch.setattr(jail_files, "_bring_draft", lambda *_arguments: False)
    monkeypatch.setattr(jail_files, "_sees", lambda *_arguments: False)
    with pytest.raises(HostError, match="not seen in a jail"):
        jailed.run(devices=[{**disk, "file": jailed.file("other")}])
    assert os.path.samefile(found.vmm.state.jail.path("disk_data"), jailed.file("data"))


@pytest.mark.parametrize("options", [{"enable_pci": True}, {"placeholder_drives": 1}])
def test_a_plug_and_an_unplug_that_were_killed_half_way_converge(lab: FirecrackerLab, options: dict[str, Any]) -> None:
    lab.start(**options)
    disk = block(lab.file("data"))
    found = lab.driver()
    jail = found.vmm.state.jail
    if jail is not None:
        os.link(lab.file("data"), jail.path("disk_data"))  # Between the link and the request.
    assert lab.run(devices=[disk])["actions"] == ["plug block data"]
    found = lab.driver()
    # Between the request and the removal of the link.
    drive = "drive_0" if "placeholder_drives" in options else "data"
    if drive == "data":
        found.vmm.api().delete("/drives/data")
    else:
        path = "/drive_0" if jail else str(lab.run_path("drive_0"))
        found.vmm.api().patch("/drives/drive_0", {"drive_id": "drive_0", "path_on_host": path})
    assert not [device["id"] for device in lab.facts()["devices"] if device["plugged"]]
    lab.run(devices=[])
    if jail is not None:
        assert not os.path.lexists(jail.path("disk_data"))
    assert lab.run(devices=[disk])["actions"] == ["plug block data"]
    assert [device["id"] for device in lab.facts()["devices"] if device["plugged"]] == ["data"]


def opened_soon(tap: str) -> list[int]:
    """A tap, once the process that has just been killed has let go of it."""
    opened: list[list[int]] = []

    def can_be_opened() -> bool:
        with contextlib.suppress(HostError):
            opened.append(network.open_tap(tap))
        return bool(opened)

    wait_until(can_be_opened, f"the release of {tap}")
    return opened[0]


@needs_tun
@needs_root
def test_a_tap_that_another_vm_took_is_left_to_it(lab: FirecrackerLab) -> None:
    net = {"id": "eth0", "type": "net", "kind": "tap", "tap_name": f"kt{os.getpid() % 100000}"}
    lab.start("one", devices=[net])
    os.kill(lab.driver("one").pid(), signal.SIGKILL)
    wait_until(lambda: not lab.driver("one").pid(), "the end of the VMM")
    if lab.options.get("jailer_path"):
        # A tap belongs to the user it was made for.
        descriptor = opened_soon(net["tap_name"])
    else:
        network.close_all(opened_soon(net["tap_name"]))
        lab.start("two", devices=[net])
        descriptor = []
    try:
        if descriptor:
            child = os.fork()
            if child == 0:
                time.sleep(300)
                os._exit(0)
        assert lab.run("one", state="absent")["sandbox"]["state"] == "absent"
        assert network.exists(net["tap_name"])
        if not descriptor:
            assert lab.facts("two")["state"] == "started"
    finally:
        network.close_all(descriptor)
        if descriptor:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        lab.run("two", state="absent", stop_timeout=0)
        network.remove_tap(net["tap_name"])


# --- saved ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["replaced", "written", "grown", "image", "missing"])
def test_a_file_that_changed_while_its_sandbox_was_saved(lab: FirecrackerLab, change: str) -> None:
    path = pathlib.Path(lab.options["image_path"] if change == "image" else lab.file("data"))
    lab.start(devices=[block(lab.file("data"))])
    lab.run(state="saved")
    kept = path.read_bytes()
    if change == "grown":
        os.truncate(path, 8192)
    elif change == "written":
        path.write_bytes(b"x" * 4096)
    elif change == "missing":
        path.rename(str(path) + ".away")
    else:
        path.rename(str(path) + ".away")
        path.write_bytes(kept)
        path.chmod(0o666)
    with pytest.raises(HypervisorError, match=r"as it was when the sandbox was saved|disk does not exist"):
        lab.check(state="started")
    with pytest.raises(HypervisorError, match=r"as it was when the sandbox was saved|disk does not exist") as caught:
        lab.run(state="started")
    assert str(path) in str(caught.value) and lab.facts()["state"] == "saved" and lab.processes() == []
    if change in ("replaced", "image", "missing"):
        os.replace(str(path) + ".away", path)
        assert lab.run(state="started")["sandbox"]["state"] == "started"
    else:
        assert lab.run(state="stopped", disruption="restart")["sandbox"]["state"] == "stopped"


@double_only
@pytest.mark.parametrize("lacking", [False, True])
def test_the_clock_of_a_restored_guest_is_moved_on_where_that_can_be(
    plain: FirecrackerLab, misbehave: Callable[..., None], monkeypatch: pytest.MonkeyPatch, lacking: bool
) -> None:
    monkeypatch.setenv("FIRECRACKER_DOUBLE_REQUESTS", str(plain.root / "requests"))
    plain.start()
    plain.run(state="saved")
    if lacking:
        misbehave("no_realtime")
    assert plain.run(state="started")["sandbox"]["state"] == "started"
    seen = [json.loads(line) for line in (plain.root / "requests").read_text().splitlines()]
    assert [request["body"].get("clock_realtime") for request in seen if request["path"] == "/snapshot/load"] == (
        [True, None] if lacking else [True]
    )


# --- endings and answers -------------------------------------------------------------------------------------------------


@double_only
def test_a_firecracker_that_a_limit_ended_during_a_save_says_so(
    lab: FirecrackerLab, misbehave: Callable[..., None]
) -> None:
    misbehave("file_limit")
    lab.start()
    with pytest.raises(ApiConnectionError, match="Firecracker ended by a file grew beyond its limit") as caught:
        lab.run(state="saved")
    assert "intercepting signal 25" in caught.value.answer and caught.value.log.endswith("vmm.log")
    assert "beyond its limit" in lab.facts()["reason"]


def test_a_real_limit_of_a_jail(jailed: FirecrackerLab) -> None:
    """The memory of a VM is larger than its files may become."""
    jailed.start(jailer_limits=["fsize=8388608"])
    with pytest.raises(VmmError):
        jailed.run(state="saved")
    assert jailed.facts()["state"] in ("crashed", "started")


@double_only
def test_absent_removes_a_sandbox_whatever_its_firecracker_answers(
    lab: FirecrackerLab, misbehave: Callable[..., None]
) -> None:
    misbehave("nonsense")
    with pytest.raises(VmmError):
        lab.start()
    nothing_ran(lab)
    os.environ.pop("FIRECRACKER_DOUBLE_FAULTS", None)
    lab.start()
    for _turn in range(3):
        misbehave("nonsense")
        try:
            lab.run("odd", state="started", **lab.options)
        except VmmError:
            pass
        assert lab.run("odd", state="absent", stop_timeout=1)["sandbox"]["state"] == "absent"


def test_the_guests_console_has_nothing_of_firecrackers(lab: FirecrackerLab) -> None:
    made = lab.start(wait_for={"console": "stub: running|guest: ready", "timeout": 20})
    for _look in range(20):
        lab.facts()
    assert "fc_api" not in lab.console() and "Running Firecracker" not in lab.console()
    log = pathlib.Path(made["sandbox"]["vmm_log"])
    assert log.name == "vmm.log" and "root" not in log.parts[4:] and "Get" not in log.read_text()
    lab.run(state="restarted", vmm_log_level="info", disruption="restart", stop_timeout=0)
    assert "Running Firecracker" in log.read_text() and "Running Firecracker" not in lab.console()


def test_the_socket_of_a_vsock_is_in_the_facts(lab: FirecrackerLab) -> None:
    lab.start(devices=[{"id": "vs", "type": "vsock", "cid": 7}])
    assert pathlib.Path(lab.facts()["vsock_socket"]).is_socket()
    lab.run(state="stopped", stop_timeout=0)
    assert "vsock_socket" not in lab.facts()
    lab.run("two", state="started", **lab.options, use_vsock=True)
    assert pathlib.Path(lab.facts("two")["vsock_socket"]).is_socket()


@needs_tun
@needs_root
@needs_guest
def test_more_metadata_than_usual(lab: FirecrackerLab) -> None:
    contents = {"x": "y" * 60_000}
    devices = [
        {"id": "eth0", "type": "net", "kind": "tap"},
        {"id": "md", "type": "mmds", "interfaces": ["eth0"], "contents": contents},
    ]
    with pytest.raises(ConfigError, match="keeps 51200 bytes"):
        lab.start(devices=devices)
    lab.start(devices=devices, mmds_size_limit=100_000)
    assert lab.driver().vmm.api().get("/mmds") == contents


# --- cgroups -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
def test_sandboxes_with_and_without_cgroup_settings(jailed: FirecrackerLab, order: tuple[bool, bool]) -> None:
    check_order(jailed, order)


# --- the jail by default -------------------------------------------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("names", [("firecracker", "jailer"), ("firecracker-v1.16.1-x86_64", "jailer-v1.16.1-x86_64")])
def test_the_jailer_beside_firecracker_is_used(jailed: FirecrackerLab, names: tuple[str, str]) -> None:
    for name, program in zip(names, (FIRECRACKER, JAILER)):
        shutil.copy(program, jailed.root / name)
    options = {name: value for name, value in jailed.options.items() if name != "jailer_path"}
    options["hypervisor_path"] = str(jailed.root / names[0])
    made = jailed.run(state="started", **options)
    assert made["sandbox"]["jail"].startswith(str(jailed.root / "state/jails"))
    assert not jailed.run(state="started", **options)["changed"]
    jailed.run(state="saved")
    assert jailed.run(state="started")["sandbox"]["jail"]
    with pytest.raises(ConfigError, match="exclude each other"):
        jailed.run("two", state="started", **options, jailer_path=JAILER, jailer="none")


@needs_root
def test_root_does_not_run_firecracker_without_a_jail_unless_the_task_says_so(plain: FirecrackerLab) -> None:
    shutil.copy(FIRECRACKER, plain.root / "firecracker")
    options = {name: value for name, value in plain.options.items() if name != "jailer"} | {
        "hypervisor_path": str(plain.root / "firecracker")
    }
    for run in (plain.check, plain.run):
        with pytest.raises(ConfigError, match="outside of a jail") as caught:
            run(state="started", **options)
        assert "jailer: none" in caught.value.fix
    nothing_ran(plain)
    made = plain.run(state="started", **options, jailer="none")
    assert made["sandbox"]["state"] == "started" and "jail" not in made["sandbox"]
    # What runs without a jail goes on so, though a jailer is installed meanwhile.
    shutil.copy(JAILER, plain.root / "jailer")
    disk = block(plain.file("root", mode=0o600))
    assert plain.run(devices=[disk], disruption="restart", stop_timeout=0)["sandbox"]["state"] == "started"


@needs_guest
def test_plugged_memory_goes_where_it_can_be_given_back(plain: FirecrackerLab) -> None:
    plain.start(max_memory_mb=512)
    machine = plain.driver().vmm
    assert "memhp_default_state=online_movable" in machine.config(machine.api())["boot-source"]["boot_args"]
    plain.start("other")
    other = plain.driver("other").vmm
    assert "memhp" not in other.config(other.api())["boot-source"]["boot_args"]


@needs_tun
@needs_root
def test_taps_that_cannot_be_had_are_refused_before_the_vm_is_stopped(lab: FirecrackerLab) -> None:
    net = {"id": "eth0", "type": "net", "kind": "tap", "tap_name": f"kt{os.getpid() % 100000}"}
    one = lab.start("one", devices=[net])["sandbox"]["pid"]
    two = lab.start("two")["sandbox"]["pid"]
    wrong: list[tuple[list[dict[str, Any]], type[HypervisorError], str]] = [
        ([net], StateError, "has it open"),
        ([{**net, "tap_name": "lo"}], HostError, "must be a tap"),
        (
            [{**net, "tap_name": "ktsame"}, {**net, "tap_name": "ktsame", "id": "eth1"}],
            ConfigError,
            "a tap_name of its own",
        ),
    ]
    for devices, kind, words in wrong:
        for run in (lab.check, lab.run):
            with pytest.raises(kind, match=words):
                run("two", devices=devices, disruption="restart")
    assert (lab.run("one")["sandbox"]["pid"], lab.run("two")["sandbox"]["pid"]) == (one, two)
    # Its own tap it may keep.
    assert lab.run("one", devices=[net], vcpus=2, disruption="restart")["changed"]


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_nothing_depends_on_the_umask(lab: FirecrackerLab, umask: int) -> None:
    def modes() -> dict[str, int]:
        found = [path for part in ("state", "run") for path in (lab.root / part).rglob("*")]
        return {str(path.relative_to(lab.root)): path.lstat().st_mode for path in found if not path.is_symlink()}

    def life() -> list[dict[str, int]]:
        seen = []
        lab.start(devices=[block(lab.file("data", 1 << 20))])
        seen.append(modes())
        for state in ("saved", "started", "stopped"):
            lab.run(state=state, stop_timeout=0)
            seen.append(modes())
        lab.run(state="absent")
        return seen

    usual = life()
    before = os.umask(umask)
    try:
        assert life() == usual
    finally:
        os.umask(before)
