# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Firecracker through the engine: what was observed of real ones must hold of the stand-in, and of a real one that the environment names.

KATA_TEST_FIRECRACKER, KATA_TEST_JAILER  real binaries; without them the stand-ins of tests/doubles play them
KATA_TEST_FIRECRACKER_API                Firecracker's API description; every request that the driver sends is checked against it
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import stat
import subprocess
from typing import Any, Callable

import pytest
import yaml

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import (
    AssetError,
    ConfigError,
    DeadlineExceeded,
    DisruptionError,
    HostError,
    LaunchError,
    StateError,
    Unsupported,
    VmmError,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.host import network, processes
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.api.client import ApiError
from tests.support.firecracker_lab import FirecrackerLab
from tests.support.lab import nothing_ran
from tests.support.stand_ins import (
    FIRECRACKER,
    IS_ROOT,
    JAILER,
    REAL_FIRECRACKER,
    double_only,
    needs_guest,
    needs_root,
    needs_tun,
)
from tests.support.waiting import PATIENCE, wait_until

# --- start -------------------------------------------------------------------------------------------------------------


def test_what_firecracker_says_is_what_was_asked_for(lab: FirecrackerLab) -> None:
    lab.start(vcpus=2, memory_mb=192, max_memory_mb=512, entropy_device=True, use_vsock=True)
    machine = lab.driver().vmm
    config = machine.config(machine.api())
    assert config["machine-config"]["vcpu_count"] == 2 and config["machine-config"]["mem_size_mib"] == 192
    assert (config["vsock"]["guest_cid"] == 3 and config["entropy"] == {}) or config["entropy"] is not None
    assert config["memory-hotplug"]["total_size_mib"] == 384
    assert lab.facts()["thread_ids"].keys() == {"0", "1"}
    assert stat.S_ISSOCK(os.stat(machine.socket).st_mode)


def test_guest_code_runs_and_its_console_is_kept(lab: FirecrackerLab) -> None:
    lab.start(wait_for={"console": "stub: running|guest: ready", "timeout": 20})
    assert lab.facts()["console_log"] == str(lab.run_path("console.log"))


def test_the_users_kernel_parameters_win(lab: FirecrackerLab) -> None:
    """Trap T2: Kata 1.x's own parameters come last and win."""
    lab.start(kernel_params=["panic=30", "pci=nocrs"])
    machine = lab.driver().vmm
    words = machine.config(machine.api())["boot-source"]["boot_args"].split()
    for key, wanted in (("panic", "30"), ("pci", "nocrs")):
        assert [word for word in words if word.startswith(f"{key}=")][-1] == f"{key}={wanted}"


def test_zeroes_are_never_sent(plain: FirecrackerLab) -> None:
    """Trap T22: Kata 1.x sends zero vCPUs and zero MiB when nobody says how many."""
    options = {name: value for name, value in plain.options.items() if name not in ("vcpus", "memory_mb")}
    made = plain.run(state="present", **options)
    assert (made["sandbox"]["options"]["vcpus"], made["sandbox"]["options"]["memory_mb"]) == (1, 2048)


@double_only
@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("refuses_machine", ApiError, "The memory size (MiB) is invalid."),
        ("refuses_start", ApiError, "Start microvm error: Kernel loader error: Invalid ELF magic number"),
        ("starts_paused", VmmError, "Paused"),
        ("dies_at_once", LaunchError, "Permission denied (os error 13)"),
    ],
)
def test_no_failed_start_leaves_a_process(
    lab: FirecrackerLab, misbehave: Callable[..., None], fault: str, kind: type[VmmError], words: str
) -> None:
    """Trap T9: Kata 1.x leaves Firecracker running when the machine, or the start, is refused."""
    misbehave(fault)
    with pytest.raises(kind) as caught:
        lab.start()
    assert words in caught.value.answer and caught.value.sandbox == "web"
    nothing_ran(lab)


@double_only
def test_a_refusal_names_endpoint_state_and_version(plain: FirecrackerLab, misbehave: Callable[..., None]) -> None:
    misbehave("refuses_machine")
    with pytest.raises(
        ApiError, match=r"Firecracker 1\.16\.1 refused PUT /machine-config \(400\) while it was Not started"
    ):
        plain.start()


