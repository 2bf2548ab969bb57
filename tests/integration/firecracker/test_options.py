# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Firecracker VM is given beside disks and interfaces: balloon, persistent memory, randomness, metadata, CPU configuration, metrics."""

from __future__ import annotations

import json
import os
import pathlib
import socket
from typing import Any, Callable

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import (
    AssetError,
    ConfigError,
    DisruptionError,
    Unsupported,
    VmmError,
)
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker.api.client import ApiError
from tests.support.firecracker_lab import FirecrackerLab
from tests.support.lab import nothing_ran
from tests.support.stand_ins import double_only, needs_guest, needs_root, needs_tun

BALLOON = {"id": "memory", "type": "balloon", "size_mb": 16, "deflate_on_oom": True}
NET = {"id": "eth-0", "type": "net", "kind": "tap"}
METADATA = {
    "id": "facts",
    "type": "mmds",
    "interfaces": ["eth-0"],
    "contents": {"name": "web", "keys": {"a": "1", "b": "2"}},
}


def config_of(lab: FirecrackerLab) -> dict[str, Any]:
    """What Firecracker says the VM is made of."""
    machine = lab.driver().vmm
    return machine.config(machine.api())


def plugged(lab: FirecrackerLab) -> list[str]:
    """The devices that are there."""
    return [device["id"] for device in lab.facts()["devices"] if device["plugged"]]


# --- balloon -----------------------------------------------------------------------------------------------------------


def test_a_balloon_is_what_was_asked_for_and_survives_a_save(lab: FirecrackerLab) -> None:
    lab.start(devices=[{**BALLOON, "free_page_hinting": True, "free_page_reporting": True}])
    for _twice in range(2):
        found = config_of(lab)["balloon"]
        assert (found["amount_mib"], found["deflate_on_oom"], found["stats_polling_interval_s"]) == (16, True, 5)
        assert found["free_page_hinting"] and found["free_page_reporting"]
        assert plugged(lab) == ["memory"]
        facts = lab.facts()["balloon"]
        assert facts["target_mb"] == 16 and facts["actual_mb"] == facts["statistics"]["actual_mib"]
        lab.run(state="saved")
        lab.run(state="started")
    assert not lab.run(devices=[{**BALLOON, "free_page_hinting": True, "free_page_reporting": True}])["changed"]


@needs_guest
def test_a_balloon_up_and_down(lab: FirecrackerLab) -> None:
    lab.start(memory_mb=256, devices=[BALLOON])
    for size in (64, 0):
        changed = lab.run(devices=[{**BALLOON, "size_mb": size}])
        assert changed["actions"] == ["change balloon memory"]
        assert lab.facts()["balloon"]["actual_mb"] == size
    assert lab.run(devices=[{**BALLOON, "size_mb": 0, "stats_seconds": 2}])["actions"] == ["change balloon memory"]
    assert config_of(lab)["balloon"]["stats_polling_interval_s"] == 2