@double_only
def test_a_firecracker_without_an_api_is_ended(lab: FirecrackerLab, misbehave: Callable[..., None]) -> None:
    misbehave("never_answers")
    with pytest.raises(DeadlineExceeded):
        lab.start(start_timeout=1)
    nothing_ran(lab)


@double_only
def test_the_hint_for_a_host_without_kvm_rights(plain: FirecrackerLab, misbehave: Callable[..., None]) -> None:
    misbehave("dies_at_once")
    with pytest.raises(LaunchError) as caught:
        plain.start()
    assert (
        caught.value.exit_code == 1
        and "group kvm" in caught.value.fix
        and caught.value.argv[0] == os.path.realpath(FIRECRACKER)
    )


def test_a_missing_disk_is_refused_before_anything_runs(lab: FirecrackerLab) -> None:
    with pytest.raises(AssetError, match="disk does not exist"):
        lab.start(devices=[{"id": "d", "type": "block", "file": "/nowhere"}])
    nothing_ran(lab)


@double_only
def test_busy_servers_are_asked_again(plain: FirecrackerLab, misbehave: Callable[..., None]) -> None:
    misbehave("busy")
    assert plain.start()["sandbox"]["state"] == "started"


def test_a_stale_socket_is_what_firecracker_cannot_cope_with(plain: FirecrackerLab) -> None:
    """And why the driver removes it: rc 1, and nothing is ever unlinked by Firecracker."""
    path = plain.root / "stale.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    done = subprocess.run(
        [FIRECRACKER, "--api-sock", str(path)], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 1 and "Failed to open the API socket" in done.stdout + done.stderr
    plain.start()
    os.kill(plain.driver().pid(), signal.SIGTERM)
    wait_until(lambda: not plain.driver().pid(), "the end of the VMM")
    assert plain.facts()["leftovers"] == [str(plain.run_path(name)) for name in ("api.sock", "vsock.sock")]
    assert plain.run()["actions"] == ["cleanup", "start"]


# --- versions ----------------------------------------------------------------------------------------------------------


@double_only
@pytest.mark.parametrize(
    ("number", "options", "hole"),
    [
        ("0.21.2", {}, "CVE-2020-27174"),
        ("1.13.0", {"enable_pci": True}, "CVE-2026-5747"),
        ("1.15.0", {"enable_pci": True}, "CVE-2026-5747"),
    ],
)
def test_vulnerable_versions_are_refused(
    plain: FirecrackerLab, version: Callable[[str], None], number: str, options: dict[str, Any], hole: str
) -> None:
    version(number)
    with pytest.raises(Unsupported, match=hole):
        plain.start(**options)
    nothing_ran(plain)
    assert plain.start(**options, allow_vulnerable_vmm=True)["sandbox"]["state"] == "started"


@double_only
def test_a_vulnerable_jailer_is_refused(jailed: FirecrackerLab, version: Callable[[str], None]) -> None:
    version("1.14.0")
    with pytest.raises(Unsupported, match="CVE-2026-1386"):
        jailed.start()
    assert jailed.start(allow_vulnerable_vmm=True)["sandbox"]["state"] == "started"


@double_only
@pytest.mark.parametrize(
    "number",
    ["0.17.0", "0.20.1", "0.21.3", "0.22.3", "0.24.6", "0.25.2", "1.0.0", "1.7.0", "1.13.2", "1.14.4", "1.16.1"],
)
def test_every_dialect_starts_and_stops(lab: FirecrackerLab, version: Callable[[str], None], number: str) -> None:
    version(number)
    made = lab.start(allow_vulnerable_vmm=True)
    assert (made["sandbox"]["state"], made["sandbox"]["vcpus"], made["sandbox"]["memory_mb"]) == ("started", 1, 128)
    assert len(made["sandbox"]["thread_ids"]) == 1
    if made["sandbox"]["capabilities"]["pause"]:
        assert lab.run(state="saved")["sandbox"]["state"] == "saved"
        assert lab.run(state="started")["sandbox"]["state"] == "started"
    else:
        with pytest.raises(Unsupported, match=rf"Firecracker {number} .*0\.23"):
            lab.run(state="paused")
    assert lab.run(state="stopped", stop_timeout=60)["sandbox"]["state"] == "stopped"