@double_only
def test_what_the_guest_does_not_give_is_told(
    plain: FirecrackerLab, misbehave: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.firecracker import memory

    monkeypatch.setattr(memory, "PATIENCE_SECONDS", 0.5)
    misbehave("takes_half")
    plain.start(devices=[BALLOON])
    with pytest.raises(VmmError, match="the balloon holds 32 MiB") as caught:
        plain.run(devices=[{**BALLOON, "size_mb": 64}])
    assert caught.value.option == "size_mb"


def test_a_guest_without_a_balloon_driver_is_told(plain: FirecrackerLab, misbehave: Callable[..., None]) -> None:
    """The smallest guest kernel has none; the stand-in can be told to have none."""
    misbehave("no_memory_driver")
    plain.start(devices=[BALLOON])
    with pytest.raises(ApiError) as caught:
        plain.run(devices=[{**BALLOON, "size_mb": 64}])
    assert caught.value.answer == "Balloon update error: Balloon: Device not activated yet."
    assert "virtio-balloon" in caught.value.fix


def test_statistics_are_not_switched_on_while_it_runs(plain: FirecrackerLab) -> None:
    plain.start(devices=[{**BALLOON, "stats_seconds": 0}])
    assert plain.facts()["balloon"]["actual_mb"] is None
    with pytest.raises(Unsupported, match="cannot be switched on or off"):
        plain.run(devices=[BALLOON])


def test_a_balloon_larger_than_the_memory_is_refused(plain: FirecrackerLab) -> None:
    with pytest.raises(ConfigError, match="cannot hold more than the 128 MiB"):
        plain.start(devices=[{**BALLOON, "size_mb": 256}])
    nothing_ran(plain)


def test_what_there_is_one_of_is_not_given_twice(plain: FirecrackerLab) -> None:
    for extra, options in (
        ([{"id": "other", "type": "balloon"}], {}),
        ([{"id": "random", "type": "entropy"}], {"entropy_device": True}),
    ):
        with pytest.raises(ConfigError, match="gives a VM one"):
            plain.start(devices=[BALLOON, *extra], **options)
    nothing_ran(plain)


# --- persistent memory, randomness -------------------------------------------------------------------------------------


def test_persistent_memory_and_its_limits(lab: FirecrackerLab) -> None:
    drive = {"id": "store.1", "type": "pmem", "file": lab.file("store", 2 << 20), "rate_limit": {"ops": 7}}
    lab.start(devices=[drive, {"id": "ro", "type": "pmem", "file": lab.file("ro", 2 << 20, 0o644), "read_only": True}])
    found = {one["id"]: one for one in config_of(lab)["pmem"]}
    assert (
        found["ro"]["read_only"]
        and not found["store_p1"]["read_only"]
        and found["store_p1"]["rate_limiter"]["ops"]["size"] == 7
    )
    assert plugged(lab) == ["store.1", "ro"]
    assert lab.run(devices=[{**drive, "rate_limit": {"ops": 9}}, lab.facts()["devices"][1] | {"plugged": None}])[
        "actions"
    ] == ["change pmem store.1"]
    lab.run(state="saved")
    assert lab.run(state="started")["sandbox"]["devices"][0]["plugged"]


def test_persistent_memory_is_plugged_by_pci(lab: FirecrackerLab) -> None:
    lab.start(enable_pci=True)
    drive = {"id": "store", "type": "pmem", "file": lab.file("store", 2 << 20)}
    assert lab.run(devices=[drive])["actions"] == ["plug pmem store"]
    assert not lab.run(devices=[drive])["changed"]
    assert lab.run(devices=[])["actions"] == ["unplug pmem store"]
    assert config_of(lab)["pmem"] == []


@needs_root
@needs_tun
def test_an_interface_is_plugged_by_pci(lab: FirecrackerLab) -> None:
    lab.start(enable_pci=True)
    assert lab.run(devices=[NET])["actions"] == ["plug net eth-0"]
    assert [one["iface_id"] for one in config_of(lab)["network-interfaces"]] == ["eth_d0"]
    assert lab.run(devices=[{**NET, "tx_rate_limit": {"bandwidth": 1000}}])["actions"] == ["change net eth-0"]
    assert lab.run(devices=[])["actions"] == ["unplug net eth-0"]
    assert lab.driver().vmm.state.taps == []


def test_randomness_with_a_limit(lab: FirecrackerLab) -> None:
    lab.start(devices=[{"id": "random", "type": "entropy", "rate_limit": {"bandwidth": 1000, "bandwidth_burst": 64}}])
    assert config_of(lab)["entropy"]["rate_limiter"]["bandwidth"] == {
        "size": 1000,
        "one_time_burst": 64,
        "refill_time": 1000,
    }
    assert plugged(lab) == ["random"]


# --- metadata ----------------------------------------------------------------------------------------------------------


@needs_root
@needs_tun
def test_what_the_metadata_service_tells(lab: FirecrackerLab) -> None:
    lab.start(devices=[METADATA, NET])
    assert config_of(lab)["mmds-config"] == {
        "version": "V2",
        "network_interfaces": ["eth_d0"],
        "ipv4_address": "169.254.169.254",
        "imds_compat": False,
    }
    machine = lab.driver().vmm
    assert machine.api().get("/mmds") == METADATA["contents"]
    contents = {"name": "web-2", "keys": {"b": "2", "c": ["x", {"y": True}]}}
    changed = lab.run(devices=[{**METADATA, "contents": contents}, NET])
    assert changed["actions"] == ["change mmds facts"] and machine.api().get("/mmds") == contents
    assert not lab.run(devices=[{**METADATA, "contents": contents}, NET])["changed"]
    # No snapshot keeps it: a restored VM is told again.
    lab.run(state="saved")
    lab.run(state="started")
    assert lab.driver().vmm.api().get("/mmds") == contents
    with pytest.raises(DisruptionError, match="needs a restart"):
        lab.run(devices=[{**METADATA, "contents": contents, "version": "V1"}, NET])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"interfaces": ["eth9"]}, "an interface that is not there"),
        ({"address": "10.0.0.1"}, "must be a link-local IPv4 address"),
        ({"contents": {"a": [None]}}, "must not have null"),
        ({"contents": {"a": "x" * 60000}}, "the metadata service keeps 51200"),
    ],
)
def test_metadata_that_cannot_be_served_is_refused(plain: FirecrackerLab, wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        plain.start(devices=[{**METADATA, **wrong}, NET])
    nothing_ran(plain)


# --- CPU, console, metrics ---------------------------------------------------------------------------------------------


def test_a_cpu_configuration_of_ones_own(lab: FirecrackerLab) -> None:
    path = lab.file("cpu.json", content=json.dumps({"kvm_capabilities": []}).encode())
    lab.start(cpu_config_path=path)
    assert lab.facts()["options"]["cpu_config_path"] == path


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "cannot be read"),
        (b"[]", "another JSON value"),
        (b" " * 60000, "at most 51200 bytes"),
        (b"[" * 5000, "cannot be read"),
    ],
)
def test_what_is_no_cpu_configuration_is_refused(plain: FirecrackerLab, content: bytes, words: str) -> None:
    with pytest.raises(AssetError, match=words):
        plain.start(cpu_config_path=plain.file("cpu.json", content=content))
    with pytest.raises(ConfigError, match="one of the two"):
        plain.start(cpu_config_path=plain.file("good.json", content=b"{}"), cpu_template="T2")
    nothing_ran(plain)