@double_only
@pytest.mark.parametrize(
    ("number", "options", "words"),
    [
        ("0.25.2", {"entropy_device": True}, "no entropy device"),
        ("1.6.0", {"huge_pages": True}, "no huge pages"),
        ("1.12.0", {"enable_pci": True}, "no PCI"),
        ("1.13.2", {"max_memory_mb": 512}, "no memory hotplug"),
        ("0.22.1", {"track_dirty_pages": True}, "no tracking of dirty pages"),
    ],
)
def test_what_a_version_lacks_is_refused_with_the_version_that_has_it(
    plain: FirecrackerLab, version: Callable[[str], None], number: str, options: dict[str, Any], words: str
) -> None:
    version(number)
    with pytest.raises(Unsupported, match=words) as caught:
        plain.start(**options)
    assert "or later" in caught.value.fix
    nothing_ran(plain)


# --- stop --------------------------------------------------------------------------------------------------------------


@needs_guest
def test_a_guest_shuts_down_by_itself(lab: FirecrackerLab) -> None:
    lab.start()
    lab.run(state="stopped", stop_timeout=5 * PATIENCE)
    assert "Restarting system" in lab.console()


@needs_guest
def test_a_paused_guest_shuts_down_by_itself(plain: FirecrackerLab) -> None:
    plain.start()
    plain.run(state="paused")
    plain.run(state="stopped", stop_timeout=5 * PATIENCE)
    assert "Restarting system" in plain.console()