def test_firecrackers_own_words_about_a_cpu_configuration(plain: FirecrackerLab) -> None:
    with pytest.raises(ApiError, match="refused PUT /cpu-config") as caught:
        plain.start(cpu_config_path=plain.file("cpu.json", content=b'{"nosuch": 1}'))
    assert "unknown field `nosuch`" in caught.value.answer
    nothing_ran(plain)


def test_metrics_and_log_go_on_after_a_restore(lab: FirecrackerLab) -> None:
    lab.start(vmm_metrics=True, console_rate_limit=4096, vmm_log_level="info")
    for _twice in range(2):
        facts = lab.facts()
        machine = lab.driver().vmm
        machine.api().put("/actions", {"action_type": "FlushMetrics"})
        assert facts["metrics_log"].endswith("metrics.log")
        assert pathlib.Path(facts["metrics_log"]).read_text().startswith("{")
        assert pathlib.Path(facts["vmm_log"]).read_text()
        lab.run(state="saved")
        lab.run(state="started")


# --- versions ----------------------------------------------------------------------------------------------------------


@double_only
@pytest.mark.parametrize(
    ("number", "devices", "options", "since"),
    [
        ("0.23.3", [BALLOON], {}, "0.24"),
        ("1.13.2", [{**BALLOON, "free_page_reporting": True}], {}, "1.14"),
        ("1.13.2", [{"id": "p", "type": "pmem", "file": "FILE"}], {}, "1.14"),
        ("1.14.4", [{"id": "p", "type": "pmem", "file": "FILE", "rate_limit": {"ops": 1}}], {}, "1.16"),
        ("1.3.0", [{"id": "r", "type": "entropy"}], {}, "1.4"),
        ("0.25.2", [METADATA, NET], {}, "1.0"),
        ("1.12.0", [{**METADATA, "imds_compat": True}, NET], {}, "1.13"),
        ("1.3.0", [], {"cpu_config_path": "FILE"}, "1.4"),
        ("1.15.1", [], {"console_rate_limit": 1000}, "1.16"),
    ],
)
def test_what_a_version_lacks_is_refused_with_the_one_that_has_it(
    plain: FirecrackerLab,
    version: Callable[[str], None],
    number: str,
    devices: list[dict[str, Any]],
    options: dict[str, Any],
    since: str,
) -> None:
    version(number)

    def filled(values: dict[str, Any]) -> dict[str, Any]:
        return {name: plain.file("file", content=b"{}") if value == "FILE" else value for name, value in values.items()}

    with pytest.raises(Unsupported, match="has no") as caught:
        plain.start(devices=[filled(device) for device in devices], allow_vulnerable_vmm=True, **filled(options))
    assert caught.value.fix == f"Use Firecracker {since} or later."
    nothing_ran(plain)