@double_only
def test_a_firecracker_that_hears_nothing_is_killed(
    lab: FirecrackerLab, misbehave: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker import vmm

    monkeypatch.setattr(vmm, "STEP_SECONDS", 0.3)
    misbehave("ignores_keys", "ignores_sigterm")
    lab.start()
    assert lab.run(state="stopped", stop_timeout=1)["sandbox"]["state"] == "stopped"
    assert lab.processes() == []


@double_only
def test_a_hanging_api_does_not_hang_a_task(
    plain: FirecrackerLab, misbehave: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.api import client

    misbehave("hangs_on_pause")
    plain.start()
    found = plain.driver()
    monkeypatch.setattr(found.vmm, "api", lambda: client.ApiClient(found.vmm.socket, 0.5))
    with pytest.raises(DeadlineExceeded, match="did not answer PATCH /vm in time"):
        found.pause_sandbox()
    assert found.observe().power == "unresponsive"


def test_nobody_is_signalled_for_a_vm_that_never_ran(plain: FirecrackerLab) -> None:
    """Trap T3: Kata 1.x signals pid 0, which is the caller's own process group."""
    plain.run(state="present", **plain.options)
    plain.run(state="stopped")
    found = plain.driver()
    found.stop_sandbox(1)
    assert found.pid() == 0
    with pytest.raises(StateError):
        found.check()


# --- devices -----------------------------------------------------------------------------------------------------------


def test_disks_with_limits_and_engines(lab: FirecrackerLab) -> None:
    limit = {"bandwidth": 1 << 20, "bandwidth_burst": 4096, "ops": 100}
    disk = {
        "id": "data-0",
        "type": "block",
        "file": lab.file("data"),
        "rate_limit": limit,
        "io_engine": "sync",
        "cache": "writeback",
    }
    lab.start(devices=[disk, {"id": "ro.1", "type": "block", "file": lab.file("ro", mode=0o600), "read_only": True}])
    machine = lab.driver().vmm
    drives = {drive["drive_id"]: drive for drive in machine.config(machine.api())["drives"]}
    assert (
        drives["rootfs"]["is_read_only"] and drives["ro_p1"]["is_read_only"] and not drives["data_d0"]["is_read_only"]
    )
    limiter = drives["data_d0"]["rate_limiter"]
    assert limiter["bandwidth"] == {"size": 1 << 20, "one_time_burst": 4096, "refill_time": 1000}
    assert limiter["ops"]["size"] == 100 and drives["data_d0"]["cache_type"] == "Writeback"
    assert [device["id"] for device in lab.facts()["devices"] if device["plugged"]] == ["data-0", "ro.1"]


def test_a_disks_file_and_limits_change_while_it_stays(lab: FirecrackerLab) -> None:
    disk = {"id": "data", "type": "block", "file": lab.file("one")}
    pid = lab.start(devices=[disk])["sandbox"]["pid"]
    if REAL_FIRECRACKER and lab.facts()["capabilities"]["device_update"] is False:
        pytest.skip("this version has no update")
    changed = lab.run(devices=[{**disk, "file": lab.file("two"), "rate_limit": {"ops": 5}}])
    assert changed["actions"] == ["change block data"] and changed["sandbox"]["pid"] == pid
    assert not lab.run(devices=[{**disk, "file": lab.file("two"), "rate_limit": {"ops": 5}}])["changed"]
    machine = lab.driver().vmm
    (drive,) = [drive for drive in machine.config(machine.api())["drives"] if drive["drive_id"] == "data"]
    assert "two" in drive["path_on_host"] or machine.state.jail
    if machine.state.jail:
        assert os.path.samefile(machine.state.jail.path("disk_data"), lab.file("two"))
    # What cannot change while it stays is said before it is tried.
    with pytest.raises(DisruptionError, match="needs a restart"):
        lab.run(devices=[{**disk, "file": lab.file("two"), "read_only": True}])


def test_disks_take_the_place_of_placeholders(lab: FirecrackerLab) -> None:
    lab.start(placeholder_drives=2)
    disks = [{"id": f"d-{number}", "type": "block", "file": lab.file(f"disk{number}")} for number in range(3)]
    assert lab.run(devices=disks[:2])["actions"] == ["plug block d-0", "plug block d-1"]
    assert not lab.run(devices=disks[:2])["changed"]
    with pytest.raises(StateError, match="all 2 placeholder drives are taken"):
        lab.run(devices=disks)
    assert lab.run(devices=[disks[1]])["actions"] == ["unplug block d-0"]
    assert lab.run(devices=[disks[1], disks[2]])["actions"] == ["plug block d-2"]
    lab.run(state="saved")
    assert lab.run(state="started")["sandbox"]["state"] == "started"
    assert [device["id"] for device in lab.facts()["devices"] if device["plugged"]] == ["d-1", "d-2"]


@double_only
def test_old_versions_have_the_guest_look_at_an_exchanged_disk(
    lab: FirecrackerLab, version: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to 0.20 another file behind a disk is not noticed by itself."""
    if not lab.options.get("jailer_path"):
        monkeypatch.setenv("FIRECRACKER_DOUBLE_REQUESTS", str(lab.root / "requests"))
    version("0.20.1")
    lab.start(placeholder_drives=2, allow_vulnerable_vmm=True)
    lab.run(devices=[{"id": "d", "type": "block", "file": lab.file("d")}])
    assert [device["plugged"] for device in lab.facts()["devices"]] == [True]
    if not lab.options.get("jailer_path"):
        seen = [json.loads(line) for line in (lab.root / "requests").read_text().splitlines()]
        changes = [
            (request["path"], request["body"])
            for request in seen
            if request["state"] == "Running" and request["method"] != "GET"
        ]
        assert changes == [
            ("/drives/drive_0", {"drive_id": "drive_0", "path_on_host": lab.file("d")}),
            ("/actions", {"action_type": "BlockDeviceRescan", "payload": "drive_0"}),
        ]


def test_disks_are_plugged_by_pci(lab: FirecrackerLab) -> None:
    lab.start(enable_pci=True)
    disk = {"id": "hot", "type": "block", "file": lab.file("hot")}
    assert lab.run(devices=[disk])["actions"] == ["plug block hot"]
    assert not lab.run(devices=[disk])["changed"]
    assert lab.run(devices=[])["actions"] == ["unplug block hot"]
    assert not lab.run(devices=[])["changed"]


def test_a_disk_on_another_file_system_is_seen_in_the_jail_or_refused(jailed: FirecrackerLab) -> None:
    """Mounts of the host are seen in a jail that runs only where the host shares them; an empty file in the disk's place never is."""
    directory = pathlib.Path("/dev/shm") / jailed.root.name
    directory.mkdir(mode=0o755)
    try:
        (directory / "disk").write_bytes(bytes(8192))
        (directory / "disk").chmod(0o666)
        disk = {"id": "far", "type": "block", "file": str(directory / "disk")}
        jailed.start(enable_pci=True)
        with contextlib.suppress(HostError):
            jailed.run(devices=[disk])
        found = jailed.driver()
        if lab_devices(jailed):
            assert os.path.getsize(f"/proc/{found.pid()}/root/disk_far") == 8192
        else:
            assert not os.path.exists(found.vmm.state.jail.path("disk_far"))
            assert jailed.run(devices=[disk], disruption="restart", stop_timeout=0, state="restarted")["sandbox"][
                "devices"
            ][0]["plugged"]
            assert os.path.getsize(f"/proc/{jailed.driver().pid()}/root/disk_far") == 8192
        jailed.run(state="stopped", stop_timeout=0)
    finally:
        shutil.rmtree(directory)


def lab_devices(lab: FirecrackerLab) -> list[str]:
    return [device["id"] for device in lab.facts()["devices"] if device["plugged"]]


def test_without_pci_a_plug_is_refused_with_what_to_do(plain: FirecrackerLab) -> None:
    plain.start()
    disk = {"id": "hot", "type": "block", "file": plain.file("hot")}
    for run in (plain.check, plain.run):
        with pytest.raises(DisruptionError, match="cannot plug or unplug a block device while it runs"):
            run(devices=[disk])
    assert plain.run(devices=[disk], disruption="restart", stop_timeout=0)["sandbox"]["devices"][0]["plugged"]


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ({"type": "fs", "tag": "t", "path": "/tmp"}, "no device for Volume"),
        ({"type": "serial"}, "no device for SerialPort"),
        ({"type": "vfio", "address": "0000:00:01.0"}, "no device for VfioDevice"),
        ({"type": "vhost_user", "path": "/s", "model": "virtio-net-pci"}, "no device for virtio-net-pci"),
        ({"type": "net", "kind": "user"}, "taps, not user"),
        ({"type": "net", "kind": "tap", "queues": 2}, "no queues"),
        ({"type": "block", "file": "DISK", "format": "qcow2"}, "format qcow2"),
        ({"type": "block", "file": "DISK", "serial": "1"}, "no serial numbers"),
        ({"type": "block", "file": "DISK", "discard": True}, "no discard"),
        ({"type": "block", "file": "DISK", "cache": "none"}, "cache none"),
        ({"type": "block", "file": "DISK", "driver": "virtio-scsi"}, "virtio-blk"),
    ],
)
def test_devices_it_does_not_have_are_refused_before_anything_starts(
    plain: FirecrackerLab, device: dict[str, Any], words: str
) -> None:
    device = {name: plain.file("disk") if value == "DISK" else value for name, value in device.items()}
    with pytest.raises(Unsupported, match=words):
        plain.start(devices=[{"id": "x", **device}])
    nothing_ran(plain)


@needs_tun
@needs_root
def test_taps_are_made_and_removed(lab: FirecrackerLab) -> None:
    net = {"id": "eth0", "type": "net", "kind": "tap", "rx_rate_limit": {"bandwidth": 1000000}}
    lab.start(devices=[net])
    (tap,) = lab.driver().vmm.state.taps
    assert network.exists(tap)
    changed = lab.run(devices=[{**net, "rx_rate_limit": {"ops": 10}}])
    assert changed["actions"] == ["change net eth0"]
    lab.run(state="stopped", stop_timeout=0)
    assert not network.exists(tap)
    lab.run(state="started")
    os.kill(lab.driver().pid(), signal.SIGKILL)
    lab.run(state="absent")
    assert not network.exists(tap)


def test_vsocks(lab: FirecrackerLab) -> None:
    lab.start(devices=[{"id": "vs", "type": "vsock", "cid": 7}])
    assert lab.facts()["devices"][0]["plugged"]
    lab.run(state="saved")
    assert lab.run(state="started")["sandbox"]["devices"][0]["plugged"]
    with pytest.raises(ConfigError, match="one vsock"):
        lab.start("other", devices=[{"id": name, "type": "vsock", "cid": 7} for name in ("a", "b")])


# --- memory ------------------------------------------------------------------------------------------------------------


@needs_guest
def test_memory_up_and_down(lab: FirecrackerLab) -> None:
    lab.start(max_memory_mb=512)
    assert lab.run(memory_mb=256)["sandbox"]["memory_mb"] == 256
    assert not lab.run(memory_mb=256)["changed"]
    assert lab.run(memory_mb=128)["sandbox"]["memory_mb"] == 128
    with pytest.raises(DisruptionError, match="booted with 128"):
        lab.run(memory_mb=64)


@double_only
def test_memory_that_the_guest_does_not_take_is_told(
    plain: FirecrackerLab, misbehave: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker import memory

    monkeypatch.setattr(memory, "PATIENCE_SECONDS", 0.5)
    misbehave("takes_half")
    plain.start(max_memory_mb=512)
    with pytest.raises(VmmError, match="memory is 256 MiB"):
        plain.run(memory_mb=384)
    assert plain.facts()["memory_mb"] == 256


@double_only
def test_a_guest_without_virtio_mem_is_told(plain: FirecrackerLab, misbehave: Callable[..., None]) -> None:
    misbehave("no_memory_driver")
    plain.start(max_memory_mb=512)
    with pytest.raises(ApiError, match="Device is not active") as caught:
        plain.run(memory_mb=256)
    assert "virtio-mem" in caught.value.fix


def test_vcpus_are_never_changed_while_it_runs(plain: FirecrackerLab) -> None:
    plain.start()
    with pytest.raises(DisruptionError, match="firecracker cannot change it while the VM runs"):
        plain.run(vcpus=2)
    with pytest.raises(Unsupported, match="fixes the number of vCPUs"):
        plain.driver().resize_vcpus(2)
    assert plain.run(vcpus=2, disruption="restart", stop_timeout=0)["sandbox"]["vcpus"] == 2


# --- snapshots ---------------------------------------------------------------------------------------------------------


def test_only_a_paused_vm_is_saved_and_its_files_appear_whole(lab: FirecrackerLab) -> None:
    lab.start()
    found = lab.driver()
    with pytest.raises(ApiError) as caught:
        found.vmm.api().put("/snapshot/create", {"snapshot_path": "/x", "mem_file_path": "/y"})
    assert "running" in caught.value.answer
    saved = lab.root / "saved"
    found.save_sandbox(str(saved), 60)
    assert sorted(path.name for path in saved.iterdir()) == ["memory", "vm.json", "vmstate"]
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in saved.iterdir()} == {0} or not found.vmm.state.jail


@double_only
def test_a_save_that_fails_leaves_nothing_and_the_guest_goes_on(
    lab: FirecrackerLab, misbehave: Callable[..., None]
) -> None:
    misbehave("snapshot_fails")
    lab.start()
    with pytest.raises(ApiError, match="No space left"):
        lab.run(state="saved")
    assert lab.facts()["state"] == "started"
    assert not list((lab.root / "state/sandboxes/web").glob("saved/*"))


def test_a_failed_load_is_the_end_of_firecracker_and_leaves_nothing(lab: FirecrackerLab) -> None:
    lab.start()
    lab.run(state="saved")
    (lab.root / "state/sandboxes/web/saved/vmstate").write_text("rubbish")
    with pytest.raises(VmmError) as caught:
        lab.run(state="started")
    assert "napshot" in str(caught.value) and lab.processes() == [] and lab.jails() == []
    assert lab.run(state="stopped", disruption="restart")["sandbox"]["state"] == "stopped"


@double_only
def test_another_version_does_not_get_the_saved_state(plain: FirecrackerLab, version: Callable[[str], None]) -> None:
    plain.start()
    plain.run(state="saved")
    version("1.15.2")
    with pytest.raises(StateError, match=r"saved by Firecracker 1\.16\.1, and this is 1\.15\.2"):
        plain.run(state="started")
    assert plain.facts()["state"] == "saved"


# --- jails -------------------------------------------------------------------------------------------------------------


def test_a_jail_has_what_it_needs_and_goes_away(jailed: FirecrackerLab) -> None:
    secret = jailed.file("disk", mode=0o600)
    os.chown(secret, 12345, 12345)
    jailed.start(
        "my.sandbox_1",
        devices=[{"id": "d", "type": "block", "file": secret}],
        jailer_uid=12345,
        jailer_limits=["no-file=256"],
    )
    found = jailed.driver("my.sandbox_1")
    jail = found.vmm.state.jail
    assert jail is not None and (jail.uid, jail.gid) == (12345, 12345)
    status = pathlib.Path(f"/proc/{found.pid()}/status").read_text()
    assert "Uid:\t12345\t12345\t12345\t12345" in status
    assert "256" in next(
        line for line in pathlib.Path(f"/proc/{found.pid()}/limits").read_text().splitlines() if "open files" in line
    )
    assert os.path.samestat(os.stat(f"/proc/{found.pid()}/root"), os.stat(jail.root))
    assert os.path.samefile(jail.path("disk_d"), secret)
    assert (
        os.stat(jail.path("vmlinux")).st_uid in (0, 12345) and not os.access(jail.path("vmlinux"), os.W_OK)
    ) or IS_ROOT
    jailed.run("my.sandbox_1", state="stopped", stop_timeout=0)
    assert not os.path.exists(jail.directory) and os.stat(secret).st_uid == 12345
    assert jailed.run_path("vmm.log", "my.sandbox_1").exists()


def test_each_sandbox_has_a_user_of_its_own(jailed: FirecrackerLab) -> None:
    users = set()
    for name in ("one", "two"):
        jailed.start(name)
        jail = jailed.driver(name).vmm.state.jail
        assert jail is not None
        users.add(jail.uid)
        assert os.stat(jail.root).st_uid == jail.uid >= 0x70000000
    assert len(users) == 2


def test_a_disk_the_jails_user_may_not_write_to_is_refused(jailed: FirecrackerLab) -> None:
    with pytest.raises(ConfigError, match="may not write to this disk") as caught:
        jailed.start(devices=[{"id": "d", "type": "block", "file": jailed.file("disk", mode=0o600)}])
    assert "chown" in caught.value.fix and os.stat(jailed.file("disk", mode=0o600)).st_uid == 0
    nothing_ran(jailed)


@pytest.mark.parametrize("how", ["link", "foreign", "writable"])
def test_places_that_others_could_tamper_with_are_refused(jailed: FirecrackerLab, how: str) -> None:
    """CVE-2026-1386."""
    base = jailed.root / "jails"
    if how == "link":
        (jailed.root / "real").mkdir()
        base.symlink_to(jailed.root / "real")
    else:
        base.mkdir()
        os.chown(base, 1000 if how == "foreign" else 0, 0)
        base.chmod(0o777 if how == "writable" else 0o755)
    with pytest.raises(HostError, match="jails are not safe below"):
        jailed.start(chroot_base_dir=str(base / "deep"))
    nothing_ran(jailed)


def test_a_jail_is_never_entered_twice(jailed: FirecrackerLab) -> None:
    """Why the driver removes it: what the jailer says about a running one, and about one whose VM was killed."""
    jailed.start()
    found = jailed.driver()
    jail, pid = found.vmm.state.jail, found.pid()
    assert jail is not None
    words = [
        JAILER,
        "--id",
        jail.id,
        "--exec-file",
        FIRECRACKER,
        "--uid",
        "1",
        "--gid",
        "1",
        "--chroot-base-dir",
        jail.base,
    ]
    busy = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert busy.returncode == 1 and "Text file busy" in busy.stderr
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: processes.identify(pid) is None, "the end of the VMM")
    stale = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert stale.returncode == 1 and "File exists (os error 17)" in stale.stderr
    assert jailed.run()["sandbox"]["state"] == "started"