@double_only
@pytest.mark.parametrize("number", ["0.24.2", "0.24.6", "0.25.2", "1.0.0", "1.13.2"])
def test_a_balloon_in_the_words_of_each_version(
    plain: FirecrackerLab, version: Callable[[str], None], number: str
) -> None:
    version(number)
    plain.start(devices=[BALLOON], allow_vulnerable_vmm=True)
    plain.run(devices=[{**BALLOON, "size_mb": 32}])
    assert plain.facts()["balloon"] == {
        "target_mb": 32,
        "actual_mb": 32,
        "statistics": {"target_pages": 8192, "actual_pages": 8192, "target_mib": 32, "actual_mib": 32},
    }


@pytest.mark.parametrize("kind", ["block", "pmem"])
@pytest.mark.parametrize("what", ["fifo", "character device", "socket", "directory", "missing"])
def test_a_disk_that_is_none_is_refused_before_the_vm_is_stopped(lab: FirecrackerLab, kind: str, what: str) -> None:
    pid = lab.start()["sandbox"]["pid"]
    path = str(lab.root / "odd")
    if what == "fifo":
        os.mkfifo(path)
    elif what == "character device":
        path = "/dev/zero"
    elif what == "socket":
        socket.socket(socket.AF_UNIX).bind(path)
    elif what == "directory":
        os.mkdir(path)
    for run in (lab.check, lab.run):
        with pytest.raises(AssetError):
            run(devices=[{"id": "d", "type": kind, "file": path}], disruption="restart")
    assert lab.run()["sandbox"]["pid"] == pid


def test_a_vhost_user_disk_that_nobody_serves_is_refused_before_the_vm_is_stopped(plain: FirecrackerLab) -> None:
    pid = plain.start()["sandbox"]["pid"]
    disk = {"id": "v", "type": "vhost_user", "model": "vhost-user-blk-pci", "path": plain.file("disk")}
    for run in (plain.check, plain.run):
        with pytest.raises(AssetError, match="a program must listen"):
            run(devices=[disk], disruption="restart")
    assert plain.run()["sandbox"]["pid"] == pid


def test_files_that_would_block_or_never_end_are_refused(plain: FirecrackerLab) -> None:
    os.mkfifo(plain.root / "fifo")
    for path in (str(plain.root / "fifo"), "/dev/zero"):
        with pytest.raises(AssetError, match="cannot be read"):
            plain.check(state="started", **plain.options, cpu_config_path=path)


def test_more_memory_than_firecrackers_answers_can_have_is_refused(plain: FirecrackerLab) -> None:
    for run in (plain.check, plain.run):
        with pytest.raises(ConfigError, match="at most 16777216"):
            run(state="started", **plain.options, max_memory_mb=10**8)
    nothing_ran(plain)