def test_ids_that_the_jailer_would_not_take(jailed: FirecrackerLab) -> None:
    done = subprocess.run(
        [JAILER, "--id", "a_b", "--exec-file", FIRECRACKER, "--uid", "1", "--gid", "1"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1 and "Invalid char (_) at position 1" in done.stderr
    for name in ("a_b", "a.b", "a-b", "a--b", "x" * 64):
        assert jailed.start(name)["sandbox"]["state"] == "started"


@double_only
def test_a_jailer_that_ends_with_zero_and_leaves_nothing(
    jailed: FirecrackerLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAILER_DOUBLE_FAULTS", "vanishes")
    with pytest.raises(LaunchError, match="linked statically") as caught:
        jailed.start()
    assert caught.value.exit_code == 0
    monkeypatch.delenv("JAILER_DOUBLE_FAULTS")
    nothing_ran(jailed)


def test_a_jails_cgroup_is_made_and_removed(jailed: FirecrackerLab) -> None:
    from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker import jailer

    setting = "cpu.shares=512" if jailer.cgroup_version() == 1 else "cpu.weight=50"
    probe = pathlib.Path("/sys/fs/cgroup") / ("cpu" if jailer.cgroup_version() == 1 else "") / "kata-probe"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError as problem:
        pytest.skip(f"cgroups cannot be made here: {problem}")
    jailed.start(jailer_cgroups=[setting])
    jail = jailed.driver().vmm.state.jail
    assert jail is not None
    (group,) = jailer.cgroups(jail)
    name, _equals, value = setting.partition("=")
    assert (pathlib.Path(group) / name).read_text().strip() == value
    jailed.run(state="absent", stop_timeout=0)
    assert not os.path.exists(group)


# --- the API's description -----------------------------------------------------------------------------------------------


@double_only
@pytest.mark.skipif(
    not os.environ.get("KATA_TEST_FIRECRACKER_API"), reason="KATA_TEST_FIRECRACKER_API names no API description"
)
def test_every_request_is_in_the_description(plain: FirecrackerLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRECRACKER_DOUBLE_REQUESTS", str(plain.root / "requests"))
    from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker import preparation

    monkeypatch.setattr(preparation, "check_huge_pages", lambda *_arguments: None)
    template = "T2" if "GenuineIntel" in pathlib.Path("/proc/cpuinfo").read_text() else "T2A"
    limit = {"bandwidth": 1, "bandwidth_burst": 1, "ops": 1, "ops_burst": 1}
    disk = {
        "id": "d",
        "type": "block",
        "file": plain.file("d"),
        "rate_limit": limit,
        "io_engine": "async",
        "cache": "unsafe",
    }
    plain.start(
        devices=[disk],
        max_memory_mb=512,
        smt=True,
        cpu_template=template,
        track_dirty_pages=True,
        huge_pages=True,
        entropy_device=True,
        use_vsock=True,
        debug=True,
        placeholder_drives=1,
    )
    plain.run(memory_mb=256)
    plain.run(devices=[{**disk, "rate_limit": {"ops": 2}}])
    plain.run(state="saved")
    plain.run(state="started")
    plain.run(state="stopped", stop_timeout=5)
    description = yaml.safe_load(pathlib.Path(os.environ["KATA_TEST_FIRECRACKER_API"]).read_text())
    seen = [json.loads(line) for line in (plain.root / "requests").read_text().splitlines()]
    assert len({(request["method"], request["path"]) for request in seen}) > 15
    for request in seen:
        check_request(description, request["method"], request["path"], request["body"])


def check_request(description: dict[str, Any], method: str, path: str, body: Any) -> None:
    """Is a request one of the description's, with a body of its shape?"""
    parts = path.strip("/").split("/")
    for pattern, operations in description["paths"].items():
        pieces = pattern.strip("/").split("/")
        if len(pieces) == len(parts) and all(
            piece == part or piece.startswith("{") for piece, part in zip(pieces, parts)
        ):
            operation = operations.get(method.lower())
            assert operation, f"{method} {path}"
            schemas = [
                parameter["schema"] for parameter in operation.get("parameters", ()) if parameter["in"] == "body"
            ]
            assert bool(schemas) == (body is not None)
            for schema in schemas:
                check_shape(description, schema, body, path)
            return
    pytest.fail(f"the description has no {method} {path}")


def check_shape(description: dict[str, Any], schema: dict[str, Any], value: Any, where: str) -> None:
    if "$ref" in schema:
        schema = description["definitions"][schema["$ref"].rpartition("/")[2]]
    kinds = {"object": dict, "string": str, "integer": int, "boolean": bool, "array": list}
    if "type" in schema:
        assert isinstance(value, kinds[schema["type"]]), where
    assert "enum" not in schema or value in schema["enum"], where
    for name in schema.get("required", ()):
        assert name in value, f"{where} needs {name}"
    if isinstance(value, dict) and "properties" in schema:
        for name, item in value.items():
            assert name in schema["properties"], f"{where} has no {name}"
            check_shape(description, schema["properties"][name], item, f"{where}.{name}")
